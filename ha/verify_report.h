/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `pollux verify` has found, so far or in the end. Memory is counted in pages, disks in
 * chunks of PROTO_CHUNK_BYTES; places are bytes, of a disk or of the guest's physical memory.
 * Pure.
 */
#ifndef POLLUX_HA_VERIFY_REPORT_H
#define POLLUX_HA_VERIFY_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define VERIFY_PLACES_MAX 32u /* that are named; more are counted */

struct json_object;

enum verify_state { VERIFY_NONE, VERIFY_RUNNING, VERIFY_DONE, VERIFY_BROKEN };

struct verify_order {
	bool memory, disks;
	bool repair;
};

struct verify_count {
	uint64_t bytes, done_bytes; /* to compare, and compared */
	uint64_t different;	    /* pages or chunks, those that were repaired too */
	uint64_t repaired;
	uint64_t unsettled; /* changed whenever they were looked at */
};

struct verify_place {
	bool memory;
	unsigned int disk;
	uint64_t offset, bytes;
	uint64_t repaired_bytes;
};

struct verify_report {
	enum verify_state state;
	uint64_t number; /* to tell it from others */
	struct verify_order order;
	struct verify_count memory, disks;
	unsigned int on_drbd; /* disks that DRBD compares, and nobody else */
	struct verify_place place[VERIFY_PLACES_MAX]; /* in the order of finding */
	unsigned int nr_places;
	bool more;		     /* than are named */
	uint64_t began_ns, ended_ns; /* clock_now_ns() */
	char reason[200];	     /* VERIFY_BROKEN */
};

/* One unit that differs; beside the last one it makes one place with it. */
void verify_report_found(struct verify_report *r, const struct verify_place *unit);
/* One that was told of as found, and is alike now. */
void verify_report_repaired(struct verify_report *r, const struct verify_place *unit);
/* Pages and chunks that differ still, or may. */
uint64_t verify_report_left(const struct verify_report *r);
/* For status; NULL: none was ever asked for. The caller owns the result. */
struct json_object *verify_report_json(const struct verify_report *r, uint64_t now_ns);
/* What it comes to, as an event's text. */
void verify_report_text(const struct verify_report *r, char *ret, unsigned int room);

#endif
