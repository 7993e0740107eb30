/* SPDX-License-Identifier: Apache-2.0 */
/* base/bitmap.h against a plain array of bools, at the edges of words and at random. */
#include "tests/lib/test.h"

#include <string.h>

#include "base/bitmap.h"

#define BITS 300u

struct pair {
	uint64_t map[5];
	bool bits[BITS];
};

static void assert_agree(const struct pair *p)
{
	uint64_t count = 0, seen = 0, next = BITS;

	for (uint64_t bit = BITS; bit-- > 0;) {
		if (p->bits[bit])
			next = bit;
		assert_int_equal(bitmap_test(p->map, bit), p->bits[bit]);
		assert_int_equal(bitmap_next(p->map, BITS, bit), next);
		count += p->bits[bit];
	}
	assert_int_equal(bitmap_count(p->map, BITS), count);
	bitmap_for_each (bit, p->map, BITS) {
		assert_true(p->bits[bit]);
		seen++;
	}
	assert_int_equal(seen, count);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(bitmap_words(0), 0);
	assert_int_equal(bitmap_words(1), 1);
	assert_int_equal(bitmap_words(64), 1);
	assert_int_equal(bitmap_words(65), 2);
	assert_int_equal(bitmap_bytes(65), 16);
	assert_int_equal(sizeof(((struct pair *)0)->map), bitmap_bytes(BITS));
}

static void test_next_beyond_the_end(void **state)
{
	uint64_t map[2] = { 0, UINT64_C(1) << 40 };

	(void)state;
	assert_int_equal(bitmap_next(map, 100, 100), 100);
	assert_int_equal(bitmap_next(map, 100, 5000), 100);
	assert_int_equal(bitmap_next(map, 100, 0), 100); /* bit 104 is outside */
	assert_int_equal(bitmap_next(map, 105, 0), 104);
	assert_int_equal(bitmap_next(map, 0, 0), 0);
}

static void test_single_bits(void **state)
{
	(void)state;
	for (uint64_t bit = 0; bit < BITS; bit++) {
		struct pair p = { 0 };

		bitmap_set(p.map, bit);
		p.bits[bit] = true;
		assert_agree(&p);
		bitmap_clear(p.map, bit);
		p.bits[bit] = false;
		assert_agree(&p);
		bitmap_set_atomic(p.map, bit);
		assert_int_equal(bitmap_next(p.map, BITS, 0), bit);
	}
}

static void test_ranges(void **state)
{
	static const uint64_t edges[] = { 0, 1, 63, 64, 65, 127, 128, 191, 256, 299, 300 };

	(void)state;
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		for (size_t j = i; j < sizeof(edges) / sizeof(edges[0]); j++) {
			struct pair p = { 0 };

			bitmap_set_range(p.map, edges[i], edges[j] - edges[i]);
			for (uint64_t bit = edges[i]; bit < edges[j]; bit++)
				p.bits[bit] = true;
			assert_agree(&p);
		}
	}
}

static void test_or_at_random(void **state)
{
	unsigned int seed = 1;

	(void)state;
	for (int round = 0; round < 50; round++) {
		struct pair a = { 0 }, b = { 0 };

		for (int i = 0; i < 40; i++) {
			uint64_t x = (uint64_t)rand_r(&seed) % BITS;
			uint64_t y = (uint64_t)rand_r(&seed) % BITS;

			bitmap_set(a.map, x);
			bitmap_set(b.map, y);
			a.bits[x] = a.bits[y] = true;
		}
		bitmap_or(a.map, b.map, BITS);
		assert_agree(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),	     cmocka_unit_test(test_next_beyond_the_end),
		cmocka_unit_test(test_single_bits),  cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_or_at_random),
	};

	return test_main(tests);
}
