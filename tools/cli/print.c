/* SPDX-License-Identifier: Apache-2.0 */
/* What people read: aligned, one word first, "-" for what is not known. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "tools/cli/cli.h"
#include "tools/common/json.h"
#include "tools/common/text.h"

struct cell {
	char text[48];
};

static struct cell number_cell(struct json_object *o, const char *key)
{
	struct cell c = { "-" };
	uint64_t v;

	if (!json_get_u64(o, key, &v, NULL))
		snprintf(c.text, sizeof(c.text), "%" PRIu64, v);
	return c;
}

static struct cell duration_cell(struct json_object *o, const char *key)
{
	struct cell c = { "-" };
	uint64_t v;

	if (!json_get_u64(o, key, &v, NULL))
		text_duration(v, c.text, sizeof(c.text));
	return c;
}

static struct cell size_cell(struct json_object *o, const char *key)
{
	struct cell c = { "-" };
	uint64_t v;

	if (!json_get_u64(o, key, &v, NULL))
		text_size(v, c.text, sizeof(c.text));
	return c;
}

void cli_print_json(struct json_object *o)
{
	/* The frame of the local call is no part of the document. */
	json_object_object_del(o, "ok");
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int widest(struct json_object *vms, const char *key, size_t least)
{
	size_t width = least;

	for (size_t i = 0; i < json_object_array_length(vms); i++)
		width = MAX(width, strlen(json_text(json_object_array_get_idx(vms, i), key, "-")));
	return (int)width;
}

static struct json_object *vms_of(struct json_object *reply)
{
	struct json_object *vms;

	if (json_get_array(reply, "vms", &vms, NULL) < 0 || !json_object_array_length(vms)) {
		puts("no VMs; pollux vm create FILE makes one");
		return NULL;
	}
	return vms;
}

void cli_print_list(struct json_object *reply)
{
	struct json_object *vms = vms_of(reply);
	int name = vms ? widest(vms, "name", 4) : 0;

	if (!vms)
		return;
	printf("%-*s  %6s  %-8s  %8s  %5s  %s\n", name, "NAME", "DOMAIN", "STATE", "MEMORY",
	       "VCPUS", "PROTECTION");
	for (size_t i = 0; i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);

		printf("%-*s  %6s  %-8s  %8s  %5s  %s\n", name, json_text(vm, "name", "-"),
		       number_cell(vm, "domid").text, json_text(vm, "vm_state", "-"),
		       size_cell(vm, "memory_bytes").text, number_cell(vm, "vcpus").text,
		       json_text(vm, "word", "-"));
	}
}

