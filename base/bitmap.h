/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bitmaps of pages: one bit a page, in 64-bit words, as KVM's dirty log and Xen's
 * log-dirty lay them out. Sizes are in bits. Not atomic unless the name says so.
 */
#ifndef POLLUX_BITMAP_H
#define POLLUX_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORD_BITS 64u

static inline size_t bitmap_words(uint64_t bits)
{
	return (size_t)((bits + BITMAP_WORD_BITS - 1) / BITMAP_WORD_BITS);
}

static inline size_t bitmap_bytes(uint64_t bits)
{
	return bitmap_words(bits) * sizeof(uint64_t);
}

static inline bool bitmap_test(const uint64_t *map, uint64_t bit)
{
	return map[bit / BITMAP_WORD_BITS] >> (bit % BITMAP_WORD_BITS) & 1;
}

static inline void bitmap_set(uint64_t *map, uint64_t bit)
{
	map[bit / BITMAP_WORD_BITS] |= UINT64_C(1) << (bit % BITMAP_WORD_BITS);
}

static inline void bitmap_clear(uint64_t *map, uint64_t bit)
{
	map[bit / BITMAP_WORD_BITS] &= ~(UINT64_C(1) << (bit % BITMAP_WORD_BITS));
}

/* Relaxed: whoever harvests the map has stopped the writers first. */
static inline void bitmap_set_atomic(uint64_t *map, uint64_t bit)
{
	__atomic_fetch_or(&map[bit / BITMAP_WORD_BITS], UINT64_C(1) << (bit % BITMAP_WORD_BITS),
			  __ATOMIC_RELAXED);
}

uint64_t bitmap_count(const uint64_t *map, uint64_t bits);
void bitmap_or(uint64_t *into, const uint64_t *from, uint64_t bits);
/* The first set bit at or after `from`, or `bits` when there is none. */
uint64_t bitmap_next(const uint64_t *map, uint64_t bits, uint64_t from);
void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count);

#define bitmap_for_each(bit, map, bits)                                                            \
	for (uint64_t bit = bitmap_next((map), (bits), 0); bit < (bits);                           \
	     bit = bitmap_next((map), (bits), bit + 1))

#endif
