/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest with four counters leaves on its disks, and says; shared by the guest
 * (tests/guest/counters.c) and whoever looks at a disk from outside (tests/lab/).
 *
 * The file `ring` on each disk has COUNTERS_SLOTS blocks. Number n, from 1, lies in block
 * n % COUNTERS_SLOTS: so not the last write alone but as many before it can be looked for.
 * The first word of a block is its number, the second the disk's, 1 or 2; all others are
 * the number again, so that half a block is seen. A slot not yet written is zeroes.
 *
 * The talk is lines over TCP, answered in their order:
 *   N    one more than the last: counted in memory and on both disks, then answered `N`
 *   ?    `values memory=N disk1=N disk2=N reply=N`: what is in memory, read back from each
 *        disk, last answered; all older numbers that must still be there were looked at
 * A line that begins with `broken` says what did not agree. It is never right again.
 */
#ifndef POLLUX_GUEST_COUNTERS_H
#define POLLUX_GUEST_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTERS_PORT	   7100
#define COUNTERS_DISKS	   2
#define COUNTERS_SLOTS	   512u
#define COUNTERS_BLOCK	   4096u
#define COUNTERS_WORDS	   (COUNTERS_BLOCK / sizeof(uint64_t))
#define COUNTERS_RING_SIZE ((size_t)COUNTERS_SLOTS * COUNTERS_BLOCK)

static inline void counters_fill(uint64_t *block, uint64_t n, uint64_t disk)
{
	for (size_t i = 0; i < COUNTERS_WORDS; i++)
		block[i] = n;
	block[1] = disk;
}

/* Whether a block is whole, and the disk's; one of zeroes is: number 0. */
static inline bool counters_whole(const uint64_t *block, uint64_t disk)
{
	for (size_t i = 2; i < COUNTERS_WORDS; i++)
		if (block[i] != block[0])
			return false;
	return block[1] == (block[0] ? disk : 0);
}

/* The number that slot `slot` holds when `n` was the last one written; 0: none yet. */
static inline uint64_t counters_expected(uint64_t n, uint64_t slot)
{
	uint64_t back = (n + COUNTERS_SLOTS - slot) % COUNTERS_SLOTS;

	return back < n ? n - back : 0;
}

#endif
