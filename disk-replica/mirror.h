/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's end of the disk mirror: every change that pollux-vmm makes to a disk
 * comes out here, in the order in which the disk completed it.
 *
 * pollux-vmm puts a change into a ring in shared memory *before* the guest sees its
 * completion. So whatever the guest knows to be written when its processors stop is in
 * the ring before mirror_boundary(), and an epoch that carries all records up to there
 * carries every write its memory knows of (P1, P2). A request that was still in flight
 * is part of the saved state and is issued again after a takeover.
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

#define MIRROR_RING_MIN (UINT64_C(1) << 20)
#define MIRROR_RING_MAX (UINT64_C(1) << 32)

struct mirror;

/* The disks as pollux-vmm opened them. Fills at most DISK_MAX; more are refused. */
int mirror_list_disks(struct control *control, struct disk_info ret[DISK_MAX], unsigned int *ret_nr,
		      struct reason *why);

/*
 * Turns the mirror on, with a fresh ring of `ring_bytes` (a power of two between the
 * limits). Records are checked against `disks` (copied). An earlier mirror of the same
 * VM is replaced, and what its ring still held is lost: copy everything again.
 * `control` stays the caller's and is used by open and close alone.
 */
struct mirror_config {
	struct control *control;
	const struct disk_info *disks;
	unsigned int nr_disks;
	uint64_t ring_bytes;
};
int mirror_open(const struct mirror_config *config, struct mirror **ret, struct reason *why);
/* Turns the mirror off (a VM that is gone is no error) and frees it. Takes NULL. */
void mirror_close(struct mirror *m);

/*
 * The position up to which records belong to the epoch that ends now. Called while the
 * VM is paused: one load, no system call.
 */
uint64_t mirror_boundary(const struct mirror *m);

/* Everything put so far, as a limit for mirror_next() while no epoch is being cut (the
 * initial copy). The same load as mirror_boundary(); the name says the intent. */
static inline uint64_t mirror_now(const struct mirror *m)
{
	return mirror_boundary(m);
}

/*
 * The next record that was put before `limit`. -EAGAIN: there is none (left). -EPROTO:
 * the ring or the record is not what it must be; the mirror is of no use any more, and
 * says the same again. ret->data is valid until the next call.
 * Call until -EAGAIN: that is also what tells pollux-vmm that there is room again.
 */
int mirror_next(struct mirror *m, uint64_t limit, struct disk_record *ret, struct reason *why);

/* Readable when records came since mirror_wait_clear(). Clear first, then take. */
int mirror_wait_fd(const struct mirror *m);
void mirror_wait_clear(struct mirror *m);

/* Bytes waiting, and what the ring holds: a full ring stalls the guest's disk. */
uint64_t mirror_used(const struct mirror *m);
uint64_t mirror_size(const struct mirror *m);

#endif
