/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-replica/nbd/ranges.h: those that overlap exclude each other, in the order of their
 * arrival; those that do not, do not.
 */
#include "tests/lib/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "disk-replica/nbd/ranges.h"

#define THREADS 8
#define CELLS	16
#define ROUNDS	4000

static struct ranges ranges;

static int setup(void **state)
{
	(void)state;
	ranges_init(&ranges);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(ranges.first);
	ranges_destroy(&ranges);
	return 0;
}

static void test_neighbours(void **state)
{
	struct range a = { .offset = 0, .length = 512 }, b = { .offset = 512, .length = 512 };

	(void)state;
	ranges_take(&ranges, &a);
	ranges_take(&ranges, &b); /* or it would wait for ever */
	ranges_free(&ranges, &a);
	ranges_free(&ranges, &b);
}

struct waiter {
	struct range range;
	unsigned int number;
	pthread_t thread;
};

static unsigned int order[3], nr_done;

static void *wait_for_it(void *arg)
{
	struct waiter *w = arg;

	ranges_take(&ranges, &w->range);
	order[__atomic_fetch_add(&nr_done, 1, __ATOMIC_SEQ_CST)] = w->number;
	ranges_free(&ranges, &w->range);
	return NULL;
}

static unsigned int waiting(void)
{
	unsigned int n = 0;

	pthread_mutex_lock(&ranges.lock);
	for (const struct range *i = ranges.first; i; i = i->next)
		n++;
	pthread_mutex_unlock(&ranges.lock);
	return n;
}

/* The second waits for the first, which waits for what is held; the second overlaps only the
 * first, and must not pass it. */
static void test_order(void **state)
{
	struct range held = { .offset = 0, .length = 4096 };
	struct waiter w[] = {
		{ .range = { .offset = 2048, .length = 8192 }, .number = 1 },
		{ .range = { .offset = 8192, .length = 1 }, .number = 2 },
	};

	(void)state;
	nr_done = 0;
	ranges_take(&ranges, &held);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&w[i].thread, NULL, wait_for_it, &w[i]), 0);
		while (waiting() < i + 2)
			sched_yield();
	}
	assert_int_equal(__atomic_load_n(&nr_done, __ATOMIC_SEQ_CST), 0);
	ranges_free(&ranges, &held);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(w[i].thread, NULL);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[1], 2);
}

static unsigned int owner[CELLS]; /* each written only by who holds its byte */
static bool clashed;

static void *take_and_check(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg, seed = me;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		unsigned int at = (unsigned int)rand_r(&seed) % CELLS;
		unsigned int len = 1 + (unsigned int)rand_r(&seed) % (CELLS - at);
		struct range r = { .offset = at, .length = len };

		ranges_take(&ranges, &r);
		for (unsigned int i = at; i < at + len; i++)
			owner[i] = me;
		if (round % 64 == 0)
			sched_yield();
		for (unsigned int i = at; i < at + len; i++)
			if (owner[i] != me)
				__atomic_store_n(&clashed, true, __ATOMIC_RELAXED);
		ranges_free(&ranges, &r);
	}
	return NULL;
}

static void test_exclusion(void **state)
{
	pthread_t thread[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_and_check, (void *)(i + 1)),
				 0);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_false(clashed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_neighbours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exclusion, setup, teardown),
	};

	return test_main(tests);
}
