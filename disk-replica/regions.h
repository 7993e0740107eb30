/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region files of a VM in its state directory, when nobody runs the VM: making them, reading
 * them, and whether they may be believed. While the VM runs whoever changes a disk keeps its file
 * (vmm/disk_track.h): pollux-vmm that of its own disks, the server of a disk that of this one. A
 * served disk's bits in the first are nobody's; without a file of the same token it counts as all
 * ones.
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

/* In the state directory; a served disk's is followed by a dot and its number. */
#define REGIONS_NAME "regions"
#define REGIONS_OWN  -1 /* pollux-vmm's, where a disk could be named */

struct regions {
	struct region_header header;
	struct region_stamp stamp;
	struct region_stamp served[DISK_MAX]; /* of those that have a file; state 0: none */
	struct region_sets sets;
	uint64_t torn; /* blocks that were, and count as all ones */
};

/*
 * Makes new ones, with a stamp that says that they are open, in place of what was there; on
 * stable storage when it returns 0, else the old ones are there, or count as all ones. `full`:
 * every region is marked, else none. Only token, peer and generation of `like` are looked at.
 */
int regions_create(const char *state_dir, const struct region_header *like,
		   const struct disk_info *disks, unsigned int nr_disks, bool full);
/* That of one served disk alone, with every region marked. */
int regions_create_served(const char *state_dir, const struct region_header *like,
			  const struct disk_info *disk, int number);
/*
 * -ENOENT: there is none; -EBADMSG: what is there is none. The disks are looked at for which are
 * served, and are NULL where only the header is wanted. regions_close() after success.
 */
int regions_read(const char *state_dir, const struct disk_info *disks, unsigned int nr_disks,
		 struct regions *ret, struct reason *why);
void regions_close(struct regions *r);
int regions_remove(const char *state_dir);
int regions_remove_served(const char *state_dir, int disk);
/* For who keeps it: read and write. -errno. */
int regions_open_fd(const char *state_dir, int disk);
/* Says that they are open, as of this boot. Before a VM is started by them. */
int regions_stamp_open(const char *state_dir);
/* regions_check_disks() by what was read. */
int regions_check(const struct regions *r, const struct disk_info *disks, unsigned int nr_disks,
		  struct reason *why);

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
