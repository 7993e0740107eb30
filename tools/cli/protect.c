/* SPDX-License-Identifier: Apache-2.0 */
/* pollux protect, unprotect, reprotect, failover, switchover, status, events, wait, version. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ipc.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/common/version.h"

#define POLL_NS (200 * NS_PER_MS)

int cli_protect(const struct cli *cli)
{
	struct json_object *request = cli_request("protect", cli->args[0]);
	char done[256];

	json_add_string(request, "host", cli->args[1]);
	if (cli->options)
		json_add(request, "options", json_object_get(cli->options));
	snprintf(done, sizeof(done),
		 "protection of %s to %s begins; pollux wait %s "
		 "--for=protected waits for it",
		 cli->args[0], cli->args[1], cli->args[0]);
	return cli_order(request, done);
}

int cli_unprotect(const struct cli *cli)
{
	struct json_object *request;

	if (cli->force && !cli->reason)
		return cli_fail(CLI_USAGE, "--force needs --reason TEXT: it is logged");
	request = cli_request("unprotect", cli->args[0]);
	json_add_bool(request, "force", cli->force);
	json_add_string(request, "reason", cli->reason ?: "");
	return cli_order(request, "protection has ended");
}

int cli_reprotect(const struct cli *cli)
{
	char done[200];

	snprintf(done, sizeof(done), "pollux wait %s --for=protected waits until it is reached",
		 cli->args[0]);
	return cli_order(cli_request("reprotect", cli->args[0]), done);
}

int cli_failover(const struct cli *cli)
{
	return cli_order(cli_request("failover", cli->args[0]),
			 "failover asked for; pollux events --follow shows it");
}

int cli_switchover(const struct cli *cli)
{
	struct json_object *request = cli_request("switchover", cli->args[0]);

	if (cli->timeout_ns)
		json_add_u64(request, "timeout_ns", cli->timeout_ns);
	return cli_order(
		request,
		"the VM was given to the other host, which alone may run it: pollux status there");
}

int cli_status(const struct cli *cli)
{
	struct json_object *reply;
	int r = cli_ask(cli_request("status", cli->nr_args ? cli->args[0] : NULL), &reply);

	if (r)
		return r;
	if (cli->json)
		cli_print_json(reply);
	else
		cli_print_status(reply);
	json_object_put(reply);
	return CLI_DONE;
}

int cli_version(const struct cli *cli)
{
	(void)cli;
	puts("pollux " POLLUX_VERSION);
	return CLI_DONE;
}

/* --- events --------------------------------------------------------------------------------- */

/* 1: more may come; 0: that was all; else an exit code. */
static int take_event(const struct cli *cli, const char *text, int *ret_exit)
{
	cleanup_json struct json_object *o = NULL;
	struct json_object *event;
	struct reason why;

	*ret_exit = CLI_DONE;
	if (json_parse(text, "polluxd's answer", &o, &why) < 0) {
		*ret_exit = cli_fail(CLI_FAILED, "%s", why.text);
		return 0;
	}
	if (json_get_object(o, "event", &event, NULL) < 0) {
		if (!json_flag(o, "ok"))
			*ret_exit = cli_refusal(o);
		return 0;
	}
	if (cli->json)
		puts(json_line(event));
	else
		cli_print_event(event);
	fflush(stdout);
	return 1;
}

int cli_events(const struct cli *cli)
{
	cleanup_json struct json_object *request = cli_request("events", NULL);
	const char *text;
	struct ipc *c;
	int exit, r = cli_connect(&c);

	if (r)
		return r;
	json_add_bool(request, "follow", cli->follow);
	r = ipc_send(c, json_line(request));
	do {
		if (!r)
			r = ipc_wait(c, 0, &text);
		if (r < 0) {
			exit = cli_fail(CLI_FAILED, "polluxd has ended the connection: %s",
					strerror(-r));
			break;
		}
	} while (take_event(cli, text, &exit));
	ipc_close(c);
	return exit;
}

/* --- wait ------------------------------------------------------------------------------------ */

static const char *const states[] = { "protected", "unprotected", "running",
				      "paused",	   "stopped",	  "standby" };

static bool is_state(const char *word)
{
	bool is = false;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		is |= !strcmp(word, states[i]);
	return is;
}

/* Whether the VM is protected, or not; or what its life is. */
static bool is_so(struct json_object *vm, const char *state)
{
	if (!strcmp(state, "protected"))
		return json_flag(vm, "protected");
	if (!strcmp(state, "unprotected"))
		return !json_flag(vm, "protected");
	return !strcmp(json_text(vm, "vm_state", ""), state);
}

static int ask_word(const struct cli *cli, bool *ret_is, char *ret_word, size_t room,
		    struct cli_progress *progress)
{
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms, *vm, *copy;
	int r = cli_ask(cli_request("status", cli->args[0]), &reply);

	if (r)
		return r;
	if (json_get_array(reply, "vms", &vms, NULL) < 0 || !json_object_array_length(vms))
		return cli_fail(CLI_FAILED, "polluxd's answer holds no VM");
	vm = json_object_array_get_idx(vms, 0);
	*ret_is = is_so(vm, cli->until);
	snprintf(ret_word, room, "%s", json_text(vm, "word", "?"));
	copy = json_member(vm, "copy");
	if (!strcmp(json_text(vm, "state", ""), "copying"))
		cli_progress(progress, "copied", json_number(copy, "done_bytes", 0),
			     json_number(copy, "total_bytes", 0));
	return CLI_DONE;
}

int cli_wait(const struct cli *cli)
{
	uint64_t deadline = cli->timeout_ns ? clock_now_ns() + cli->timeout_ns : 0;
	struct cli_progress progress = { 0 };
	bool is = false;
	char word[256], limit[32];
	int r;

	if (!cli->until || !is_state(cli->until))
		return cli_fail(CLI_USAGE,
				"wait needs --for=STATE: protected, unprotected, running, paused, "
				"stopped or standby");
	for (;;) {
		r = ask_word(cli, &is, word, sizeof(word), &progress);
		if (r || is || (deadline && clock_now_ns() >= deadline))
			cli_progress_end(&progress);
		if (r)
			return r;
		if (is) {
			printf("%s: %s\n", cli->args[0], word);
			return CLI_DONE;
		}
		if (deadline && clock_now_ns() >= deadline)
			return cli_fail(CLI_TIMEOUT,
					"%s is still \"%s\" after %s; pollux events "
					"shows what happened",
					cli->args[0], word,
					text_duration(cli->timeout_ns, limit, sizeof(limit)));
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
	}
}
