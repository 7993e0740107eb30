/* SPDX-License-Identifier: Apache-2.0 */
/* pollux top: a line a VM, anew every half second. Where that is no terminal, once. */
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

#define EVERY_NS (500 * NS_PER_MS)
#define ROWS_MAX 256u

/* Of the round before, for rates. */
struct before {
	char name[TEXT_NAME_MAX + 1];
	uint64_t wire, epochs, at_ns;
};
struct top {
	struct before before[ROWS_MAX];
	unsigned int columns;
};

static const char *duration(struct json_object *o, const char *key, char *ret, size_t room)
{
	uint64_t v;

	return json_get_u64(o, key, &v, NULL) < 0 ? "-" : text_duration(v, ret, room);
}

static struct before *before_of(struct top *t, const char *name)
{
	for (unsigned int i = 0; i < ROWS_MAX; i++) {
		struct before *b = &t->before[i];

		if (!b->name[0])
			snprintf(b->name, sizeof(b->name), "%s", name);
		if (!strcmp(b->name, name))
			return b;
	}
	return &t->before[0];
}

static uint64_t rate(uint64_t now, uint64_t before, uint64_t ns)
{
	return ns && now > before ? (uint64_t)((double)(now - before) * 1e9 / (double)ns) : 0;
}

static void print_row(struct top *t, struct json_object *vm, uint64_t now)
{
	struct before *b = before_of(t, json_text(vm, "name", "-"));
	struct before is = *b;
	struct json_object *pause = json_member(vm, "pause_ns"), *hold = json_member(vm, "hold_ns");
	char lag[32], p50[32], p99[32], held[32], wire[32], line[512];
	uint64_t ns = b->at_ns ? now - b->at_ns : 0;

	is.wire = json_number(vm, "bytes_wire", 0);
	is.epochs = json_number(vm, "epochs_committed", 0);
	is.at_ns = now;
	snprintf(line, sizeof(line), "%-16.16s %9s %9s %9s %9s %7llu %9s/s  %s",
		 json_text(vm, "name", "-"),
		 duration(json_member(vm, "lag_ns"), "now", lag, sizeof(lag)),
		 duration(pause, "p50", p50, sizeof(p50)), duration(pause, "p99", p99, sizeof(p99)),
		 duration(hold, "p99", held, sizeof(held)),
		 (unsigned long long)rate(is.epochs, b->epochs, ns),
		 text_size(rate(is.wire, b->wire, ns), wire, sizeof(wire)),
		 json_text(vm, "word", "-"));
	printf("%.*s\n", (int)t->columns, line);
	*b = is;
}

static int print_once(struct top *t, const struct cli *cli, bool again)
{
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms;
	int r = cli_ask(cli_request("status", cli->nr_args ? cli->args[0] : NULL), &reply);

	if (r)
		return r;
	if (json_get_array(reply, "vms", &vms, NULL) < 0)
		return cli_fail(CLI_FAILED, "polluxd's answer holds no VMs");
	if (again)
		fputs("\033[H\033[J", stdout);
	printf("%s  %s\n", json_text(reply, "host", "-"), json_text(reply, "time", "-"));
	printf("%-16s %9s %9s %9s %9s %7s %11s  %s\n", "VM", "LAG", "PAUSE p50", "p99", "HOLD p99",
	       "EPOCH/s", "SENT", "PROTECTION");
	for (size_t i = 0; i < json_object_array_length(vms); i++)
		print_row(t, json_object_array_get_idx(vms, i), clock_now_ns());
	fflush(stdout);
	return CLI_DONE;
}

static volatile sig_atomic_t ended;

static void end(int signal)
{
	(void)signal;
	ended = 1;
}

int cli_top(const struct cli *cli)
{
	cleanup_free struct top *t = calloc(1, sizeof(*t));
	struct winsize size = { 0 };
	int r;

	if (!t)
		return cli_fail(CLI_FAILED, "no memory");
	t->columns = 512;
	if (!isatty(STDOUT_FILENO))
		return print_once(t, cli, false);
	signal(SIGINT, end);
	signal(SIGTERM, end);
	do {
		if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
			t->columns = size.ws_col;
		r = print_once(t, cli, true);
		if (!r && !ended)
			nanosleep(&(struct timespec){ .tv_nsec = EVERY_NS }, NULL);
	} while (!r && !ended);
	return r;
}
