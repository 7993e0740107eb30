/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's disks on the backup: open, locked, and written by commits alone.
 *
 * Two phases. Until the first whole epoch nothing is protected, so the initial copy and
 * the writes that come between go straight to the disk in the order of the wire:
 * apply_record(); then apply_sync(), so that what the guest had flushed before it was
 * protected is on stable storage here too. From then on only apply_epoch() writes, and
 * the disk is that of the last epoch applied (P2).
 *
 * A standby's disk is not an image to boot from: it lags, and after an error or a crash it
 * is half of one epoch and half of another. apply_open() therefore puts a marker, on disk,
 * into the VM's state directory before the first write, and only apply_finish(), at a
 * takeover with every whole epoch applied, takes it away. Whoever is about to start a VM
 * from its disks looks for it: apply_marker_read().
 *  - An error in any write makes the object `broken`: it refuses everything from then on,
 *    the marker says `failed`, the backup hands over, and only a full copy from the
 *    primary makes the disk good again. If there is no primary any more, the epoch that
 *    failed can be tried again from its beginning, which overwrites what is there of it:
 *    apply_again().
 *  - A crash or a power cut of the backup leaves the marker as it was. The epochs it had
 *    acknowledged lived in the memory of log.h, and the primary has them and runs on; or they
 *    lie in its file too, and recover.h applies them.
 *
 * Which regions may differ from the primary's disks is the primary's to keep count of; here
 * lie the token that says which primary's, and what this host wrote when it ran the VM itself:
 * the region file. It is there before the marker is, and empty once the copy is whole, which
 * has all of it. After a takeover the VM's writes are counted in it.
 *
 * A FLUSH record is an fdatasync here, in its place in the order, so that after a takeover
 * and a power cut of the new host what the guest had flushed is there.
 *
 * Fault points: "disk.apply" (any change fails with EIO), "disk.space" (ENOSPC), "disk.slow"
 * (any change takes 20 ms more), "disk.flush"; "apply.open", "apply.synced",
 * "apply.following", "apply.finish"; "log.applied" (an epoch is applied and not released),
 * "log.flushed" (the disks are flushed, the log's tail is the old one); "marker.write",
 * "marker.rename", "marker.remove"; "disk.log" is in log.c.
 *
 * Threads: one at a time; apply_is_broken() and apply_settled() from any.
 */
#ifndef POLLUX_DISK_APPLY_H
#define POLLUX_DISK_APPLY_H

#include "disk-replica/format.h"
#include "disk-replica/log.h"
#include "disk-replica/marker.h"

struct apply;

struct apply_config {
	const struct disk_info *disks; /* copied */
	unsigned int nr_disks;
	const char *state_dir; /* exists; for example /var/lib/pollux/VM */
	/* Whose copy they are, and from whom (regions.h). NULL: nobody keeps count of regions. */
	const struct region_header *relation;
	uint64_t generation; /* for the marker, as the next */
	uint64_t log_key;    /* disk_log_key() */
};

/*
 * Opens and locks (exclusively, an OFD lock on the whole file; a block device is also
 * claimed) every disk. A disk may be larger than `bytes`, what lies beyond is never
 * touched. -ENOENT: absent; -EFBIG: too small, with both sizes; -EBUSY: locked or claimed;
 * -EINVAL: neither a file nor a block device.
 */
int apply_open(const struct apply_config *config, struct apply **ret, struct reason *why);
/* Closes and unlocks; the marker stays, and says how the disks look. Takes NULL. */
void apply_close(struct apply *a);

/* One record straight to its disk. -EIO, -ENOSPC and what else the disk says. */
int apply_record(struct apply *a, const struct disk_record *r, struct reason *why);
/* Everything written so far is on stable storage; the marker says `following`. */
int apply_sync(struct apply *a, struct reason *why);
/* A sealed epoch, whole, in order; then it is released from the log. Room is reclaimed first
 * when that is due, so that after an error the epoch is still there. */
int apply_epoch(struct apply *a, struct disk_log *log, uint64_t epoch, struct reason *why);
/* Flushes the disks, then makes the room of what is applied free in the log. */
int apply_reclaim(struct apply *a, struct disk_log *log, struct reason *why);

/*
 * A disk on DRBD is not written to. Its records stay in the log, with the rest of their epochs,
 * until the primary says that all up to an epoch are on stable storage in DRBD: any thread. Before
 * that, none is.
 */
bool apply_keeps(const struct apply *a);
void apply_settled(struct apply *a, struct disk_log *log, uint64_t epoch);
/* At a takeover, with every whole epoch applied: what is kept of that disk goes to `fd`, once
 * more perhaps, and to stable storage. */
int apply_kept(struct apply *a, struct disk_log *log, unsigned int disk, int fd,
	       struct reason *why);

/* What a disk holds, within its size, between two calls that change it. */
int apply_read(const struct apply *a, unsigned int disk, uint64_t offset, void *ret, size_t len);

/* Forgets an error of apply_epoch(): the same epoch is to be applied next. -EIO: it was in the
 * first copy, what failed there is lost. */
int apply_again(struct apply *a, struct reason *why);
/* A flush has failed: what was written before it, of earlier epochs too, may not be there, and
 * trying again does not bring it back. */
bool apply_has_lost(const struct apply *a);

/*
 * Takeover: the disks are now those of the VM that is about to run. Removes the marker and
 * the log's file, unlocks and closes, so that pollux-vmm can open them; `a` is gone, also on error.
 * -EIO when broken, -EBUSY before apply_sync(): the marker stays.
 */
int apply_finish(struct apply *a, struct reason *why);

bool apply_is_broken(const struct apply *a);
uint64_t apply_bytes(const struct apply *a); /* written since apply_open() */

#endif
