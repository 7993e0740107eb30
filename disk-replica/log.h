/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's log of disk changes: what has arrived of each epoch and is not on the
 * standby's disk yet. A ring of records (log_record.h) in one arena that is allocated and
 * touched at the start, so that its bound is a fact and not a hope; with `commit = disk`
 * the same ring lies in a file too (log_file.h), and only what is in both counts.
 *
 * An epoch is open while its records arrive, sealed once it is whole, released once it is
 * applied. Only sealed epochs can be read: a partial one is never visible (P2), and a
 * takeover drops it. One epoch is open at a time.
 *
 * In memory alone, a power cut of the backup loses the epochs that it had acknowledged and
 * not applied: one failure, the primary still runs. With a file, an epoch is acknowledged
 * only after disk_log_sync() has made it durable, and applied only after that, so that
 * after a power cut at any instant recover.h brings the disks to a whole epoch, no older
 * than the last one acknowledged. For that the room of an epoch is used again only after
 * the disks hold it durably: released epochs keep theirs until disk_log_reclaim().
 *
 * Threads: one appends, seals and drops; one syncs; one reads, releases and reclaims. A lock
 * inside covers the positions; the bytes of a sealed epoch do not change. Any may wait for a
 * release.
 */
#ifndef POLLUX_DISK_LOG_H
#define POLLUX_DISK_LOG_H

#include "disk-replica/format.h"

#define DISK_LOG_MIN (UINT64_C(4) << 20)
#define DISK_LOG_MAX (UINT64_C(64) << 30)
/*
 * Its bound, by that of the mirror's ring, and how much of it one epoch may fill before the rest
 * waits in that ring: a ring full of flushes, the records that take most room here for what they
 * take there (64 bytes for 28), still fits.
 */
#define DISK_LOG_PER_RING   4u
#define DISK_LOG_OPEN(ring) ((ring) + (ring) / 2)
/* Sealed and not released: what a disk on DRBD has not settled yet is kept, epoch by epoch. */
#define DISK_LOG_EPOCHS		 4096u
#define DISK_LOG_RECORD_OVERHEAD 64u /* of a record, and of a seal */

struct disk_log;
struct log_file;

/* `file`: NULL for a log in memory; else `limit_bytes` is its limit, and it is the log's from
 * here on, also on error. */
int disk_log_open(uint64_t limit_bytes, struct log_file *file, struct disk_log **ret,
		  struct reason *why);
void disk_log_close(struct disk_log *log);

/*
 * Copies the record in. Its shape is checked against nothing but the data limit: pass what
 * disk_record_check() has passed. -ENOSPC: the bound is reached; nothing was appended; what
 * commits release, and disk_log_reclaim(), make room. -EPROTO: the epoch was sealed already,
 * or is not the one that is open. -EIO and the like: the file; the log is of no more use.
 */
int disk_log_append(struct disk_log *log, uint64_t epoch, const struct disk_record *r,
		    struct reason *why);
/* The epoch is whole. In rising order; one without records is sealed too. Errors as above,
 * -ENOSPC also for the bound in epochs. */
int disk_log_seal(struct disk_log *log, uint64_t epoch, struct reason *why);
/* Drops the epoch that is not sealed; later records are refused. */
void disk_log_drop_partial(struct disk_log *log);

/* Every epoch sealed by now is durable when it returns 0, in one fdatasync; in none if they
 * changed nothing. Without a file: nothing to do. */
int disk_log_sync(struct disk_log *log, struct reason *why);

/* The oldest sealed epoch that is not released. */
bool disk_log_oldest(struct disk_log *log, uint64_t *ret_epoch);

/* Walks a sealed epoch in the order of arrival. Start with a zeroed iterator that names the
 * epoch. -ENODATA: the end; -ENOENT: not sealed. ret->data lies in the log until release. */
struct disk_log_iter {
	uint64_t epoch;
	uint64_t next, end;
	bool started;
};
int disk_log_next(struct disk_log *log, struct disk_log_iter *it, struct disk_record *ret);
/* The epoch, which is disk_log_oldest(), is applied. Without a file this frees its room. */
void disk_log_release(struct disk_log *log, uint64_t epoch);
/* Waits so long for a release, if any epoch is to be released. Whether there was one. */
bool disk_log_wait_release(struct disk_log *log, uint64_t wait_ns);

/* With a file: whether it is time that the disks are flushed and the room of what is applied
 * used again. */
bool disk_log_reclaim_due(struct disk_log *log);
/* After a flush of all disks, with nothing applied since: frees the room of what is applied. */
int disk_log_reclaim(struct disk_log *log, struct reason *why);

bool disk_log_is_durable(const struct disk_log *log); /* it has a file */
uint64_t disk_log_key(const struct disk_log *log);    /* of its file; 0: none */

/* Bytes taken, overhead included; the bound; the most that was ever taken. */
uint64_t disk_log_used(struct disk_log *log);
uint64_t disk_log_limit(const struct disk_log *log);
uint64_t disk_log_peak(struct disk_log *log);

#endif
