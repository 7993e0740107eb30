/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/virtqueue.h: honest chains, direct and indirect, across the wrap of the
 * ring; every kind of lie a driver can tell; and the event index in both directions.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "base/err.h"
#include "hypervisor/vmm/memory.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtqueue.h"

#define SIZE	 8u
#define DESC	 UINT64_C(0x1000)
#define AVAIL	 UINT64_C(0x2000)
#define USED	 UINT64_C(0x3000)
#define INDIRECT UINT64_C(0x4000)
#define DATA	 UINT64_C(0x10000)
#define MEMORY	 (UINT64_C(64) << 20)

#define NEXT  1u
#define WRITE 2u
#define TABLE 4u

struct fixture {
	struct guest_memory mem;
	struct virtqueue vq;
	struct virtqueue_chain chain;
};

struct desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (guest_memory_open(&f->mem, MEMORY, -1))
		return -1;
	f->vq.mem = &f->mem;
	virtqueue_reset(&f->vq);
	f->vq.size = SIZE;
	f->vq.enabled = f->vq.indirect = true;
	f->vq.desc = DESC;
	f->vq.avail = AVAIL;
	f->vq.used = USED;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_memory_close(&f->mem);
	free(f);
	return 0;
}

static void put16(struct fixture *f, uint64_t gpa, unsigned int v)
{
	uint16_t word = (uint16_t)v;

	assert_int_equal(guest_write(&f->mem, gpa, &word, sizeof(word)), 0);
}

static unsigned int get16(struct fixture *f, uint64_t gpa)
{
	uint16_t word;

	assert_int_equal(guest_read(&f->mem, gpa, &word, sizeof(word)), 0);
	return word;
}

static void put_desc(struct fixture *f, uint64_t table, unsigned int i, struct desc d)
{
	_Static_assert(sizeof(d) == 16, "as on the wire");
	assert_int_equal(guest_write(&f->mem, table + 16 * i, &d, sizeof(d)), 0);
}

/* Makes `head` available; the queue's own count is the test's, too. */
static void post(struct fixture *f, unsigned int head)
{
	unsigned int index = get16(f, AVAIL + 2);

	put16(f, AVAIL + 4 + 2 * (index % SIZE), head);
	put16(f, AVAIL + 2, index + 1);
}

static int pop(struct fixture *f)
{
	return virtqueue_pop(&f->vq, &f->chain);
}

static int push(struct fixture *f, uint16_t head, uint32_t len)
{
	return virtqueue_push(&f->vq, &(struct virtqueue_done){ head, len }, 1);
}

static void test_empty(void **state)
{
	assert_int_equal(pop(*state), 0);
}

static void test_chain_and_copy(void **state)
{
	struct fixture *f = *state;
	char text[16] = "";

	put_desc(f, DESC, 3, (struct desc){ DATA, 5, NEXT, 1 });
	put_desc(f, DESC, 1, (struct desc){ DATA + 100, 0, NEXT, 2 });
	put_desc(f, DESC, 2, (struct desc){ DATA + 200, 3, NEXT, 0 });
	put_desc(f, DESC, 0, (struct desc){ DATA + 300, 4, NEXT | WRITE, 7 });
	put_desc(f, DESC, 7, (struct desc){ DATA + 400, 4, WRITE, 0 });
	assert_int_equal(guest_write(&f->mem, DATA, "abcde", 5), 0);
	assert_int_equal(guest_write(&f->mem, DATA + 200, "fgh", 3), 0);
	post(f, 3);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.nr_out, 3);
	assert_int_equal(f->chain.nr_in, 2);
	assert_int_equal(f->chain.out_bytes, 8);
	assert_int_equal(f->chain.in_bytes, 8);
	assert_int_equal(virtqueue_read(&f->vq, &f->chain, 3, text, 4), 0);
	assert_memory_equal(text, "defg", 4);
	assert_int_equal(virtqueue_read(&f->vq, &f->chain, 5, text, 4), -EINVAL);
	assert_int_equal(virtqueue_write(&f->vq, &f->chain, 2, "WXYZ", 4), 0);
	assert_int_equal(guest_read(&f->mem, DATA + 302, text, 2), 0);
	assert_int_equal(guest_read(&f->mem, DATA + 400, text + 2, 2), 0);
	assert_memory_equal(text, "WXYZ", 4);
	assert_int_equal(virtqueue_write(&f->vq, &f->chain, 6, "WXYZ", 4), -EINVAL);
}

