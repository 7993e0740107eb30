/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initial copy of all disks, on the primary, while the VM runs and writes.
 *
 * Why concurrent writes do no harm. One thread both calls copy_next() and drains the
 * mirror, and sends what it gets in that order; the mirror was on before the first
 * copy_next(). pollux-vmm puts a write into the ring after the disk has it. For any write
 * W and the chunk C that covers it:
 *  - C was read after W reached the disk: C has W. If W's record comes later it is
 *    written again over the same bytes, and then all newer records over it, in order.
 *  - C was read before or while W reached the disk: W's record is put after that, so it
 *    is sent after C and corrects it, torn or not.
 * So the backup holds, once it has applied everything up to a boundary after the last
 * chunk, what the disk held there; the writes in flight at that boundary may be there
 * whole, in part or not at all, as they may be on the primary's own disk, and the saved
 * state issues them again.
 * What makes it true: a chunk is read in the very call that returns it. Nothing is read
 * ahead and kept, nor is the extent of a hole remembered from call to call.
 *
 * Its descriptors are its own, read-only, through the page cache, which is coherent with
 * pollux-vmm's own descriptor whether that is buffered or direct.
 *
 * A partial copy takes only the regions of a set: what was read of the set after the mirror
 * was on, since a write that is in neither the set nor the mirror cannot be.
 *
 * Threads: one.
 */
#ifndef POLLUX_DISK_COPY_H
#define POLLUX_DISK_COPY_H

#include "disk-replica/format.h"
#include "disk-replica/region_sets.h"

struct copy;

/* Opens the disks for reading. -EINVAL: smaller than `bytes`, or neither a file nor a block
 * device. Take paths from the VM's configuration rather than from pollux-vmm. */
int copy_open(const struct disk_info *disks, unsigned int nr_disks, struct copy **ret,
	      struct reason *why);
void copy_close(struct copy *c);
/* Only these, of the same disks; takes the sets over. Before the first copy_next(). */
void copy_only(struct copy *c, struct region_sets *sets);

/*
 * The next piece: a WRITE of at most DISK_DATA_MAX, or ZEROES of at most DISK_ZEROES_MAX
 * for a hole or for blocks that are zero. Zeroes must travel too: the standby's disk may
 * hold anything. Each byte of each disk, or of the regions, comes exactly once. -ENODATA: all is
 * copied. ret->data is valid until the next call. -EIO and others: the disk's error.
 */
int copy_next(struct copy *c, struct disk_record *ret, struct reason *why);

/* What a disk holds now. -EIO and others: the disk's error, or it has been cut short. */
int copy_read(const struct copy *c, unsigned int disk, uint64_t offset, void *ret, size_t len);

uint64_t copy_done_bytes(const struct copy *c);
uint64_t copy_total_bytes(const struct copy *c);
/* Everything of earlier disks, and of that one below the offset, was given. */
void copy_position(const struct copy *c, unsigned int *ret_disk, uint64_t *ret_offset);

#endif
