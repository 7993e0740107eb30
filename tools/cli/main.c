/* SPDX-License-Identifier: Apache-2.0 */
/* pollux: the table of commands, and the options that each allows. */
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/conf.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

enum {
	ALLOW_FORCE = 1,
	ALLOW_JSON = 2,
	ALLOW_FOLLOW = 4,
	ALLOW_FOR = 8,
	ALLOW_TIMEOUT = 16,
	ALLOW_PROTECTION = 32,
	ALLOW_VERIFY = 64,
};

static cli_fn cli_help;

static const struct command {
	const char *words; /* one or two */
	int least, most;   /* arguments */
	unsigned int allow;
	cli_fn *run;
	const char *usage, *help;
} commands[] = {
	{ "vm create", 1, 1, ALLOW_FORCE, cli_vm_create, "FILE [--force --reason TEXT]",
	  "start the VM that FILE describes" },
	{ "vm list", 0, 0, ALLOW_JSON, cli_vm_list, "[--format json]", "the VMs of this host" },
	{ "vm console", 1, 1, 0, cli_vm_console, "VM", "the VM's serial port; Ctrl-] leaves it" },
	{ "vm shutdown", 1, 1, 0, cli_vm_shutdown, "VM", "press the VM's power button" },
	{ "vm destroy", 1, 1, ALLOW_FORCE, cli_vm_destroy, "VM [--force --reason TEXT]",
	  "end the VM at once; its disks stay" },
	{ "protect", 2, 2, ALLOW_PROTECTION, cli_protect, "VM HOST [--OPTION=VALUE]...",
	  "keep the VM alive on HOST if this host is lost" },
	{ "unprotect", 1, 1, ALLOW_FORCE, cli_unprotect, "VM [--force --reason TEXT]",
	  "end protection; the VM runs on" },
	{ "switchover", 1, 1, ALLOW_TIMEOUT, cli_switchover, "VM [--timeout=DURATION]",
	  "move the VM to the backup; nothing is lost" },
	{ "reprotect", 1, 1, 0, cli_reprotect, "VM", "protect a VM that moved here" },
	{ "verify", 1, 1, ALLOW_VERIFY | ALLOW_JSON, cli_verify,
	  "VM [--repair] [--memory] [--disks] [--format json]",
	  "compare the backup with the VM, bit by bit" },
	{ "status", 0, 1, ALLOW_JSON, cli_status, "[VM] [--format json]",
	  "protected or not, and why not" },
	{ "failover", 1, 1, 0, cli_failover, "VM", "let the backup run the VM from now on" },
	{ "events", 0, 0, ALLOW_JSON | ALLOW_FOLLOW, cli_events, "[--follow] [--format json]",
	  "what happened" },
	{ "wait", 1, 1, ALLOW_FOR | ALLOW_TIMEOUT, cli_wait,
	  "VM --for=protected|unprotected [--timeout=DURATION]", "until it is so" },
	{ "version", 0, 0, 0, cli_version, "", "of this program" },
	{ "help", 0, 1, 0, cli_help, "", "this" },
};

static void print_usage(FILE *to)
{
	fputs("usage: pollux COMMAND ...\n\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		int len = fprintf(to, "  %s %s", c->words, c->usage);

		fprintf(to, "%s%*s%s\n", len > 44 ? "\n" : "", len > 44 ? 46 : 46 - len, "",
			c->help);
	}
	fputs("\nprotect takes the keys of [protection] in pollux.conf(5) as options.\n"
	      "Exit codes: 0 done, 1 failed, 2 usage, 3 refused beforehand, 4 not permitted,\n"
	      "5 no daemon, 6 timeout, 7 unsafe without --force, 8 the backup differs. More: man "
	      "pollux.\n",
	      to);
}

static int cli_help(const struct cli *cli)
{
	(void)cli;
	print_usage(stdout);
	return CLI_DONE;
}

/* The words of a command, and how many arguments they took. */
static const struct command *find(int argc, char **argv, int *ret_used)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const char *words = commands[i].words, *blank = strchr(words, ' ');
		size_t first = blank ? (size_t)(blank - words) : strlen(words);

		if (argc < 2 || strlen(argv[1]) != first || strncmp(argv[1], words, first))
			continue;
		if (blank && (argc < 3 || strcmp(argv[2], blank + 1)))
			continue;
		*ret_used = blank ? 2 : 1;
		return &commands[i];
	}
	return NULL;
}

/* "--name=value" or "--name value": the value, and how many arguments it took beyond one. */
static const char *value_of(const char *arg, const char *name, const char *next, int *ret_more)
{
	size_t len = strlen(name);

	if (strncmp(arg, name, len))
		return NULL;
	if (arg[len] == '=')
		return arg + len + 1;
	if (arg[len])
		return NULL;
	*ret_more = next != NULL;
	return next ?: "";
}

