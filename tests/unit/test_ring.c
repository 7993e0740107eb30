/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/ring.h: order and content across the wrap, the boundary (`limit`), a full ring, a
 * peer that lies in the shared header or in a record's length, and two threads at once.
 */
#include "tests/lib/test.h"

#include <pthread.h>
#include <string.h>

#include "base/err.h"
#include "base/ring.h"

#define SIZE 64u

struct pair {
	struct ring producer, consumer;
	uint8_t *mapping;
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	p->mapping = calloc(1, ring_map_bytes(SIZE));
	ring_attach_producer(&p->producer, p->mapping, SIZE);
	ring_attach_consumer(&p->consumer, p->mapping, SIZE);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	free(p->mapping);
	free(p);
	return 0;
}

static int put(struct pair *p, const void *data, size_t len)
{
	struct ring_piece pieces[2] = { { data, len / 2 },
					{ (const uint8_t *)data + len / 2, len - len / 2 } };

	return ring_put(&p->producer, pieces, 2);
}

static int get(struct pair *p, void *ret, size_t max, size_t *ret_len)
{
	return ring_get(&p->consumer, ring_head(&p->consumer), ret, max, ret_len);
}

static void test_wraps_in_order(void **state)
{
	struct pair *p = *state;
	uint8_t in[40], out[40];
	size_t len;

	for (unsigned int round = 0; round < 500; round++) {
		size_t want = round % sizeof(in);

		for (size_t i = 0; i < want; i++)
			in[i] = (uint8_t)(round + i);
		assert_int_equal(put(p, in, want), 0);
		assert_int_equal(ring_used(&p->consumer), want + 4);
		assert_int_equal(get(p, out, sizeof(out), &len), 0);
		assert_int_equal(len, want);
		assert_memory_equal(in, out, want);
		assert_int_equal(get(p, out, sizeof(out), &len), -EAGAIN);
	}
}

static void test_full_and_too_large(void **state)
{
	struct pair *p = *state;
	uint8_t data[SIZE] = { 0 }, out[SIZE];
	size_t len = 77;

	assert_int_equal(put(p, data, SIZE - 3), -EMSGSIZE);
	assert_int_equal(put(p, data, SIZE - 4), 0);
	assert_int_equal(put(p, data, 0), -ENOBUFS);
	assert_int_equal(get(p, out, 10, &len), -EMSGSIZE);
	assert_int_equal(len, 77);
	assert_int_equal(get(p, out, sizeof(out), &len), 0); /* still there */
	assert_int_equal(len, SIZE - 4);
	assert_int_equal(put(p, data, 0), 0);
}

/* What was put after the boundary belongs to the next epoch (P2). */
static void test_boundary(void **state)
{
	struct pair *p = *state;
	uint64_t boundary;
	char out[8];
	size_t len;

	put(p, "one", 3);
	boundary = ring_head(&p->producer);
	put(p, "two", 3);
	assert_int_equal(ring_get(&p->consumer, boundary, out, sizeof(out), &len), 0);
	assert_memory_equal(out, "one", 3);
	assert_int_equal(ring_get(&p->consumer, boundary, out, sizeof(out), &len), -EAGAIN);
	boundary = ring_head(&p->producer);
	assert_int_equal(ring_get(&p->consumer, boundary, out, sizeof(out), &len), 0);
	assert_memory_equal(out, "two", 3);
}

static void test_attach_goes_on(void **state)
{
	struct pair *p = *state;
	char out[8];
	size_t len;

	put(p, "one", 3);
	get(p, out, sizeof(out), &len);
	put(p, "two", 3);
	ring_attach_producer(&p->producer, p->mapping, SIZE);
	ring_attach_consumer(&p->consumer, p->mapping, SIZE);
	put(p, "three", 5);
	assert_int_equal(get(p, out, sizeof(out), &len), 0);
	assert_memory_equal(out, "two", 3);
	assert_int_equal(get(p, out, sizeof(out), &len), 0);
	assert_memory_equal(out, "three", 5);
}

static void test_lying_peer(void **state)
{
	struct pair *p = *state;
	struct ring_shared *shared = p->producer.shared;
	uint8_t out[SIZE];
	uint32_t huge = 0xfffffff0u;
	size_t len;

	put(p, "one", 3);
	/* The consumer claims to be ahead of us. */
	shared->tail = 1000;
	assert_int_equal(put(p, "x", 1), -EPROTO);
	shared->tail = 0;
	/* The producer claims more than there is room for, or less than was read. */
	shared->head = SIZE + 1;
	assert_int_equal(get(p, out, sizeof(out), &len), -EPROTO);
	shared->head = UINT64_MAX;
	assert_int_equal(get(p, out, sizeof(out), &len), -EPROTO);
	shared->head = 3;
	assert_int_equal(get(p, out, sizeof(out), &len), -EPROTO);
	/* A record longer than what is there. */
	shared->head = 7;
	memcpy(p->producer.data, &huge, sizeof(huge));
	assert_int_equal(get(p, out, sizeof(out), &len), -EPROTO);
	huge = 3;
	memcpy(p->producer.data, &huge, sizeof(huge));
	assert_int_equal(get(p, out, sizeof(out), &len), 0);
	assert_memory_equal(out, "one", 3);
}

#define RECORDS 20000u

static void *produce(void *arg)
{
	struct pair *p = arg;

	for (uint32_t n = 0; n < RECORDS; n++) {
		struct ring_piece piece = { &n, sizeof(n) };

		while (ring_put(&p->producer, &piece, 1) == -ENOBUFS)
			sched_yield();
	}
	return NULL;
}

static void test_two_threads(void **state)
{
	struct pair *p = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, produce, p), 0);
	for (uint32_t n = 0; n < RECORDS; n++) {
		uint32_t got = UINT32_MAX;
		size_t len;
		int r;

		while ((r = get(p, &got, sizeof(got), &len)) == -EAGAIN)
			sched_yield();
		assert_int_equal(r, 0);
		assert_int_equal(got, n);
	}
	pthread_join(thread, NULL);
}

int main(void)
{
#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_RING(test_wraps_in_order), WITH_RING(test_full_and_too_large),
		WITH_RING(test_boundary),	WITH_RING(test_attach_goes_on),
		WITH_RING(test_lying_peer),	WITH_RING(test_two_threads),
	};

	return test_main(tests);
}
