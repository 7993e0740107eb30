/* SPDX-License-Identifier: Apache-2.0 */
/* pollux report: done by a script, which is made of other programs' words. */
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/cli.h"

#define LIBEXEC "/usr/libexec/pollux"

int cli_report(const struct cli *cli)
{
	char path[256];
	const char *file = cli->nr_args ? cli->args[0] : NULL;

	snprintf(path, sizeof(path), "%s/pollux-report", getenv("POLLUX_LIBEXEC") ?: LIBEXEC);
	execl(path, "pollux-report", file, NULL);
	return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
}
