/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/copier.h: every page is copied, once, whatever the number of pages and of helpers, and nothing
 * beside them; copy after copy, so that a helper which is late for one meets the next.
 */
#include "tests/lib/test.h"

#include "base/err.h"
#include "ha/copier.h"

#define PAGES_MAX 2000u
#define ROUNDS	  400u

static uint8_t *source, *target;
static const void *from[PAGES_MAX];

static uint8_t *page_of(uint8_t *pages, uint64_t i)
{
	return pages + i * COPIER_PAGE_BYTES;
}

/* A page is known by its first and its last word. */
static void stamp(uint8_t *page, uint64_t value)
{
	memcpy(page, &value, sizeof(value));
	memcpy(page + COPIER_PAGE_BYTES - sizeof(value), &value, sizeof(value));
}

static void check(const uint8_t *page, uint64_t value)
{
	assert_memory_equal(page, &value, sizeof(value));
	assert_memory_equal(page + COPIER_PAGE_BYTES - sizeof(value), &value, sizeof(value));
}

static int setup(void **state)
{
	(void)state;
	source = calloc(PAGES_MAX, COPIER_PAGE_BYTES);
	target = calloc(PAGES_MAX + 1, COPIER_PAGE_BYTES);
	return source && target ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(source);
	free(target);
	return 0;
}

/* The order of the source is turned round, so that a chunk of the wrong place shows. */
static void copy_and_check(struct copier *c, uint64_t n, uint64_t round)
{
	for (uint64_t i = 0; i < n; i++) {
		stamp(page_of(source, n - 1 - i), round << 32 | i);
		from[i] = page_of(source, n - 1 - i);
	}
	stamp(page_of(target, n), ~round);
	copier_copy(c, from, target, n);
	for (uint64_t i = 0; i < n; i++)
		check(page_of(target, i), round << 32 | i);
	check(page_of(target, n), ~round);
}

static void run(unsigned int helpers)
{
	static const uint64_t edges[] = { 0,
					  1,
					  COPIER_FEW_PAGES - 1,
					  COPIER_FEW_PAGES,
					  COPIER_FEW_PAGES + 1,
					  COPIER_FEW_PAGES + COPIER_CHUNK_PAGES - 1,
					  PAGES_MAX };
	struct copier *c;

	assert_int_equal(copier_open(helpers, &c), 0);
	assert_true((c != NULL) == (helpers != 0));
	for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
		copy_and_check(c, edges[i], i + 1);
	for (uint64_t round = 0; round < ROUNDS; round++)
		copy_and_check(c, COPIER_FEW_PAGES + round * 37 % 200, round + 100);
	copier_close(c);
}

static void test_alone(void **state)
{
	(void)state;
	run(0);
}

static void test_one_helper(void **state)
{
	(void)state;
	run(1);
}

static void test_as_many_as_there_may_be(void **state)
{
	(void)state;
	run(COPIER_HELPERS_MAX + 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_one_helper),
		cmocka_unit_test(test_as_many_as_there_may_be),
	};

	return cmocka_run_group_tests(tests, setup, teardown) ? 1 : 0;
}
