/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One disk of the standby: a raw file or a block device, held exclusively, with the few
 * ways to change it. Bounds are the caller's to have checked.
 *
 * Threads: one at a time.
 */
#ifndef POLLUX_DISK_TARGET_H
#define POLLUX_DISK_TARGET_H

#include "disk-replica/format.h"

struct target {
	int fd;
};

/* As apply_open() says. */
int target_open(const struct disk_info *info, struct target *ret, struct reason *why);
void target_close(struct target *t);

int target_write(const struct target *t, uint64_t offset, const void *data, size_t len);
/* The range reads as zeroes: punched or zeroed by the filesystem or device when it can. */
int target_zero(const struct target *t, uint64_t offset, uint64_t len);
/* From the disk and not from the page cache, where the kernel lets it. */
int target_read(const struct target *t, uint64_t offset, void *ret, size_t len);
int target_flush(const struct target *t);
/* One record, whichever it is. */
int target_change(const struct target *t, const struct disk_record *r);

#endif
