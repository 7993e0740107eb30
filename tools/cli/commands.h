/* SPDX-License-Identifier: Apache-2.0 */
/* What pollux can be told: each command with its arguments, options and help. */
#ifndef POLLUX_CLI_COMMANDS_H
#define POLLUX_CLI_COMMANDS_H

#include "tools/cli/cli.h"

enum cli_allow {
	ALLOW_FORCE = 1,
	ALLOW_JSON = 2,
	ALLOW_FOLLOW = 4,
	ALLOW_FOR = 8,
	ALLOW_TIMEOUT = 16,
	ALLOW_PROTECTION = 32,
	ALLOW_VERIFY = 64,
	ALLOW_LAG = 128,
	ALLOW_FILE = 256, /* its argument is one */
	ALLOW_HOST = 1024,
	ALLOW_WORDS = 512, /* what looks like options is none */
};

struct cli_command {
	const char *words; /* one or two */
	int least, most;   /* arguments */
	unsigned int allow;
	cli_fn *run;
	const char *usage, *help;
};

extern const struct cli_command cli_commands[];
extern const unsigned int cli_nr_commands;

/* That of these words, and how many they were; NULL: there is none. */
const struct cli_command *cli_find_command(int nr, char *const *words, int *ret_used);

#endif
