/* SPDX-License-Identifier: Apache-2.0 */
/* pollux: the words of the command line, by the table of commands. */
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/commands.h"
#include "tools/common/conf.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

static void print_usage(FILE *to)
{
	fputs("usage: pollux COMMAND ...\n\n", to);
	for (unsigned int i = 0; i < cli_nr_commands; i++) {
		const struct cli_command *c = &cli_commands[i];
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

int cli_help(const struct cli *cli)
{
	(void)cli;
	print_usage(stdout);
	return CLI_DONE;
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

static int take_duration(const char *name, const char *value, uint64_t *ret)
{
	struct reason why;

	if (text_parse_duration(value, ret, &why) < 0)
		return cli_fail(CLI_USAGE, "%s: %s", name, why.text);
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

static bool take_host(struct cli *cli, const char *arg, const char *next, int *ret_more)
{
	const struct {
		const char *name, **into;
	} options[] = { { "--name", &cli->name },
			{ "--listen", &cli->listen },
			{ "--token", &cli->token },
			{ "--address", &cli->address } };

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const char *v = value_of(arg, options[i].name, next, ret_more);

		if (v && *v) {
			*options[i].into = v;
			return true;
		}
	}
	return false;
}

static int take_option(struct cli *cli, const struct cli_command *c, const char *arg,
		       const char *next, int *ret_more)
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
		return take_duration("--timeout", v, &cli->timeout_ns);
	if (c->allow & ALLOW_LAG && (v = value_of(arg, "--warning", next, ret_more)))
		return take_duration("--warning", v, &cli->warning_ns);
	if (c->allow & ALLOW_LAG && (v = value_of(arg, "--critical", next, ret_more)))
		return take_duration("--critical", v, &cli->critical_ns);
	if (c->allow & ALLOW_HOST && take_host(cli, arg, next, ret_more))
		return 0;
	if (c->allow & ALLOW_PROTECTION)
		return take_protection(cli, arg);
	return cli_fail(CLI_USAGE, "%s: unknown option; usage: pollux %s %s", arg, c->words,
			c->usage);
}

static int read_arguments(struct cli *cli, const struct cli_command *c, int argc, char **argv)
{
	bool options = !(c->allow & ALLOW_WORDS);

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
	const struct cli_command *c;
	int used = 0, r;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cli_help(&cli);
	if (argc > 1 && !strcmp(argv[1], "--version"))
		return cli_version(&cli);
	c = cli_find_command(argc - 1, argv + 1, &used);
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
