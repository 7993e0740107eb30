/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backup's disks are brought to after it lost power, or its engine died: the end of
 * the last whole epoch that its log holds, which is no older than the last one that it
 * acknowledged with `commit = disk` (log.h).
 *
 * From the log's tail records are read as long as each is intact, in its place, of its epoch,
 * and fits the disks; what follows the last seal among them is a torn tail, and dropped.
 * A torn tail was never acknowledged, so nothing of it was ever applied. Then the whole epochs
 * are applied in order, again where they had been applied before: every change since the tail
 * is made anew, so it does not matter what of them the disks had. At last the disks are
 * flushed and the marker says `consistent`, with epoch and generation. Interrupted anywhere,
 * it is done again from the start.
 *
 * A record that is corrupt although a later seal proves that its epoch was durable is no torn
 * tail but damage: what was applied of it cannot be told, and nothing is promised. That proof
 * comes with the next sync; a record of the newest epoch that the disk spoils later looks torn.
 *
 * Fault points: recover.begin, recover.apply (before each change), recover.flush, recover.mark.
 */
#ifndef POLLUX_DISK_RECOVER_H
#define POLLUX_DISK_RECOVER_H

#include "disk-replica/format.h"

struct log_file;

struct recover_config {
	const char *state_dir;
	uint8_t uuid[16];
	const struct disk_info *disks; /* paths; sizes are the log's */
	unsigned int nr_disks;
};

struct recovered {
	bool consistent; /* the disks are exactly those of `epoch`; else they are a standby's */
	uint64_t generation, epoch;
	uint64_t wall_ns; /* when the marker was written */
	uint64_t epochs;  /* applied now */
	uint64_t changes; /* in them */
	uint64_t dropped; /* bytes of a torn tail: at least */
};

/*
 * 0 also when there is nothing to recover: no marker, one of a copy under way or of a failure,
 * or a log in memory; then !ret->consistent. Refusals name file, value and what was expected:
 * -ENOENT the log is missing; -EXDEV it is another VM's; -ESTALE of another generation or
 * another log than the disks, or somebody else has written to these (regions.h); -EBADMSG damaged;
 * -EINVAL other disks; -EBUSY in use; and what a disk says. After one the marker is as it was.
 */
int recover_disks(const struct recover_config *config, struct recovered *ret, struct reason *why);

/* The first half: what the log holds. Nothing is written. */
struct log_scan {
	uint64_t epoch;	 /* the last that is whole; the tail's, if none is */
	uint64_t end;	 /* position behind its seal */
	uint64_t broken; /* position of what is no record in its place */
	uint64_t epochs, changes;
};
int recover_scan(const struct log_file *f, const struct disk_info *disks, struct log_scan *ret,
		 struct reason *why);

#endif
