/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which netbuf holds this VM's output, by its settings: `hold` in our own hypervisor, or the
 * kernel's `plug` on the VM's network devices, the only one for those of another hypervisor.
 * Beside plug, hold stays off.
 */
#ifndef POLLUX_HA_OUTPUT_H
#define POLLUX_HA_OUTPUT_H

#include "base/err.h"
#include "ha/settings.h"

struct netbuf;
struct platform;

struct output {
	struct netbuf *netbuf;
	const char *name; /* "hold", "plug" */
	uint64_t limit_bytes;
};

/* Changes nothing yet; refuses where what the settings ask for cannot be had. */
int output_open(const struct settings *s, const struct platform *p, struct output *ret,
		struct reason *why);

#endif