static int take_format(struct cli *cli, const char *format)
{
	if (strcmp(format, "json") && strcmp(format, "text"))
		return cli_fail(CLI_USAGE, "--format %s: expected json or text", format);
	cli->json = !strcmp(format, "json");
	return 0;
}

static int take_timeout(struct cli *cli, const char *value)
{
	struct reason why;

	if (text_parse_duration(value, &cli->timeout_ns, &why) < 0)
		return cli_fail(CLI_USAGE, "--timeout: %s", why.text);
	return 0;
}

static int take_protection(struct cli *cli, const char *arg)
{
	const char *equals = strchr(arg, '=');
	cleanup_free char *key = equals ? strndup(arg + 2, (size_t)(equals - arg - 2)) : NULL;
	struct conf_protection scratch;
	struct reason why;

	if (!key)
		return cli_fail(CLI_USAGE, "%s: expected --OPTION=VALUE", arg);
	for (char *c = key; *c; c++)
		*c = *c == '-' ? '_' : *c;
	if (conf_protection_set(&scratch, key, equals + 1, &why) < 0)
		return cli_fail(CLI_USAGE, "%s", why.text);
	if (!cli->options)
		cli->options = json_object_new_object();
	json_add_string(cli->options, key, equals + 1);
	return 0;
}

static bool take_verify(struct cli *cli, const char *arg)
{
	bool *flag = !strcmp(arg, "--repair")	? &cli->repair
		     : !strcmp(arg, "--memory") ? &cli->memory
		     : !strcmp(arg, "--disks")	? &cli->disks
						: NULL;

	if (flag)
		*flag = true;
	return flag;
}

static int take_option(struct cli *cli, const struct command *c, const char *arg, const char *next,
		       int *ret_more)
{
	const char *v;

	*ret_more = 0;
	if (c->allow & ALLOW_FORCE) {
		if (!strcmp(arg, "--force")) {
			cli->force = true;
			return 0;
		}
		v = value_of(arg, "--reason", next, ret_more);
		if (v) {
			cli->reason = *v ? v : NULL;
			return *v ? 0 : cli_fail(CLI_USAGE, "--reason needs a text");
		}
	}
	if (c->allow & ALLOW_VERIFY && take_verify(cli, arg))
		return 0;
	if (c->allow & ALLOW_FOLLOW && !strcmp(arg, "--follow")) {
		cli->follow = true;
		return 0;
	}
	if (c->allow & ALLOW_JSON && (v = value_of(arg, "--format", next, ret_more)))
		return take_format(cli, v);
	if (c->allow & ALLOW_FOR && (v = value_of(arg, "--for", next, ret_more))) {
		cli->until = v;
		return 0;
	}
	if (c->allow & ALLOW_TIMEOUT && (v = value_of(arg, "--timeout", next, ret_more)))
		return take_timeout(cli, v);
	if (c->allow & ALLOW_PROTECTION)
		return take_protection(cli, arg);
	return cli_fail(CLI_USAGE, "%s: unknown option; usage: pollux %s %s", arg, c->words,
			c->usage);
}

static int read_arguments(struct cli *cli, const struct command *c, int argc, char **argv)
{
	bool options = true;

	for (int i = 0; i < argc; i++) {
		int more, r;

		if (options && !strcmp(argv[i], "--")) {
			options = false;
			continue;
		}
		if (options && argv[i][0] == '-' && argv[i][1] == '-') {
			r = take_option(cli, c, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &more);
			if (r)
				return r;
			i += more;
			continue;
		}
		if (cli->nr_args == c->most)
			return cli_fail(CLI_USAGE, "\"%s\" is too much; usage: pollux %s %s",
					argv[i], c->words, c->usage);
		cli->args[cli->nr_args++] = argv[i];
	}
	if (cli->nr_args < c->least)
		return cli_fail(CLI_USAGE, "usage: pollux %s %s", c->words, c->usage);
	return 0;
}

int main(int argc, char **argv)
{
	struct cli cli = { .nr_args = 0 };
	const struct command *c;
	int used = 0, r;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cli_help(&cli);
	if (argc > 1 && !strcmp(argv[1], "--version"))
		return cli_version(&cli);
	c = find(argc, argv, &used);
	if (!c) {
		if (argc > 1)
			cli_fail(CLI_USAGE, "unknown command \"%s%s%s\"", argv[1],
				 argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
		print_usage(stderr);
		return CLI_USAGE;
	}
	r = read_arguments(&cli, c, argc - 1 - used, argv + 1 + used);
	if (!r)
		r = c->run(&cli);
	json_object_put(cli.options);
	return r;
}
