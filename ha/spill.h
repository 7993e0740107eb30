/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of memory that lie in a file without a name, for what is too large to be kept in
 * memory and seldom comes: under pressure the kernel writes them back. Their room on the disk
 * is allocated before they are used, so that a full disk is an error and not a signal.
 *
 * The file grows by extents. spill_close() gives all of it back, which takes its time: let no
 * one wait for it who answers heartbeats. One thread at a time.
 */
#ifndef POLLUX_HA_SPILL_H
#define POLLUX_HA_SPILL_H

#include <stddef.h>
#include <stdint.h>

struct spill;

/* Nothing is made in `dir`, which outlives this, before the first block is asked for. */
int spill_open(const char *dir, size_t block_bytes, uint64_t limit_bytes, struct spill **ret);
void spill_close(struct spill *s);

/* -EFBIG: the bound; otherwise what the file system says, -ENOSPC for one. */
int spill_get(struct spill *s, void **ret);
void spill_put(struct spill *s, void *block);
/* In blocks that are in use. */
uint64_t spill_used(const struct spill *s);
/* Of the file, in use or not. */
uint64_t spill_size(const struct spill *s);

#endif
