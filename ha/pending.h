/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The epochs on the backup that are not committed: page records and state, from the first
 * frame to the commit. Disk changes of the same epochs lie in disk-replica/log.h.
 *
 * An epoch is open while it arrives, whole once its end was checked, sealed once the role
 * has decided to acknowledge it. Only sealed ones are given to the commit (P2); a takeover
 * drops the others.
 *
 * Records lie in blocks that come from a pool of a bounded size; a block goes back when its
 * epoch is committed. At the bound the receiver waits for commits, so that a slow commit
 * slows the primary. An epoch that fills the bound alone goes on in a file, which the kernel
 * can write back instead of keeping it in memory; beyond the bound of the file it is refused.
 *
 * Threads: the receiver opens, adds and completes; the main thread seals and drops; the
 * commit takes and releases.
 */
#ifndef POLLUX_HA_PENDING_H
#define POLLUX_HA_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "ha/decode.h"

struct pending;

struct pending_block {
	struct pending_block *next;
	uint32_t used;
	bool in_file;
	uint8_t bytes[];
};

struct pending_epoch {
	uint64_t epoch;
	uint64_t pages;
	uint64_t disk_ops;
	struct pending_block *first, *last;
	struct state_assembly state;
	uint64_t arrived_ns; /* its end */
	uint64_t digest;
	bool hashed; /* the primary told its hash of all memory */
	uint64_t memory_hash;
};

struct pending_config {
	uint64_t memory_bytes; /* the bound of what lies in memory */
	uint64_t file_bytes;   /* and of what one epoch may add to it in the file; 0: none */
	const char *dir;       /* where the file is made, without a name; outlives this */
};
int pending_open(const struct pending_config *config, struct pending **ret);
void pending_close(struct pending *p);

/* Receiver: the epoch that arrives now, begun with `epoch` if none is open. -ENOBUFS: too many
 * are open; NULL out of memory. */
int pending_current(struct pending *p, uint64_t epoch, struct pending_epoch **ret);
/* Adds one page record. -EFBIG: this epoch alone reaches the bounds; -ENOSPC and the like: the
 * file; -ECANCELED: dropped. */
int pending_add(struct pending *p, struct pending_epoch *e, const struct page_record *r);
/* The end was checked: it is whole; the next frame belongs to the next epoch. */
void pending_complete(struct pending *p, struct pending_epoch *e);

/* Main thread. False: no such whole epoch. */
bool pending_seal(struct pending *p, uint64_t epoch);
/* Drops all that is not sealed, refuses what comes, and wakes a receiver that waits: before it
 * is joined, for what it waits for may be the main thread's to seal. */
void pending_drop_unsealed(struct pending *p);
/* Drops everything, and wakes who waits. */
void pending_drop_all(struct pending *p);

/* Commit: waits for the oldest sealed epoch. NULL: none is sealed and none will be. */
struct pending_epoch *pending_take(struct pending *p);
void pending_release(struct pending *p, struct pending_epoch *e);
/* Receiver: waits until every whole epoch is committed. -ECANCELED: dropped. */
int pending_wait_idle(struct pending *p);

/* Walks the page records of an epoch in the order of arrival. */
struct pending_iter {
	const struct pending_block *block;
	uint32_t at;
};
struct pending_iter pending_records(const struct pending_epoch *e);
bool pending_next(struct pending_iter *it, struct page_record *ret);

uint64_t pending_bytes(struct pending *p);

#endif
