/* SPDX-License-Identifier: Apache-2.0 */
/* pollux config check, dump: what polluxd would read, without asking it. */
#include <stdio.h>

#include "tools/cli/cli.h"
#include "tools/common/conf.h"

/* As polluxd chooses it. */
static const char *file_of(const struct cli *cli)
{
	return cli->nr_args ? cli->args[0] : getenv("POLLUX_CONF") ?: CONF_FILE;
}

static int read_conf(const struct cli *cli, struct conf *ret)
{
	struct reason why;

	return conf_read(file_of(cli), ret, &why) < 0 ? cli_fail(CLI_FAILED, "%s", why.text)
						      : CLI_DONE;
}

int cli_config_check(const struct cli *cli)
{
	struct conf conf;
	int r = read_conf(cli, &conf);

	if (!r)
		printf("%s: this is host %s, %u peers\n", file_of(cli), conf.name, conf.nr_peers);
	return r;
}

int cli_config_dump(const struct cli *cli)
{
	struct conf conf;
	int r = read_conf(cli, &conf);

	if (!r)
		conf_write(&conf, stdout);
	return r;
}
