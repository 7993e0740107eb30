/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page deltas: apply(encode(a, b), a) is b for every shape of change; hostile deltas
 * write nothing; the cache keeps its bound and its promise of what was sent.
 */
#include "ha/delta.h"

#include "base/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define PAGE PROTO_PAGE_BYTES

static uint8_t before[PAGE], after[PAGE], page[PAGE], delta[DELTA_ROOM];
static uint32_t seed = 1;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static void noise(uint8_t *p)
{
	for (unsigned i = 0; i < PAGE; i++)
		p[i] = (uint8_t)rnd(256);
}

static void expect_there_and_back(void)
{
	int len = delta_encode(before, after, delta);

	if (len == -ENOSPC)
		return;
	assert_true(len >= 0);
	assert_int_equal(len == 0, memcmp(before, after, PAGE) == 0);
	if (!len)
		return;
	assert_int_equal(delta_check(delta, (size_t)len), 0);
	memcpy(page, before, PAGE);
	assert_int_equal(delta_apply(page, delta, (size_t)len), 0);
	assert_memory_equal(page, after, PAGE);
	/* Twice is harmless. */
	assert_int_equal(delta_apply(page, delta, (size_t)len), 0);
	assert_memory_equal(page, after, PAGE);
}

static void test_single_runs(void **state)
{
	(void)state;
	noise(before);
	for (unsigned at = 0; at < PAGE; at += 1 + rnd(37))
		for (unsigned len = 1; at + len <= PAGE && len <= 300; len += 1 + rnd(40)) {
			int n;

			memcpy(after, before, PAGE);
			for (unsigned i = 0; i < len; i++)
				after[at + i] ^= 0xff;
			n = delta_encode(before, after, delta);
			assert_int_equal(n, 4 + len);
			expect_there_and_back();
		}
	/* Each single byte, the last one too. */
	for (unsigned at = 0; at < PAGE; at++) {
		memcpy(after, before, PAGE);
		after[at]++;
		assert_int_equal(delta_encode(before, after, delta), 5);
		expect_there_and_back();
	}
}

static void test_random_changes(void **state)
{
	unsigned encoded = 0;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		unsigned changes = rnd(60);

		noise(before);
		memcpy(after, before, PAGE);
		while (changes--) {
			unsigned at = rnd(PAGE), len = rnd(MIN(100u, PAGE - at) + 1);

			/* Some bytes stay: runs with holes of every size. */
			for (unsigned i = 0; i < len; i++)
				if (rnd(5))
					after[at + i] = (uint8_t)rnd(256);
		}
		encoded += delta_encode(before, after, delta) > 0;
		expect_there_and_back();
	}
	assert_true(encoded > 2000);
}

static void test_too_different(void **state)
{
	(void)state;
	noise(before);
	noise(after);
	assert_int_equal(delta_encode(before, after, delta), -ENOSPC);
	memcpy(after, before, PAGE);
	assert_int_equal(delta_encode(before, after, delta), 0);
	/* Exactly at the limit, and one byte beyond. */
	for (unsigned i = 0; i < PROTO_DELTA_MAX - 4; i++)
		after[i] ^= 1;
	assert_int_equal(delta_encode(before, after, delta), PROTO_DELTA_MAX);
	expect_there_and_back();
	after[PROTO_DELTA_MAX - 4] ^= 1;
	assert_int_equal(delta_encode(before, after, delta), -ENOSPC);
}

static size_t run(uint8_t *dst, size_t have, unsigned skip, unsigned len)
{
	struct cursor c = cursor_over(dst + have, 4);

	cursor_put_u16(&c, (uint16_t)skip);
	cursor_put_u16(&c, (uint16_t)len);
	memset(dst + have + 4, 0xab, len);
	return have + 4 + len;
}

static void expect_hostile(const uint8_t *d, size_t len)
{
	uint8_t guard[3 * PAGE];

	memset(guard, 0xee, sizeof(guard));
	assert_int_equal(delta_check(d, len), -EBADMSG);
	assert_int_equal(delta_apply(guard + PAGE, d, len), -EBADMSG);
	for (unsigned i = 0; i < sizeof(guard); i++)
		assert_int_equal(guard[i], 0xee);
}