static void test_wrap(void **state)
{
	struct fixture *f = *state;

	/* Through the ring of 8 and the 16-bit index. */
	f->vq.last_avail = f->vq.next_used = 65530;
	put16(f, AVAIL + 2, 65530);
	put_desc(f, DESC, 5, (struct desc){ DATA, 1, 0, 0 });
	for (unsigned int i = 0; i < 20; i++) {
		post(f, 5);
		assert_int_equal(pop(f), 1);
		assert_int_equal(push(f, f->chain.head, i), 0);
		assert_int_equal(get16(f, USED + 2), (65531 + i) & 0xffff);
		assert_int_equal(get16(f, USED + 4 + 8 * ((65530 + i) % SIZE)), 5);
		assert_int_equal(get16(f, USED + 8 + 8 * ((65530 + i) % SIZE)), i);
	}
	assert_int_equal(pop(f), 0);
}

/* Several at once: all entries are there when the index says so, around the ring's end too. */
static void test_push_several(void **state)
{
	const struct virtqueue_done done[3] = { { 4, 10 }, { 2, 20 }, { 7, 30 } };
	struct fixture *f = *state;

	f->vq.next_used = 65534;
	assert_int_equal(virtqueue_push(&f->vq, done, 3), 0);
	assert_int_equal(get16(f, USED + 2), 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(get16(f, USED + 4 + 8 * ((65534 + i) % SIZE)), done[i].head);
		assert_int_equal(get16(f, USED + 8 + 8 * ((65534 + i) % SIZE)), done[i].len);
	}
	f->vq.used = MEMORY - 8; /* its entries are nowhere: nothing is told */
	assert_int_equal(virtqueue_push(&f->vq, done, 3), -EFAULT);
	assert_int_equal(f->vq.next_used, 1);
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	put_desc(f, DESC, 0, (struct desc){ DATA, 1, 0, 0 });
	post(f, 0);
	assert_int_equal(pop(f), 1);
	virtqueue_unpop(&f->vq);
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 0);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;

	put_desc(f, DESC, 0, (struct desc){ DATA, 2, NEXT, 4 });
	put_desc(f, DESC, 4, (struct desc){ INDIRECT, 32, TABLE, 0 });
	put_desc(f, INDIRECT, 0, (struct desc){ DATA + 50, 3, NEXT, 1 });
	put_desc(f, INDIRECT, 1, (struct desc){ DATA + 60, 4, WRITE, 0 });
	post(f, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.nr_out, 2);
	assert_int_equal(f->chain.out_bytes, 5);
	assert_int_equal(f->chain.in_bytes, 4);
}

