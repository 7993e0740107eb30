/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a disk that wait in memory until somebody says that they may reach it.
 *
 * A disk that mirrors itself to the other host (DRBD) must not have what a takeover would
 * take back: so its changes wait, in order, and are settled, in order, once their epoch is
 * committed (P2). The guest sees them at once: a read takes what waits over what the disk
 * has. A flush completes at once and waits with the rest; no output that rests on it leaves the
 * host before the epoch is committed (P1).
 *
 * Positions are the caller's, rising: those of the mirror's ring (disk_mirror.h).
 *
 * Threads: one adds, stamps and reads (the disk's worker); a thread of ours writes to the disk;
 * any may call the rest.
 */
#ifndef POLLUX_VMM_BLK_DEFER_H
#define POLLUX_VMM_BLK_DEFER_H

#include "hypervisor/vmm/blk_file.h"
#include "hypervisor/vmm/disk_mirror.h"

#define BLK_DEFER_MIN_BYTES (UINT64_C(1) << 20)

struct blk_defer;

/* Off. `file` stays the caller's, and outlives it. */
int blk_defer_open(const struct blk_file *file, struct blk_defer **ret);
/* What still waits is dropped. Takes NULL. */
void blk_defer_close(struct blk_defer *d);

/* From here on changes wait, at most `limit_bytes` of data and heads; then the guest does.
 * Those before are on stable storage when it returns. Blocks. -EINVAL: a limit below the
 * minimum; or the disk's error. */
int blk_defer_start(struct blk_defer *d, uint64_t limit_bytes);
/* Everything that waits goes to the disk, and later changes pass. Blocks. The disk's error:
 * what waits goes on waiting; -ECANCELED: blk_defer_cancel(). */
int blk_defer_end(struct blk_defer *d);
/* Nobody blocks here from now on: adds are -ECANCELED, nothing more is settled. */
void blk_defer_cancel(struct blk_defer *d);

/*
 * Takes the change in, with a copy of its data, waiting for room. 0; 1: changes pass, do it
 * yourself, then blk_defer_passed(); -ENOMEM; -ECANCELED.
 */
int blk_defer_add(struct blk_defer *d, const struct disk_change *change);
void blk_defer_passed(struct blk_defer *d);
/* The change added last ends at `position`. Until then it is not settled. */
void blk_defer_stamp(struct blk_defer *d, uint64_t position);
/* What the guest would read. */
int blk_defer_read(struct blk_defer *d, uint64_t offset, void *ret, size_t len);

/* Everything up to `position` may go to the disk; does not wait for it. */
void blk_defer_settle(struct blk_defer *d, uint64_t position);

struct blk_defer_stats {
	uint64_t settled; /* of what was allowed, all up to here is on stable storage */
	uint64_t waiting_bytes;
	int error; /* 0, or the errno of the disk, which stopped the settling */
};
void blk_defer_stats(struct blk_defer *d, struct blk_defer_stats *ret);

#endif
