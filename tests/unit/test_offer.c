/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/offer.h, both ends over two small memories: what is answered is what differs, in batches
 * and around holes; what was not asked, or names pages that are not there, is refused.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "ha/offer.h"
#include "ha/platform.h"

#define NR_GFNS (3 * PROTO_HASHES_MAX + 100)
#define SEED	UINT64_C(0x1234)
/* No memory here, and nothing to send there. */
#define HOLE_FROM (PROTO_HASHES_MAX / 2)
#define HOLE_END  (PROTO_HASHES_MAX / 2 + 10)
#define CLEAN_AT  (PROTO_HASHES_MAX + 5)

static uint8_t *memory[2];

static const void *page_of(struct platform *p, uint64_t gfn)
{
	uint8_t *base = p->priv;

	if (gfn >= NR_GFNS || (gfn >= HOLE_FROM && gfn < HOLE_END))
		return NULL;
	return base + gfn * PLATFORM_PAGE_BYTES;
}

static const struct platform_ops ops = { .name = "test", .page = page_of };

static struct platform side(int which)
{
	return (struct platform){ .ops = &ops, .nr_gfns = NR_GFNS, .priv = memory[which] };
}

static uint64_t pages[(NR_GFNS + 63) / 64];

static int begin(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		memory[i] = calloc(NR_GFNS, PLATFORM_PAGE_BYTES);
		if (!memory[i])
			return -1;
		for (uint64_t gfn = 0; gfn < NR_GFNS; gfn += 7)
			memcpy(memory[i] + gfn * PLATFORM_PAGE_BYTES, &gfn, sizeof(gfn));
	}
	memset(pages, 0, sizeof(pages));
	bitmap_set_range(pages, 0, NR_GFNS);
	bitmap_clear(pages, CLEAN_AT);
	return 0;
}

static int end(void **state)
{
	(void)state;
	free(memory[0]);
	free(memory[1]);
	return 0;
}

/* The answer of the other side, as it comes over the wire. */
static struct message answer(const struct message *question, uint8_t *lacked)
{
	struct platform backup = side(1);
	struct refusal why;

	assert_int_equal(offer_judge(&backup, SEED, question, lacked, &why), 0);
	return (struct message){ .type = PROTO_PAGES_LACKED,
				 .pages = question->pages,
				 .tail = lacked,
				 .tail_len = (question->pages.count + 7) / 8 };
}

static void test_what_differs(void **state)
{
	static const uint64_t differ[] = { 0,	       HOLE_FROM - 1, HOLE_END,
					   CLEAN_AT,   CLEAN_AT + 1,  NR_GFNS - 100,
					   NR_GFNS - 1 };
	uint64_t lacked_map[ARRAY_SIZE(pages)] = { 0 };
	uint8_t lacked[PROTO_HASHES_MAX / 8];
	struct platform primary = side(0);
	struct offer_answer a;
	struct message m, back;
	struct refusal why;
	struct offer *o;
	unsigned int asked = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(differ); i++)
		memory[1][differ[i] * PLATFORM_PAGE_BYTES + 4095] ^= 1;
	assert_int_equal(offer_open(&primary, SEED, pages, &o), 0);
	while (offer_ask(o, &m)) {
		assert_true(m.pages.count <= PROTO_HASHES_MAX);
		asked += m.pages.count;
		back = answer(&m, lacked);
		assert_int_equal(offer_answered(o, &back, &why), 0);
		assert_int_equal(offer_take(o, &a), 0);
		for (uint32_t i = 0; i < a.count; i++)
			if (a.lacked[i / 8] >> i % 8 & 1)
				bitmap_set(lacked_map, a.gfn + i);
	}
	assert_int_equal(offer_take(o, &a), -ENODATA);
	offer_close(o);
	assert_int_equal(asked, NR_GFNS - (HOLE_END - HOLE_FROM) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(differ); i++)
		assert_int_equal(bitmap_test(lacked_map, differ[i]), differ[i] != CLEAN_AT);
	assert_int_equal(bitmap_count(lacked_map, NR_GFNS), ARRAY_SIZE(differ) - 1);
}