/* One lie each: a chain that begins at descriptor 0, and the error it must give. */
static const struct lie {
	const char *name;
	struct desc d[3]; /* descriptors 0, 1, 2 */
	struct desc indirect[2];
	int error;
} lies[] = {
	{ "loop on itself", { { DATA, 1, NEXT, 0 } }, { { 0 } }, -EPROTO },
	{ "loop of two", { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 0 } }, { { 0 } }, -EPROTO },
	{ "loop of empty ones", { { DATA, 0, NEXT, 0 } }, { { 0 } }, -EPROTO },
	{ "next beyond the table", { { DATA, 1, NEXT, SIZE } }, { { 0 } }, -EPROTO },
	{ "out after in", { { DATA, 1, NEXT | WRITE, 1 }, { DATA, 1, 0, 0 } }, { { 0 } }, -EPROTO },
	{ "address past memory", { { MEMORY, 1, 0, 0 } }, { { 0 } }, -EFAULT },
	{ "end past memory", { { MEMORY - 1, 2, WRITE, 0 } }, { { 0 } }, -EFAULT },
	{ "address that overflows", { { UINT64_MAX, 2, 0, 0 } }, { { 0 } }, -EFAULT },
	{ "huge length", { { DATA, UINT32_MAX, 0, 0 } }, { { 0 } }, -EFAULT },
	{ "in the hole", { { GUEST_HOLE_START, 8, 0, 0 } }, { { 0 } }, -EFAULT },
	{ "indirect in indirect",
	  { { INDIRECT, 16, TABLE, 0 } },
	  { { INDIRECT, 16, TABLE, 0 } },
	  -EPROTO },
	{ "indirect with next",
	  { { INDIRECT, 16, TABLE | NEXT, 1 } },
	  { { DATA, 1, 0, 0 } },
	  -EPROTO },
	{ "empty indirect", { { INDIRECT, 0, TABLE, 0 } }, { { 0 } }, -EPROTO },
	{ "ragged indirect", { { INDIRECT, 24, TABLE, 0 } }, { { DATA, 1, 0, 0 } }, -EPROTO },
	{ "indirect past the queue's size",
	  { { INDIRECT, 16 * (SIZE + 1), TABLE, 0 } },
	  { { DATA, 1, 0, 0 } },
	  -EPROTO },
	{ "indirect outside memory", { { MEMORY, 16, TABLE, 0 } }, { { 0 } }, -EFAULT },
	{ "indirect next beyond its table",
	  { { INDIRECT, 16, TABLE, 0 } },
	  { { DATA, 1, NEXT, 1 } },
	  -EPROTO },
	{ "indirect loop",
	  { { INDIRECT, 32, TABLE, 0 } },
	  { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 0 } },
	  -EPROTO },
};

static void test_lies(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		unsigned int before = f->vq.last_avail;

		for (unsigned int d = 0; d < 3; d++)
			put_desc(f, DESC, d, lies[i].d[d]);
		for (unsigned int d = 0; d < 2; d++)
			put_desc(f, INDIRECT, d, lies[i].indirect[d]);
		put16(f, AVAIL + 2, before);
		post(f, 0);
		if (pop(f) != lies[i].error)
			fail_msg("%s: not refused as it should be", lies[i].name);
		assert_int_equal(f->vq.last_avail, before);
	}
}

static void test_longest_chain(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < SIZE; i++)
		put_desc(f, DESC, i,
			 (struct desc){ DATA, 1, i + 1 < SIZE ? NEXT : 0, (uint16_t)(i + 1) });
	post(f, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.nr_out, SIZE);
	/* One more, by way of an indirect table after some direct ones. */
	put_desc(f, DESC, 1, (struct desc){ INDIRECT, 16 * SIZE, TABLE, 0 });
	for (unsigned int i = 0; i < SIZE; i++)
		put_desc(f, INDIRECT, i,
			 (struct desc){ DATA, 1, i + 1 < SIZE ? NEXT : 0, (uint16_t)(i + 1) });
	post(f, 0);
	assert_int_equal(pop(f), -EPROTO);
}

static void test_index_jumps(void **state)
{
	struct fixture *f = *state;

	put16(f, AVAIL + 2, SIZE + 1);
	assert_int_equal(pop(f), -EPROTO);
	put16(f, AVAIL + 2, 65535);
	assert_int_equal(pop(f), -EPROTO);
	assert_int_equal(virtqueue_arm(&f->vq), -EPROTO);
}

static void test_head_beyond(void **state)
{
	struct fixture *f = *state;

	post(f, SIZE);
	assert_int_equal(pop(f), -EPROTO);
	assert_int_equal(virtqueue_walk(&f->vq, 65535, &f->chain), -EPROTO);
}

