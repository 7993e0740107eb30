/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ipc.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"

#define SOCKET_PATH "/run/pollux/polluxd.sock"
/* Longer than anything polluxd lets itself wait for. */
#define CALL_NS (120 * NS_PER_S)

int cli_fail(enum cli_exit code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("pollux: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return (int)code;
}

static const char *socket_path(void)
{
	return getenv("POLLUX_SOCKET") ?: SOCKET_PATH;
}

int cli_connect(struct ipc **ret)
{
	const char *path = socket_path();
	int r = ipc_connect(path, clock_now_ns() + 5 * NS_PER_S, ret);

	switch (r) {
	case 0:
		return CLI_DONE;
	case -EACCES:
	case -EPERM:
		return cli_fail(CLI_NOT_PERMITTED,
				"%s: %s; run this as root or as a member of the "
				"group pollux",
				path, strerror(-r));
	case -ENOENT:
		return cli_fail(CLI_NO_DAEMON,
				"no daemon: %s does not exist; start it: systemctl "
				"start polluxd",
				path);
	case -ECONNREFUSED:
		return cli_fail(CLI_NO_DAEMON,
				"no daemon: nobody answers at %s; its log says why "
				"it ended: journalctl -u polluxd",
				path);
	default:
		return cli_fail(CLI_NO_DAEMON, "no daemon: %s: %s; see journalctl -u polluxd", path,
				strerror(-r));
	}
}

static const struct {
	const char *code;
	enum cli_exit exit;
} exits[] = {
	{ "bad-request", CLI_USAGE },	 { "not-permitted", CLI_NOT_PERMITTED },
	{ "unknown-host", CLI_REFUSED }, { "unknown-vm", CLI_FAILED },
	{ "exists", CLI_REFUSED },	 { "standby", CLI_REFUSED },
	{ "stopped", CLI_REFUSED },	 { "already-protected", CLI_REFUSED },
	{ "not-protected", CLI_FAILED }, { "refused", CLI_REFUSED },
	{ "unsafe", CLI_UNSAFE },	 { "timeout", CLI_TIMEOUT },
	{ "busy", CLI_FAILED },		 { "failed", CLI_FAILED },
};

int cli_refusal(struct json_object *reply)
{
	const char *code = json_text(reply, "code", "");
	enum cli_exit exit = CLI_FAILED;

	for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
		if (!strcmp(exits[i].code, code))
			exit = exits[i].exit;
	return cli_fail(exit, "%s", json_text(reply, "error", "refused, without a reason"));
}

struct json_object *cli_request(const char *verb, const char *vm)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "verb", verb);
	if (vm)
		json_add_string(o, "vm", vm);
	return o;
}

int cli_ask(struct json_object *request, struct json_object **ret_reply)
{
	struct json_object *reply;
	struct reason why;
	const char *text;
	struct ipc *c;
	int r = cli_connect(&c);

	if (r)
		goto out_request;
	r = ipc_send(c, json_line(request));
	if (!r)
		r = ipc_wait(c, clock_now_ns() + CALL_NS, &text);
	if (r == -ETIMEDOUT)
		r = cli_fail(CLI_TIMEOUT, "polluxd has not answered for 120 s; what was asked may "
					  "still happen: look at pollux status");
	else if (r < 0)
		r = cli_fail(CLI_FAILED,
			     "polluxd ended the connection (%s); see journalctl -u "
			     "polluxd",
			     strerror(-r));
	else if (json_parse(text, "polluxd's answer", &reply, &why) < 0)
		r = cli_fail(CLI_FAILED, "%s; are pollux and polluxd of the same version?",
			     why.text);
	else if (!json_flag(reply, "ok")) {
		r = cli_refusal(reply);
		json_object_put(reply);
	} else {
		*ret_reply = reply;
	}
	ipc_close(c);
out_request:
	json_object_put(request);
	return r;
}

int cli_order(struct json_object *request, const char *done)
{
	struct json_object *reply;
	int r = cli_ask(request, &reply);

	if (r)
		return r;
	if (done)
		puts(done);
	json_object_put(reply);
	return CLI_DONE;
}
