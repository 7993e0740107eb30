/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that are written in every epoch need no write-protection to be found out: they
 * are left writable and count as dirty. Each fault that this spares costs the guest an
 * exit, a few microseconds on a processor, and near a hundred in nested emulation; what
 * it costs is a copy of those that were not written after all, which the encoder then finds
 * equal to the copy sent before.
 *
 * A page is hot once it was in HOT_STREAK sets in a row. Every HOT_PROBE takes, by turns, a hot
 * page is protected once more, so that one that has cooled leaves.
 *
 * Two bytes a page; a take costs what is dirty, not what there is. Threads: one at a time.
 */
#ifndef POLLUX_VMM_HOT_H
#define POLLUX_VMM_HOT_H

#include <stdint.h>

#define HOT_STREAK 3u
#define HOT_PROBE  16u

struct hot_page {
	uint8_t take; /* number of the last set it was in, mod 256 */
	uint8_t streak;
};

struct hot {
	struct hot_page *page; /* by gfn */
	uint64_t nr_pages;
	uint8_t take;
};

int hot_open(struct hot *ret, uint64_t nr_pages);
void hot_close(struct hot *hot);
/* Nothing is hot; a new life of the log. */
void hot_reset(struct hot *hot);
/* The next set begins. */
void hot_next(struct hot *hot);
/* The 64 pages from `gfn` (a multiple of 64), of which `dirty` are in this set: those among
 * them to be protected again. The others stay writable and will be in the next set. */
uint64_t hot_protect(struct hot *hot, uint64_t gfn, uint64_t dirty);

#endif