__attribute__((format(printf, 2, 3))) static void row(const char *label, const char *fmt, ...)
{
	va_list ap;

	printf("  %-12s  ", label);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static void print_spread(struct json_object *vm, const char *label, const char *key)
{
	struct json_object *o = json_member(vm, key);

	if (o)
		row(label, "p50 %s, p99 %s, max %s", duration_cell(o, "p50").text,
		    duration_cell(o, "p99").text, duration_cell(o, "max").text);
}

static void print_copy(struct json_object *vm)
{
	struct json_object *copy = json_member(vm, "copy");
	uint64_t done = json_number(copy, "done_bytes", 0);
	uint64_t total = json_number(copy, "total_bytes", 0);

	if (total && done < total)
		row("copied", "%s of %s (%" PRIu64 " %%)", size_cell(copy, "done_bytes").text,
		    size_cell(copy, "total_bytes").text, done * 100 / total);
}

static void print_resync(struct json_object *vm)
{
	struct json_object *o = json_member(vm, "resync");
	const char *kind = json_text(o, "kind", "");

	if (!strcmp(kind, "partial"))
		row("disks copied", "in part: %s of %s", size_cell(o, "bytes").text,
		    size_cell(o, "total_bytes").text);
	else if (*kind)
		row("disks copied", "in full, %s: %s", size_cell(o, "total_bytes").text,
		    json_text(o, "reason", "?"));
}

static void print_verify(struct json_object *vm)
{
	struct json_object *o = json_member(vm, "verify");
	const char *state = json_text(o, "state", "");

	if (!strcmp(state, "running"))
		row("verified", "it is going on since %s", duration_cell(o, "took_ns").text);
	else if (!strcmp(state, "broken"))
		row("verified", "broken off %s ago: %s", duration_cell(o, "age_ns").text,
		    json_text(o, "reason", "?"));
	else if (*state)
		row("verified", "%s ago: %s", duration_cell(o, "age_ns").text,
		    json_number(o, "left", 0) ? "THE BACKUP DIFFERS" : "no difference");
}

static void print_traffic(struct json_object *vm)
{
	uint64_t raw = json_number(vm, "bytes_raw", 0), wire = json_number(vm, "bytes_wire", 0);

	if (!raw || !wire)
		return;
	row("traffic", "%s sent for %s (%.1f : 1)", size_cell(vm, "bytes_wire").text,
	    size_cell(vm, "bytes_raw").text, (double)raw / (double)wire);
}

static void print_engine(struct json_object *vm)
{
	struct json_object *takeover = json_member(vm, "takeover");
	struct json_object *moved = json_member(vm, "switchover");
	struct json_object *lag = json_member(vm, "lag_ns");
	struct json_object *pages = json_member(vm, "dirty_pages");
	struct json_object *kept = json_member(vm, "memory_kept");
	struct json_object *netbuf = json_member(vm, "netbuf");

	row("peer", "%s", json_text(vm, "peer", "-"));
	row("role", "%s, %s", json_text(vm, "role", "-"), json_text(vm, "state", "state unknown"));
	row("generation", "%s", number_cell(vm, "generation").text);
	row("epochs", "%s committed, mode %s, every %s, codec %s, %s",
	    number_cell(vm, "epochs_committed").text, json_text(vm, "mode", "-"),
	    duration_cell(vm, "interval_ns").text, json_text(vm, "codec", "-"),
	    !json_member(vm, "encryption") ? "encryption unknown"
	    : json_flag(vm, "encryption")  ? "encrypted"
					   : "NOT ENCRYPTED");
	if (lag)
		row("lag", "%s now, p50 %s, max %s; %s, %s epochs", duration_cell(lag, "now").text,
		    duration_cell(lag, "p50").text, duration_cell(lag, "max").text,
		    size_cell(vm, "lag_bytes").text, number_cell(vm, "lag_epochs").text);
	print_spread(vm, "pause", "pause_ns");
	print_spread(vm, "hold", "hold_ns");
	if (netbuf)
		row("netbuf", "%s, %s of %s held, %s frames dropped",
		    json_text(netbuf, "kind", "-"), size_cell(netbuf, "held_bytes").text,
		    size_cell(netbuf, "limit_bytes").text,
		    number_cell(netbuf, "dropped_frames").text);
	if (pages)
		row("dirty pages", "p50 %s, max %s", number_cell(pages, "p50").text,
		    number_cell(pages, "max").text);
	print_traffic(vm);
	print_copy(vm);
	if (kept)
		row("kept", "%s pages (%s) of the last copy were there before it",
		    number_cell(kept, "pages").text, size_cell(kept, "bytes").text);
	print_resync(vm);
	print_verify(vm);
	if (moved)
		row("switchover", "the VM stood still for %s to %s",
		    duration_cell(moved, "pause_min_ns").text,
		    duration_cell(moved, "pause_max_ns").text);
	else if (takeover)
		row("takeover", "detected after %s, running after %s more",
		    duration_cell(takeover, "detect_ns").text,
		    duration_cell(takeover, "takeover_ns").text);
}

void cli_print_status(struct json_object *reply)
{
	struct json_object *vms = vms_of(reply);

	for (size_t i = 0; vms && i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);

		printf("%s%s: %s\n", i ? "\n" : "", json_text(vm, "name", "-"),
		       json_text(vm, "word", "-"));
		row("vm", "%s, domain %s, %s, %s vCPU", json_text(vm, "vm_state", "-"),
		    number_cell(vm, "domid").text, size_cell(vm, "memory_bytes").text,
		    number_cell(vm, "vcpus").text);
		if (json_member(vm, "role"))
			print_engine(vm);
	}
}

void cli_print_event(struct json_object *e)
{
	printf("%s  %-12s  %-18s  %s\n", json_text(e, "time", "-"), json_text(e, "vm", "-"),
	       json_text(e, "kind", "-"), json_text(e, "text", ""));
}