static void test_hostile(void **state)
{
	static uint8_t d[3 * PAGE];
	size_t len;

	(void)state;
	expect_hostile(d, 0);
	len = run(d, 0, 0, 0); /* an empty run */
	expect_hostile(d, len);
	len = run(d, 0, PAGE, 1); /* behind the page */
	expect_hostile(d, len);
	len = run(d, 0, PAGE - 1, 2);
	expect_hostile(d, len);
	len = run(d, 0, UINT16_MAX, 1);
	expect_hostile(d, len);
	len = run(d, 0, 0, 8); /* a good run, then one that leaves the page */
	len = run(d, len, PAGE - 8, 1);
	expect_hostile(d, len);
	len = run(d, 0, 0, 8);
	expect_hostile(d, len - 1); /* cut short */
	expect_hostile(d, 3);
	len = run(d, 0, 0, PROTO_DELTA_MAX - 3); /* larger than a delta may be */
	expect_hostile(d, len);
	len = run(d, 0, PAGE - 1, 1); /* the last byte is fine */
	assert_int_equal(delta_check(d, len), 0);
}

static void test_zero(void **state)
{
	(void)state;
	memset(page, 0, PAGE);
	assert_true(page_is_zero(page));
	for (unsigned i = 0; i < PAGE; i++) {
		page[i] = 1;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
}

static void test_cache_bound(void **state)
{
	struct page_cache *c;
	uint64_t bytes = 40 * PAGE;

	(void)state;
	assert_int_equal(page_cache_open(&c, bytes), 0);
	assert_true(page_cache_capacity(c) * PAGE <= bytes);
	assert_true(page_cache_capacity(c) >= 32);
	for (uint64_t gfn = 0; gfn < 10000; gfn++)
		memset(page_cache_add(c, gfn), (int)(gfn & 0xff), PAGE);
	/* The youngest are there, each with its own bytes; the oldest are not. */
	for (uint64_t gfn = 10000 - page_cache_capacity(c); gfn < 10000; gfn++) {
		uint8_t *copy = page_cache_find(c, gfn);

		assert_non_null(copy);
		assert_int_equal(copy[0], gfn & 0xff);
		assert_int_equal(copy[PAGE - 1], gfn & 0xff);
	}
	assert_null(page_cache_find(c, 0));
	page_cache_drop(c, 9999);
	assert_null(page_cache_find(c, 9999));
	page_cache_reset(c);
	assert_null(page_cache_find(c, 9998));
	page_cache_close(c);

	/* Below one set there is none, and everything takes that. */
	assert_int_equal(page_cache_open(&c, PAGE), 0);
	assert_null(c);
	assert_null(page_cache_find(c, 1));
	assert_null(page_cache_add(c, 1));
	page_cache_drop(c, 1);
	page_cache_reset(c);
	assert_int_equal(page_cache_capacity(c), 0);
	page_cache_close(c);
}

/* What is used again stays when a scan comes by. */
static void test_cache_clock(void **state)
{
	struct page_cache *c;
	uint64_t sets;

	(void)state;
	assert_int_equal(page_cache_open(&c, 100 * PAGE), 0);
	sets = page_cache_capacity(c) / PAGE_CACHE_WAYS;
	for (uint64_t i = 0; i < PAGE_CACHE_WAYS; i++)
		page_cache_add(c, i * sets);
	for (uint64_t i = 100; i < 200; i++) {
		assert_non_null(page_cache_find(c, 0));
		page_cache_add(c, i * sets);
	}
	assert_non_null(page_cache_find(c, 0));
	page_cache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_single_runs),   cmocka_unit_test(test_random_changes),
		cmocka_unit_test(test_too_different), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_zero),	      cmocka_unit_test(test_cache_bound),
		cmocka_unit_test(test_cache_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
