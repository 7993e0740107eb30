/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of the dashboard, embedded into the program by tools/dashboard/dashboard.mk.
 */
#ifndef POLLUX_DAEMON_ASSETS_H
#define POLLUX_DAEMON_ASSETS_H

#include <stddef.h>

struct asset {
	const char *url, *type;
	const unsigned char *data;
	size_t len;
};

/* NULL: there is none. */
const struct asset *assets_find(const char *url);

#endif
