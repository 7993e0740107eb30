/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bitmap.h"

uint64_t bitmap_count(const uint64_t *map, uint64_t bits)
{
	uint64_t n = 0;

	for (size_t i = 0; i < bitmap_words(bits); i++)
		n += (uint64_t)__builtin_popcountll(map[i]);
	return n;
}

void bitmap_or(uint64_t *into, const uint64_t *from, uint64_t bits)
{
	for (size_t i = 0; i < bitmap_words(bits); i++)
		into[i] |= from[i];
}

uint64_t bitmap_next(const uint64_t *map, uint64_t bits, uint64_t from)
{
	size_t i = (size_t)(from / BITMAP_WORD_BITS);
	uint64_t word, bit;

	if (from >= bits)
		return bits;
	word = map[i] & (~UINT64_C(0) << (from % BITMAP_WORD_BITS));
	while (!word) {
		if (++i >= bitmap_words(bits))
			return bits;
		word = map[i];
	}
	bit = (uint64_t)i * BITMAP_WORD_BITS + (uint64_t)__builtin_ctzll(word);
	return bit < bits ? bit : bits;
}

void bitmap_set_range(uint64_t *map, uint64_t first, uint64_t count)
{
	for (uint64_t bit = first; bit < first + count; bit++) {
		if (bit % BITMAP_WORD_BITS == 0 && first + count - bit >= BITMAP_WORD_BITS) {
			map[bit / BITMAP_WORD_BITS] = ~UINT64_C(0);
			bit += BITMAP_WORD_BITS - 1;
		} else {
			bitmap_set(map, bit);
		}
	}
}
