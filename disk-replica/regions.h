/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region file of a VM in its state directory, when nobody runs the VM: making it, reading
 * it, and whether it may be believed. While the VM runs pollux-vmm keeps it (vmm/disk_track.h).
 *
 * What is noticed of a disk that somebody else has written (docs/disk-format.md, "Who else may
 * have written"): another size; another file, or other time of change, than when it was let
 * go in order; after a crash of the host, a change after it came up again. Of a block device
 * only the size.
 *
 * Fault points: "regions.create", "regions.rename".
 */
#ifndef POLLUX_DISK_REGIONS_H
#define POLLUX_DISK_REGIONS_H

#include "disk-replica/region_sets.h"

#define REGIONS_NAME "regions" /* in the state directory */

struct regions {
	struct region_header header;
	struct region_stamp stamp;
	struct region_sets sets;
	uint64_t torn; /* blocks that were, and count as all ones */
};

/*
 * Makes a new one, with a stamp that says that it is open, in place of what was there; on
 * stable storage when it returns 0, else the old one is there. `full`: every region is
 * marked, else none. Only token, peer and generation of `like` are looked at.
 */
int regions_create(const char *state_dir, const struct region_header *like,
		   const struct disk_info *disks, unsigned int nr_disks, bool full);
/* -ENOENT: there is none; -EBADMSG: what is there is none. regions_close() after success. */
int regions_read(const char *state_dir, struct regions *ret, struct reason *why);
void regions_close(struct regions *r);
int regions_remove(const char *state_dir);
/* For pollux-vmm: read and write. -errno. */
int regions_open_fd(const char *state_dir);
/* Says that it is open, as of this boot. Before a VM is started by it. */
int regions_stamp_open(const char *state_dir);

/* The disks as they are when they are let go. */
int regions_stamp_closed(struct region_stamp *ret, const struct disk_info *disks,
			 unsigned int nr_disks);
/* 0, or -ESTALE with the reason: these disks are not what the stamp, or the crash, left. Sizes
 * must be those of `bytes`. */
int regions_check_disks(const struct region_stamp *stamp, const struct disk_info *disks,
			unsigned int nr_disks, struct reason *why);

/* The kernel's boot id; zeroes when it cannot be read. */
void regions_boot_id(uint8_t ret[REGION_BOOT_BYTES]);

#endif