static void test_rings_outside_memory(void **state)
{
	struct fixture *f = *state;
	const uint64_t nowhere[] = { MEMORY, UINT64_MAX / 2, GUEST_HOLE_START, MEMORY - 1 };

	put_desc(f, DESC, 0, (struct desc){ DATA, 1, 0, 0 });
	post(f, 0);
	for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
		f->vq.used = nowhere[i];
		assert_int_equal(push(f, 0, 0), -EFAULT);
		f->vq.used = USED;
		f->vq.desc = nowhere[i];
		assert_int_equal(pop(f), -EFAULT);
		f->vq.desc = DESC;
		f->vq.avail = nowhere[i];
		if (pop(f) >= 0)
			fail_msg("an available ring at %#llx", (unsigned long long)nowhere[i]);
		f->vq.avail = AVAIL;
	}
	assert_int_equal(f->vq.next_used, 0);
}

static void test_indirect_not_negotiated(void **state)
{
	struct fixture *f = *state;

	f->vq.indirect = false;
	put_desc(f, DESC, 0, (struct desc){ INDIRECT, 16, TABLE, 0 });
	put_desc(f, INDIRECT, 0, (struct desc){ DATA, 1, 0, 0 });
	post(f, 0);
	assert_int_equal(pop(f), -EPROTO);
}

static void test_signal_by_flag(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(push(f, 0, 0), 0);
	assert_true(virtqueue_should_signal(&f->vq));
	assert_false(virtqueue_should_signal(&f->vq));
	put16(f, AVAIL, 1);
	assert_int_equal(push(f, 0, 0), 0);
	assert_false(virtqueue_should_signal(&f->vq));
}

static void test_signal_by_event(void **state)
{
	struct fixture *f = *state;

	f->vq.event_idx = true;
	f->vq.signalled_valid = true;
	f->vq.signalled = f->vq.next_used = 65534;
	put16(f, AVAIL + 4 + 2 * SIZE, 0); /* the third from here, across the wrap */
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(push(f, 0, 0), 0);
		assert_int_equal(virtqueue_should_signal(&f->vq), i == 2);
	}
	/* A batch that steps over the mark counts, too. */
	put16(f, AVAIL + 4 + 2 * SIZE, f->vq.next_used + 1);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(push(f, 0, 0), 0);
	assert_true(virtqueue_should_signal(&f->vq));
}

static void test_arm(void **state)
{
	struct fixture *f = *state;

	f->vq.event_idx = true;
	put_desc(f, DESC, 0, (struct desc){ DATA, 1, 0, 0 });
	post(f, 0);
	assert_int_equal(virtqueue_arm(&f->vq), 1);
	assert_int_equal(pop(f), 1);
	assert_int_equal(virtqueue_arm(&f->vq), 0);
	assert_int_equal(get16(f, USED + 4 + 8 * SIZE), 1);
}

static void test_state(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[128] = { 0 };
	struct state s = { .at = cursor_over(bytes, sizeof(bytes)) };
	struct virtqueue other = { .mem = &f->mem };

	f->vq.last_avail = 77;
	f->vq.next_used = 70;
	f->vq.signalled = 69;
	f->vq.signalled_valid = true;
	virtqueue_state(&f->vq, &s);
	assert_true(state_ok(&s));
	s = (struct state){ .at = cursor_over(bytes, sizeof(bytes)), .loading = true };
	virtqueue_reset(&other);
	virtqueue_state(&other, &s);
	assert_true(state_ok(&s));
	other.indirect = true; /* follows from the features */
	assert_memory_equal(&other, &f->vq, sizeof(other));
	bytes[0] = 3; /* a size that is no power of two */
	s = (struct state){ .at = cursor_over(bytes, sizeof(bytes)), .loading = true };
	virtqueue_state(&other, &s);
	assert_false(state_ok(&s));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_chain_and_copy),
		TEST(test_wrap),
		TEST(test_push_several),
		TEST(test_unpop),
		TEST(test_indirect),
		TEST(test_lies),
		TEST(test_longest_chain),
		TEST(test_index_jumps),
		TEST(test_head_beyond),
		TEST(test_rings_outside_memory),
		TEST(test_indirect_not_negotiated),
		TEST(test_signal_by_flag),
		TEST(test_signal_by_event),
		TEST(test_arm),
		TEST(test_state),
	};

	return test_main(tests);
}
