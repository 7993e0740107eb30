/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of the VM, wherever its bytes are: a raw file or block device (blk_file.h), perhaps
 * with changes that wait (blk_defer.h), or, by a path that begins with CONTROL_NBD_PREFIX, an
 * NBD server on this host (blk_nbd.h).
 *
 * Calls may block. 0 or -errno; -ECANCELED once stopped. One thread at a time, but
 * blk_stop().
 */
#ifndef POLLUX_VMM_BLK_H
#define POLLUX_VMM_BLK_H

#include "hypervisor/vmm/blk_file.h"

struct blk_defer;
struct blk_nbd;
struct disk_change;
struct vm_config_disk;

struct blk {
	struct blk_file
		file; /* size and readonly of every disk; fd -1: it is served, or given later */
	struct blk_defer *defer; /* or NULL */
	struct blk_nbd *served;	 /* or NULL */
};

/* Opens it where it stays, and, unless for a standby, locks it. A deferred disk of a standby
 * cannot be opened yet, for the other host has it. A failure leaves nothing open. */
int blk_open(struct blk *b, const struct vm_config_disk *disk, bool standby, struct reason *why);
void blk_close(struct blk *b);
/* Makes it ours until it is closed; again is harmless. -EBUSY: somebody else's. */
int blk_lock(struct blk *b);
/* Nobody waits in a call from now on. */
void blk_stop(struct blk *b);

/* Whether another process serves it, and is the one to tell of its changes. */
bool blk_is_served(const struct vm_config_disk *disk);

int blk_read(const struct blk *b, uint64_t offset, void *ret, size_t len);
/* The change is made, not deferred. 1: the mirror is not to be told of it, since nothing has
 * changed, or the server tells. */
int blk_change(struct blk *b, const struct disk_change *change);

#endif
