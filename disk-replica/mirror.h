/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's end of the disk mirror: every change that is made to a disk comes out
 * here, those of one disk in the order in which the disk completed them.
 *
 * Who changes a disk (sources.h: pollux-vmm, or an NBD server beside it) puts the change into
 * a ring in shared memory, one a source, *before* the guest sees its completion. So whatever the
 * guest knows to be written when its processors stop is in the ring before mirror_boundary(), and
 * an epoch that carries all records up to there carries every write its memory knows of (P1, P2). A
 * request that was still in flight is part of the saved state and is issued again after a takeover.
 * Changes of different disks commute, so one position a ring, taken in the same pause, is a
 * boundary.
 *
 * What the ring says is not trusted (P4): a guest may have taken pollux-vmm over. A
 * record is copied out first, then checked against the disks' sizes.
 *
 * Threads: one thread owns a mirror; mirror_boundary(), mirror_used() may be called from
 * another one.
 */
#ifndef POLLUX_DISK_MIRROR_H
#define POLLUX_DISK_MIRROR_H

#include "disk-replica/format.h"
#include "disk-replica/sources.h"

#define MIRROR_RING_MIN (UINT64_C(1) << 20)
#define MIRROR_RING_MAX (UINT64_C(1) << 32)

struct mirror;

/* The disks as the one at the other end opened them, at most DISK_MAX; more are refused. */
int mirror_list_disks(struct control *control, struct disk_info ret[DISK_MAX], unsigned int *ret_nr,
		      struct reason *why);

/*
 * Turns the mirror on at each source, with a fresh ring of `ring_bytes` (a power of two
 * between the limits). Records are checked against the sources' disks (copied). An earlier
 * mirror of the same VM is replaced, and what its rings still held is lost: copy everything
 * again. The sources stay the caller's and outlive the mirror.
 */
struct mirror_config {
	const struct sources *sources;
	uint64_t ring_bytes;
};
int mirror_open(const struct mirror_config *config, struct mirror **ret, struct reason *why);
/* Turns the mirror off (a VM that is gone is no error) and frees it. Takes NULL. */
void mirror_close(struct mirror *m);

/* Positions in the rings, by source. */
struct mirror_mark {
	uint64_t at[SOURCES_MAX];
};

/*
 * The positions up to which records belong to the epoch that ends now. Called while the
 * VM is paused: a load each, no system call.
 */
void mirror_boundary(const struct mirror *m, struct mirror_mark *ret);

/* Everything put so far, as a limit for mirror_next() while no epoch is being cut (the
 * initial copy). The same loads as mirror_boundary(); the name says the intent. */
static inline void mirror_now(const struct mirror *m, struct mirror_mark *ret)
{
	mirror_boundary(m, ret);
}

/*
 * Whether all sources are still those that the mirror was opened with. -EPIPE: one is gone,
 * and its disk may be changed unseen by who came after it. What was put before a boundary is
 * all of an epoch's changes if this says so after the boundary (P2).
 */
int mirror_check(const struct mirror *m, struct reason *why);

/*
 * The next record that was put before `limit`. -EAGAIN: there is none (left). -EPROTO:
 * the ring or the record is not what it must be; the mirror is of no use any more, and
 * says the same again. ret->data is valid until the next call.
 * Call until -EAGAIN: that is also what tells the sources that there is room again.
 */
int mirror_next(struct mirror *m, const struct mirror_mark *limit, struct disk_record *ret,
		struct reason *why);

/* Readable when records came since mirror_wait_clear(). Clear first, then take. */
int mirror_wait_fd(const struct mirror *m);
void mirror_wait_clear(struct mirror *m);

/* Bytes waiting in the fullest ring, and what one holds: a full ring stalls its disks. */
uint64_t mirror_used(const struct mirror *m);
uint64_t mirror_size(const struct mirror *m);

#endif