/* Questions go out before answers come, and no more than may. */
static void test_pipeline(void **state)
{
	static uint64_t every_second[ARRAY_SIZE(pages)];
	uint8_t lacked[PROTO_HASHES_MAX / 8];
	struct platform primary = side(0);
	struct message m[PROTO_HASHES_OPEN], more, back;
	struct offer_answer a;
	struct refusal why;
	struct offer *o;

	(void)state;
	for (uint64_t gfn = 0; gfn < NR_GFNS; gfn += 2)
		bitmap_set(every_second, gfn); /* a question each */
	assert_int_equal(offer_open(&primary, SEED, every_second, &o), 0);
	for (unsigned int i = 0; i < PROTO_HASHES_OPEN; i++)
		assert_true(offer_ask(o, &m[i]));
	assert_false(offer_ask(o, &more));
	assert_int_equal(offer_take(o, &a), -EAGAIN);

	/* Out of order. */
	back = (struct message){ .type = PROTO_PAGES_LACKED, .pages = m[1].pages, .tail = lacked };
	back.tail_len = 1;
	memset(lacked, 0, sizeof(lacked));
	assert_true(offer_answered(o, &back, &why) < 0);
	assert_int_equal(why.code, PROTO_BAD_PAYLOAD);
	for (unsigned int i = 0; i < PROTO_HASHES_OPEN; i++) {
		back.pages = m[i].pages;
		assert_int_equal(offer_answered(o, &back, &why), 0);
	}
	/* One too many. */
	assert_true(offer_answered(o, &back, &why) < 0);
	assert_int_equal(why.code, PROTO_UNEXPECTED);
	for (unsigned int i = 0; i < PROTO_HASHES_OPEN; i++) {
		assert_int_equal(offer_take(o, &a), 0);
		assert_int_equal(a.gfn, 2 * i);
	}
	assert_true(offer_ask(o, &more));
	offer_close(o);
}

static void test_refusals(void **state)
{
	uint8_t hashes[2 * PROTO_HASH_BYTES] = { 0 }, lacked[PROTO_HASHES_MAX / 8];
	struct message m = { .type = PROTO_PAGE_HASHES,
			     .pages = { .gfn = NR_GFNS - 1, .count = 2 },
			     .tail = hashes,
			     .tail_len = sizeof(hashes) };
	struct platform p = side(0);
	struct refusal why;
	struct offer *o;

	(void)state;
	assert_true(offer_judge(&p, SEED, &m, lacked, &why) < 0);
	assert_int_equal(why.code, PROTO_BAD_PAGES);
	m.pages.gfn = HOLE_FROM - 1;
	assert_true(offer_judge(&p, SEED, &m, lacked, &why) < 0);
	assert_int_equal(why.code, PROTO_BAD_PAGES);
	m.pages.gfn = UINT64_MAX - 2;
	assert_true(offer_judge(&p, SEED, &m, lacked, &why) < 0);

	assert_int_equal(offer_open(&p, SEED, pages, &o), 0);
	m = (struct message){ .type = PROTO_ACK };
	assert_true(offer_answered(o, &m, &why) < 0);
	assert_int_equal(why.code, PROTO_UNEXPECTED);
	offer_close(o);
}

/* Another session has another seed: what was told in one proves nothing in the next. */
static void test_seed(void **state)
{
	uint8_t lacked[PROTO_HASHES_MAX / 8];
	struct platform p = side(0);
	struct refusal why;
	struct message m;
	struct offer *o;

	(void)state;
	assert_int_equal(offer_open(&p, SEED + 1, pages, &o), 0);
	assert_true(offer_ask(o, &m));
	assert_int_equal(offer_judge(&p, SEED, &m, lacked, &why), 0);
	for (uint32_t i = 0; i < m.pages.count; i++)
		assert_true(lacked[i / 8] >> i % 8 & 1);
	offer_close(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_differs, begin, end),
		cmocka_unit_test_setup_teardown(test_pipeline, begin, end),
		cmocka_unit_test_setup_teardown(test_refusals, begin, end),
		cmocka_unit_test_setup_teardown(test_seed, begin, end),
	};

	return test_main(tests);
}
