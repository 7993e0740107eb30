/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux completion bash: a few lines of bash that ask pollux itself, as `pollux completion words
 * WORD...`, what may come next; so they never know other commands than it does.
 */
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/commands.h"
#include "tools/common/json.h"

static const char script[] =
	"# bash completion for pollux\n"
	"_pollux()\n"
	"{\n"
	"\tlocal IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}\n"
	"\tlocal next=$(pollux completion words \"${COMP_WORDS[@]:1:COMP_CWORD-1}\" 2>/dev/null)\n"
	"\tcase $next in\n"
	"\tFILE*) compopt -o filenames && COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
	"\t*) COMPREPLY=($(compgen -W \"$next\" -- \"$word\")) ;;\n"
	"\tesac\n"
	"\t[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace\n"
	"}\n"
	"complete -F _pollux pollux\n";

static const struct {
	unsigned int allow;
	const char *words;
} options[] = {
	{ ALLOW_FORCE, "--force\n--reason=" },
	{ ALLOW_JSON, "--format=json" },
	{ ALLOW_FOLLOW, "--follow" },
	{ ALLOW_FOR,
	  "--for=protected\n--for=unprotected\n--for=running\n--for=stopped\n--for=standby" },
	{ ALLOW_TIMEOUT, "--timeout=" },
	{ ALLOW_PROTECTION, "--interval=\n--mode=\n--codec=\n--netbuf=\n--timeout=\n--commit=" },
	{ ALLOW_VERIFY, "--repair\n--memory\n--disks" },
	{ ALLOW_HOST, "--name=\n--listen=\n--token=\n--address=" },
	{ ALLOW_LAG, "--warning=\n--critical=" },
};

/* The first words, or the second after `first`. */
static void print_words(const char *first)
{
	const char *before = "";
	size_t before_len = 0;

	for (unsigned int i = 0; i < cli_nr_commands; i++) {
		const char *words = cli_commands[i].words;
		size_t len = strcspn(words, " ");

		if (first) {
			if (strlen(first) == len && !strncmp(words, first, len) && words[len])
				puts(words + len + 1);
		} else if (before_len != len || strncmp(words, before, len)) {
			printf("%.*s\n", (int)len, words);
			before = words;
			before_len = len;
		}
	}
}

static void print_vms(void)
{
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms;

	if (cli_ask(cli_request("vm.list", NULL), &reply) ||
	    json_get_array(reply, "vms", &vms, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(vms); i++)
		puts(json_text(json_object_array_get_idx(vms, i), "name", ""));
}

static int print_next(int nr, char *const *words)
{
	const struct cli_command *c;
	int used = 0;

	if (!nr) {
		print_words(NULL);
		return CLI_DONE;
	}
	c = cli_find_command(nr, words, &used);
	if (!c) {
		print_words(words[0]);
		return CLI_DONE;
	}
	if (c->allow & ALLOW_FILE && nr == used) {
		puts("FILE");
		return CLI_DONE;
	}
	if (nr == used && strstr(c->usage, "VM"))
		print_vms();
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (c->allow & options[i].allow)
			puts(options[i].words);
	return CLI_DONE;
}

int cli_completion(const struct cli *cli)
{
	char *words[ARRAY_SIZE(cli->args)];
	int nr = cli->nr_args - 1;

	if (!strcmp(cli->args[0], "bash") && !nr) {
		fputs(script, stdout);
		return CLI_DONE;
	}
	if (strcmp(cli->args[0], "words"))
		return cli_fail(CLI_USAGE, "completion %s: expected bash", cli->args[0]);
	for (int i = 0; i < nr; i++)
		words[i] = (char *)(uintptr_t)cli->args[i + 1];
	return print_next(nr, words);
}
