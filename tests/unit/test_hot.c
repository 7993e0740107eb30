/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/hot.h against a log as KVM keeps it: a page that is left writable shows in
 * every set until it is protected. No write may be missed, whatever the pattern; a page
 * written always faults rarely; one that has cooled leaves the set.
 */
#include "tests/lib/test.h"

#include <stdbool.h>
#include <string.h>

#include "hypervisor/vmm/hot.h"

#define PAGES 256u
#define WORDS (PAGES / 64)

/* KVM's side: the bits that GET would return. */
static uint64_t logged[WORDS];
static uint64_t faults;
static struct hot hot;

static int setup(void **state)
{
	(void)state;
	memset(logged, 0, sizeof(logged));
	faults = 0;
	return hot_open(&hot, PAGES);
}

static int teardown(void **state)
{
	(void)state;
	hot_close(&hot);
	return 0;
}

static void guest_writes(unsigned int gfn)
{
	uint64_t bit = UINT64_C(1) << gfn % 64;

	faults += !(logged[gfn / 64] & bit);
	logged[gfn / 64] |= bit;
}

static void take(uint64_t set[WORDS])
{
	memcpy(set, logged, sizeof(logged));
	hot_next(&hot);
	for (unsigned int w = 0; w < WORDS; w++) {
		uint64_t protect = hot_protect(&hot, w * UINT64_C(64), set[w]);

		assert_int_equal(protect & ~set[w], 0);
		logged[w] &= ~protect;
	}
}

static bool has(const uint64_t *set, unsigned int gfn)
{
	return set[gfn / 64] >> gfn % 64 & 1;
}

static void test_always_written(void **state)
{
	uint64_t set[WORDS];

	(void)state;
	for (unsigned int i = 0; i < 320; i++) {
		guest_writes(77);
		take(set);
		assert_true(has(set, 77));
	}
	/* The first HOT_STREAK, then one in each round of probes. */
	assert_in_range(faults, HOT_STREAK + 320 / HOT_PROBE - 2, HOT_STREAK + 320 / HOT_PROBE + 2);
}

static void test_cools(void **state)
{
	uint64_t set[WORDS];
	unsigned int stays = 0;

	(void)state;
	for (unsigned int i = 0; i < 10; i++) {
		guest_writes(5);
		take(set);
	}
	do
		take(set);
	while (has(set, 5) && ++stays < 100);
	assert_in_range(stays, 1, HOT_PROBE);
	take(set);
	assert_false(has(set, 5));
}

static void test_seldom_written(void **state)
{
	uint64_t set[WORDS];

	(void)state;
	for (unsigned int i = 0; i < 100; i++) {
		if (i % 2)
			guest_writes(200);
		take(set);
		assert_int_equal(has(set, 200), i % 2);
	}
}

static void test_misses_nothing(void **state)
{
	unsigned int seed = 1;
	uint64_t set[WORDS], written[WORDS];

	(void)state;
	print_message("seed %u\n", seed);
	/* Long enough for the number of the take to wrap. */
	for (unsigned int i = 0; i < 2000; i++) {
		memset(written, 0, sizeof(written));
		for (unsigned int n = (unsigned int)rand_r(&seed) % 80; n; n--) {
			/* The lower the page, the more often. */
			unsigned int gfn = (unsigned int)rand_r(&seed) % PAGES *
					   ((unsigned int)rand_r(&seed) % PAGES) / PAGES;

			guest_writes(gfn);
			written[gfn / 64] |= UINT64_C(1) << gfn % 64;
		}
		take(set);
		for (unsigned int w = 0; w < WORDS; w++)
			assert_int_equal(written[w] & ~set[w], 0);
	}
}

static void test_reset(void **state)
{
	uint64_t set[WORDS];

	(void)state;
	for (unsigned int i = 0; i < 10; i++) {
		guest_writes(9);
		take(set);
	}
	hot_reset(&hot);
	guest_writes(9);
	take(set);
	take(set);
	assert_false(has(set, 9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_always_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cools, setup, teardown),
		cmocka_unit_test_setup_teardown(test_seldom_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_misses_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
	};

	return test_main(tests);
}
