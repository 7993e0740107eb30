/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's log of disk changes: what has arrived of each epoch and is not on the
 * standby's disk yet. It lives in memory, in one arena that is allocated and touched at
 * the start, so that its bound is a fact and not a hope.
 *
 * An epoch is open while its records arrive, sealed once it is whole, released once it is
 * applied. Only sealed epochs can be read: a partial one is never visible (P2), and a
 * takeover drops it. Records of several open epochs may arrive mixed.
 *
 * The log being memory, a power cut of the backup loses the epochs that it had
 * acknowledged and not applied. That is one failure, the primary still runs, and the
 * standby's disk is of no use until it is copied again: apply.h marks it so. A power cut
 * of both hosts at once leaves the primary's own disk, as without Pollux.
 *
 * Threads: one appends, seals and drops; one reads and releases. A lock inside covers the
 * positions; the bytes of a sealed epoch do not change.
 */
#ifndef POLLUX_DISK_LOG_H
#define POLLUX_DISK_LOG_H

#include "disk-replica/format.h"

#define DISK_LOG_MIN		 (UINT64_C(4) << 20)
#define DISK_LOG_MAX		 (UINT64_C(64) << 30)
#define DISK_LOG_PER_RING	 4u  /* its bound, by that of the mirror's ring */
#define DISK_LOG_EPOCHS		 64u /* open and sealed together */
#define DISK_LOG_RECORD_OVERHEAD 64u

struct disk_log;

int disk_log_open(uint64_t limit_bytes, struct disk_log **ret, struct reason *why);
void disk_log_close(struct disk_log *log);

/*
 * Copies the record in. Its shape is checked against nothing but the data limit: pass what
 * disk_record_check() has passed. -ENOSPC: the bound, in bytes or in epochs, is reached;
 * nothing was appended; what commits release makes room.
 * -EPROTO: the epoch was sealed already, or is older than one that was.
 */
int disk_log_append(struct disk_log *log, uint64_t epoch, const struct disk_record *r,
		    struct reason *why);
/* The epoch is whole. In rising order; one without records is sealed too. */
int disk_log_seal(struct disk_log *log, uint64_t epoch, struct reason *why);
/* Drops every epoch that is not sealed; later records of them are refused. */
void disk_log_drop_partial(struct disk_log *log);

/* The oldest sealed epoch that is not released. */
bool disk_log_oldest(struct disk_log *log, uint64_t *ret_epoch);

/* Walks a sealed epoch in the order of arrival. Start with a zeroed iterator that names the
 * epoch. -ENODATA: the end; -ENOENT: not sealed. ret->data lies in the log until release. */
struct disk_log_iter {
	uint64_t epoch;
	uint64_t next;
	bool started;
};
int disk_log_next(struct disk_log *log, struct disk_log_iter *it, struct disk_record *ret);
/* The epoch, which is disk_log_oldest(), is applied: frees its room. */
void disk_log_release(struct disk_log *log, uint64_t epoch);

/* Bytes taken, overhead included; the bound; the most that was ever taken. */
uint64_t disk_log_used(struct disk_log *log);
uint64_t disk_log_limit(const struct disk_log *log);
uint64_t disk_log_peak(struct disk_log *log);

#endif
