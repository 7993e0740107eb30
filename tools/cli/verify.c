/* SPDX-License-Identifier: Apache-2.0 */
/* pollux verify: asks for it, waits for its end, says what it found. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

#define POLL_NS	  (200 * NS_PER_MS)
#define APPEAR_NS (10 * NS_PER_S) /* until the status must know of it */

static int begin(const struct cli *cli, uint64_t *ret_number)
{
	struct json_object *request = cli_request("verify", cli->args[0]), *reply;
	bool both = cli->memory == cli->disks;
	int r;

	json_add_bool(request, "memory", both || cli->memory);
	json_add_bool(request, "disks", both || cli->disks);
	json_add_bool(request, "repair", cli->repair);
	r = cli_ask(request, &reply);
	if (r)
		return r;
	*ret_number = json_number(reply, "number", 0);
	json_object_put(reply);
	return CLI_DONE;
}

/* What status says of this one; `*ret` NULL: nothing, or of another. */
static int look(const struct cli *cli, uint64_t number, struct json_object **ret)
{
	cleanup_json struct json_object *reply = NULL;
	struct json_object *vms, *o;
	int r = cli_ask(cli_request("status", cli->args[0]), &reply);

	*ret = NULL;
	if (r)
		return r;
	if (json_get_array(reply, "vms", &vms, NULL) < 0 || !json_object_array_length(vms))
		return cli_fail(CLI_FAILED, "polluxd's answer holds no VM");
	o = json_member(json_object_array_get_idx(vms, 0), "verify");
	if (json_number(o, "number", 0) == number)
		*ret = json_object_get(o);
	return CLI_DONE;
}

static uint64_t sum(struct json_object *o, const char *key)
{
	return json_number(json_member(o, "memory"), key, 0) +
	       json_number(json_member(o, "disks"), key, 0);
}

/* Until it has ended, or is not known any more. */
static int await_end(const struct cli *cli, uint64_t number, struct json_object **ret)
{
	uint64_t deadline = clock_now_ns() + APPEAR_NS;
	struct cli_progress progress = { 0 };
	bool seen = false;
	int r;

	for (;;) {
		r = look(cli, number, ret);
		if (r)
			break;
		seen |= *ret != NULL;
		if (!*ret && (seen || clock_now_ns() > deadline)) {
			cli_progress_end(&progress);
			return cli_fail(CLI_FAILED,
					"broken off: pollux-ha was started anew; pollux status %s",
					cli->args[0]);
		}
		if (*ret && strcmp(json_text(*ret, "state", ""), "running"))
			break;
		cli_progress(&progress, "compared", sum(*ret, "done_bytes"), sum(*ret, "bytes"));
		json_object_put(*ret);
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
	}
	cli_progress_end(&progress);
	return r;
}

static void print_count(struct json_object *o, const char *what, const char *units)
{
	char size[32];

	if (!o)
		return;
	printf("%s: %s compared; %" PRIu64 " %s differed, %" PRIu64 " repaired", what,
	       text_size(json_number(o, "done_bytes", 0), size, sizeof(size)),
	       json_number(o, "different", 0), units, json_number(o, "repaired", 0));
	if (json_number(o, "unsettled", 0))
		printf(", %" PRIu64 " change too often to be compared",
		       json_number(o, "unsettled", 0));
	putchar('\n');
}

static void print_places(struct json_object *o)
{
	struct json_object *places;

	if (json_get_array(o, "places", &places, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(places); i++) {
		struct json_object *p = json_object_array_get_idx(places, i);
		uint64_t offset = json_number(p, "offset", 0), disk = json_number(p, "disk", 0);
		char where[32] = "memory";

		if (json_member(p, "disk"))
			snprintf(where, sizeof(where), "disk %" PRIu64, disk);
		printf("  %s, bytes 0x%" PRIx64 " to 0x%" PRIx64 ": %s\n", where, offset,
		       offset + json_number(p, "bytes", 0) - 1,
		       json_flag(p, "repaired") ? "repaired" : "different");
	}
	if (json_flag(o, "more_places"))
		puts("  and more");
}

int cli_verify(const struct cli *cli)
{
	cleanup_json struct json_object *o = NULL;
	uint64_t number;
	int r = begin(cli, &number);

	if (!r)
		r = await_end(cli, number, &o);
	if (r)
		return r;
	if (cli->json) {
		cli_print_json(o);
	} else {
		print_count(json_member(o, "memory"), "memory", "pages");
		print_count(json_member(o, "disks"), "disks", "chunks of 64 KiB");
		print_places(o);
		if (json_number(o, "on_drbd", 0))
			printf("%" PRIu64
			       " disks on DRBD are not compared: drbdadm verify does that\n",
			       json_number(o, "on_drbd", 0));
	}
	if (strcmp(json_text(o, "state", ""), "done"))
		return cli_fail(CLI_FAILED, "broken off: %s", json_text(o, "reason", "?"));
	if (!json_number(o, "left", 0)) {
		if (!cli->json)
			puts(sum(o, "different") ? "all of it is repaired" : "no difference");
		return CLI_DONE;
	}
	return cli_fail(CLI_DIFFERS, "%s: the backup differs%s", cli->args[0],
			cli->repair ? "" : "; pollux verify --repair makes it good");
}
