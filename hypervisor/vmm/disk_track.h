/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changed-block tracking that survives a power cut: which regions of the disks may differ
 * from a copy that somebody keeps, in memory and in a region file (region_file.h). Who keeps
 * the copy, and where, is not known here; whoever serves disks may use it.
 *
 * Two sets a disk. `recent`: regions written since the last rotation. `old`: those written
 * before it and not forgotten yet. The file always holds at least both. A write into a region
 * that is in neither waits until the file has it durably (one fdatasync for all that wait);
 * one into a marked region costs no system call, and no lock if it is in `recent`.
 *
 * Rotation and forgetting go in step with the copy: rotate; then, once the copy holds all
 * writes that had completed by then, and durably, forget. Forgetting first syncs our own
 * disks, since the region must be alike on both sides after a power cut of either. Requests
 * under way at a rotation are put into `recent` when they end, and forgetting waits for them.
 *
 * When the file cannot be written the tracking breaks: the file is spoilt, so that nobody
 * believes it again, and writes go on untracked. If not even that can be done writes fail.
 *
 * Source: the activity log and bitmap of DRBD (Reisner, Ellenberg, 2005); the write-intent
 * bitmap of Linux md.
 * Fault points: "track.write", "track.sync" (the file), "track.spoil", "track.forget"; "track.disk"
 * (a sync of the disks).
 */
#ifndef POLLUX_VMM_DISK_TRACK_H
#define POLLUX_VMM_DISK_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hypervisor/control/region_file.h"

struct disk_track;

int disk_track_open(struct disk_track **ret);
/* If it is on, and not broken, the file is stamped: the disks were let go like this. Nothing
 * is under way any more. Takes NULL. */
void disk_track_close(struct disk_track *t);

/* The next disk, in order, before anything else is done. `fd`, which may be -1 (it is not
 * tracked, only counted), is taken: a descriptor opened for this alone, to sync and to look at
 * (what a failed write-back tells a descriptor once, it must not tell the wrong one). -E2BIG:
 * more than REGION_DISKS_MAX. */
int disk_track_add(struct disk_track *t, int fd, uint64_t bytes);

/*
 * From here on by this region file, which is taken, also on failure: `old` is what it holds,
 * `recent` is empty. -EBADMSG: no region file; -EINVAL: of other disks. While writes are
 * under way only a file that is all ones may be given. A file before it is closed as it is.
 * -EAGAIN: as disk_track_rotate() says.
 */
int disk_track_on(struct disk_track *t, int fd, struct reason *why);
/* Tracks no more. The file must not be believed from here on: who calls removes it first. */
void disk_track_off(struct disk_track *t);

/* What the disks hold is not what their marks say: the file is spoilt, until another is given. */
void disk_track_distrust(struct disk_track *t);

/* A write, discard or whatever changes these bytes, from before its first byte goes to the
 * disk until the disk has all and everybody was told who must be told of it. */
struct disk_track_write {
	unsigned int disk;
	uint64_t offset, length;
	unsigned int phase;
	bool tracked;
};
/* Fills `w`. 0: the regions are marked, durably. -EIO: they cannot be, nor can the file be
 * spoilt: the write must not be made, and disk_track_end() not be called. Any thread. */
int disk_track_begin(struct disk_track *t, struct disk_track_write *w, unsigned int disk,
		     uint64_t offset, uint64_t length);
void disk_track_end(struct disk_track *t, struct disk_track_write *w);

/* -ENODATA: tracking is off; -EIO: it broke. For all that follow. Any thread. */

/* old := old | recent; recent := what is under way. -EAGAIN: a write is still under way that
 * was so at the rotation before. */
int disk_track_rotate(struct disk_track *t);
/* old := empty, for the disks before `disk` and for that disk below `offset` (nr of disks, 0:
 * for all). May take as long as a sync of the disks; if that fails the file is spoilt, and none is
 * taken again. -EAGAIN: a write is under way that was so at the last rotation. */
int disk_track_forget(struct disk_track *t, unsigned int disk, uint64_t offset);
/* old | recent of a disk into `ret`, of bitmap_words(region_count()) words. -EINVAL: no such
 * disk. */
int disk_track_read(struct disk_track *t, unsigned int disk, uint64_t *ret);
/* old := old | these, durable when it returns 0. */
int disk_track_mark(struct disk_track *t, unsigned int disk, const uint64_t *bits);
/* The file's header. */
int disk_track_header(struct disk_track *t, struct region_header *ret);

#endif
