/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine counts, and how status tells it: one JSON object a VM, integers in base
 * units, unknown as null. Filled by the main thread alone.
 */
#ifndef POLLUX_HA_STATS_H
#define POLLUX_HA_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"

struct capture_steps;
struct json_object;
struct role;
struct settings;
struct verify_report;

struct stats_resync {
	bool known, partial;
	uint64_t bytes, total_bytes; /* of disks: to copy, and there are */
	char reason[200];	     /* why all of it */
};

struct stats {
	struct hist pause, stop, dirty, state, copy, resume; /* ns */
	struct hist pages;				     /* dirty pages an epoch */
	struct hist lag;    /* age of the last committed epoch when the next one came: its peak */
	struct hist sync;   /* ns from whole to durable, with commit = disk */
	struct hist hold;   /* what packets waited, as netbuf reports it */
	const char *netbuf; /* "hold", "plug"; NULL: this side holds nothing */
	uint64_t held_bytes, held_limit_bytes, dropped_frames;
	uint64_t epochs_committed;
	uint64_t bytes_raw, bytes_wire; /* of links that are gone, then of the present one */
	uint64_t live_rounds;
	uint64_t
		too_large; /* checkpoints that found more than a slot holds, and were for nothing */
	uint64_t backup_epoch, backup_age_ns, backup_heard_ns; /* the backup's word (P5) */
	uint64_t copy_done_bytes, copy_total_bytes;
	bool memory_kept;    /* the standby of the last copy had memory of the VM */
	uint64_t kept_pages; /* of that copy, not sent: it had them */
	struct stats_resync resync;
	uint64_t lag_bytes, lag_epochs;
	uint64_t epoch;
	bool taken_over;
	uint64_t detect_ns, takeover_ns;
	uint64_t pause_min_ns, pause_max_ns; /* of a switchover to here; max 0: none */
	uint64_t oracle_checked, oracle_failed;
	const struct verify_report *verified; /* the side's; NULL: it does not */
};

void stats_pause(struct stats *s, const struct capture_steps *steps);

struct stats_view {
	const struct settings *settings;
	const struct role *role;
	const struct stats *stats;
	uint64_t now_ns;
	bool encrypted;
};
/* The caller owns the result. */
struct json_object *stats_json(const struct stats_view *v);

#endif
