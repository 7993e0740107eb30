/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's bytes on the host: a raw file or a block device, and the few things that are
 * done to it. Calls may block; no call allocates. 0 or -errno; a short read is -EIO.
 */
#ifndef POLLUX_VMM_BLK_FILE_H
#define POLLUX_VMM_BLK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct blk_file {
	int fd;
	uint64_t bytes;
	bool readonly;
};

/* Refuses what is neither file nor block device, and a size that is 0 or not a multiple of 512. */
int blk_file_open(struct blk_file *ret, const char *path, bool readonly, struct reason *why);
/* The size alone, of a block device that cannot be opened yet: fd is -1. */
int blk_file_foresee(struct blk_file *ret, const char *path, bool readonly, struct reason *why);
/* The descriptor of such a one; taken, also on failure. -EINVAL: it has another size. */
int blk_file_give(struct blk_file *f, int fd, struct reason *why);
void blk_file_close(struct blk_file *f);
/* Makes it ours until it is closed: writers exclude everybody, readers exclude writers, by an
 * open file description lock (fcntl(2)). Again is harmless. -EBUSY: somebody else's. */
int blk_file_lock(struct blk_file *f);
void blk_file_unlock(struct blk_file *f);

int blk_file_read(const struct blk_file *f, uint64_t offset, void *ret, size_t len);
int blk_file_write(const struct blk_file *f, uint64_t offset, const void *src, size_t len);
int blk_file_flush(const struct blk_file *f);
/* Both leave zeros; discard gives the space back, or is -EOPNOTSUPP with nothing changed. */
int blk_file_discard(const struct blk_file *f, uint64_t offset, uint64_t len);
int blk_file_zero(const struct blk_file *f, uint64_t offset, uint64_t len);
/* Zeros that keep the space, without writing them; else -EOPNOTSUPP with nothing changed. */
int blk_file_zero_range(const struct blk_file *f, uint64_t offset, uint64_t len);

#endif
