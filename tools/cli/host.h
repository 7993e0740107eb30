/* SPDX-License-Identifier: Apache-2.0 */
/* pollux host: who this host is, and how it comes to know others. */
#ifndef POLLUX_CLI_HOST_H
#define POLLUX_CLI_HOST_H

#include "tools/cli/cli.h"
#include "tools/common/conf.h"

#define HOST_LISTEN "0.0.0.0:7400"

/* Beside pollux.conf, whatever that is: the folder of keys and certificates. */
struct host_paths {
	char conf[CONF_PATH_MAX], pki[CONF_PATH_MAX + 8];
};

/* 0, or the exit code, the reason said. */
int host_paths(struct host_paths *ret);
/* What --name says, or this host's own up to the first dot. */
int host_name(const struct cli *cli, char ret[TEXT_NAME_MAX + 1]);
/* Says the reason; the exit code of -errno. */
int host_failed(int r, const struct reason *why);

int host_make_conf(const struct cli *cli, const struct host_paths *p, const char *name,
		   struct reason *why);

#endif
