/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoder against the decoder: a backup that applies what is emitted has, after each
 * flush, the memory that the primary gave; whatever the codec, the cache and the changes.
 */
#include "ha/decode.h"
#include "ha/encode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define PAGE  PROTO_PAGE_BYTES
#define PAGES 700u

static uint8_t primary[PAGES][PAGE], backup[PAGES][PAGE];
static uint32_t seed = 7;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

struct link {
	struct decoder *decoder;
	unsigned records;
	unsigned batches;
	uint32_t largest;
	int fail;
};

static int apply(void *opaque, const struct page_record *r)
{
	struct link *l = opaque;

	assert_true(r->gfn < PAGES);
	l->records++;
	return decode_apply(backup[r->gfn], r);
}

static int deliver(void *opaque, const void *payload, uint32_t len, unsigned records)
{
	struct link *l = opaque;

	if (l->fail)
		return l->fail;
	assert_true(len <= PROTO_PAYLOAD_MAX);
	assert_true(records > 0 && records <= PROTO_BATCH_PAGES);
	assert_int_equal(decode_pages(l->decoder, payload, len, apply, l), records);
	l->batches++;
	l->largest = MAX(l->largest, len);
	return 0;
}

static void open_pair(struct link *l, struct encoder **e, enum codec_id codec, uint64_t cache_bytes)
{
	struct decode_options d = { .nr_gfns = PAGES, .codecs = 1u << codec, .delta = true };
	struct encode_options o = { .codec = codec,
				    .delta = true,
				    .cache_bytes = cache_bytes,
				    .emit = deliver,
				    .opaque = l };

	memset(l, 0, sizeof(*l));
	assert_int_equal(decode_open(&l->decoder, &d), 0);
	assert_int_equal(encode_open(e, &o), 0);
	memset(backup, 0xdd, sizeof(backup));
}

static void close_pair(struct link *l, struct encoder *e)
{
	encode_close(e);
	decode_close(l->decoder);
}

static void change(uint8_t *page)
{
	switch (rnd(6)) {
	case 0:
		memset(page, 0, PAGE);
		break;
	case 1:
		for (unsigned i = 0; i < PAGE; i++)
			page[i] = (uint8_t)rnd(256);
		break;
	case 2:
		for (unsigned i = 0; i < PAGE; i++)
			page[i] = (uint8_t)("a page of text "[i % 15]);
		break;
	case 3:
		break; /* dirty, and yet the same */
	default:
		for (unsigned n = rnd(20); n; n--)
			page[rnd(PAGE)] = (uint8_t)rnd(256);
	}
}

static void round_of(struct encoder *e, unsigned n)
{
	while (n--) {
		unsigned gfn = rnd(PAGES);

		change(primary[gfn]);
		assert_int_equal(encode_page(e, gfn, primary[gfn]), 0);
	}
	assert_int_equal(encode_flush(e), 0);
}

static void test_memory_agrees(void **state)
{
	static const uint64_t caches[] = { 0, 40 * PAGE, 4 * PAGES * PAGE };

	(void)state;
	for (unsigned codec = 0; codec < CODEC_COUNT; codec++)
		for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
			const struct encode_counters *c;
			struct encoder *e;
			struct link l;

			open_pair(&l, &e, codec, caches[i]);
			for (unsigned gfn = 0; gfn < PAGES; gfn++)
				assert_int_equal(encode_page(e, gfn, primary[gfn]), 0);
			assert_int_equal(encode_flush(e), 0);
			assert_memory_equal(primary, backup, sizeof(primary));
			for (unsigned round = 0; round < 12; round++) {
				round_of(e, 300);
				assert_memory_equal(primary, backup, sizeof(primary));
			}
			c = encode_counters(e);
			assert_int_equal(c->pages_zero + c->pages_whole + c->pages_delta,
					 l.records);
			assert_int_equal(c->bytes_raw, (PAGES + 12 * 300) * UINT64_C(4096));
			assert_int_equal(c->batches, l.batches);
			assert_int_equal(c->pages_delta > 0, caches[i] > 0);
			assert_int_equal(c->pages_same > 0, caches[i] > 0);
			close_pair(&l, e);
		}
}

static void test_kinds(void **state)
{
	static uint8_t page[PAGE];
	const struct encode_counters *c;
	struct encoder *e;
	struct link l;

	(void)state;
	open_pair(&l, &e, CODEC_NONE, 64 * PAGE);
	c = encode_counters(e);
	memset(page, 0, PAGE);
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_zero, 1);
	page[7] = 1;
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_whole, 1);
	page[8] = 2;
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_delta, 1);
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_same, 1);
	memset(page, 0, PAGE);
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_zero, 2);
	page[0] = 9; /* against the zeroes that were sent */
	assert_int_equal(encode_page(e, 1, page), 0);
	assert_int_equal(c->pages_delta, 2);
	assert_int_equal(encode_flush(e), 0);
	assert_memory_equal(backup[1], page, PAGE);
	assert_int_equal(l.batches, 1);
	/* The whole batch: head, five records' heads, 4096 + 5 + 5 bytes. */
	assert_int_equal(l.largest, 8 + 5 * 4 + 4096 + 5 + 5);
	assert_int_equal(encode_flush(e), 0);
	assert_int_equal(l.batches, 1);
	close_pair(&l, e);
}

/* After a reset nothing refers to what an earlier connection carried. */
static void test_reset(void **state)
{
	struct encoder *e;
	struct link l;

	(void)state;
	open_pair(&l, &e, CODEC_LZ4, 4 * PAGES * PAGE);
	round_of(e, 500);
	encode_page(e, 3, primary[3]); /* waits, and is forgotten */
	encode_reset(e);
	memset(backup, 0x11, sizeof(backup));
	l.records = 0;
	assert_int_equal(encode_flush(e), 0);
	assert_int_equal(l.records, 0);
	for (unsigned gfn = 0; gfn < PAGES; gfn++)
		assert_int_equal(encode_page(e, gfn, primary[gfn]), 0);
	assert_int_equal(encode_flush(e), 0);
	assert_memory_equal(primary, backup, sizeof(primary));
	close_pair(&l, e);
}

static void test_failing_emit(void **state)
{
	struct encoder *e;
	struct link l;

	(void)state;
	open_pair(&l, &e, CODEC_LZ4, 64 * PAGE);
	assert_int_equal(encode_page(e, 3, primary[3]), 0);
	l.fail = -EPIPE;
	assert_int_equal(encode_flush(e), -EPIPE);
	l.fail = 0;
	/* The cache says that page 3 was sent: nothing may come out before a reset. */
	assert_int_equal(encode_page(e, 3, primary[3]), -EPIPE);
	assert_int_equal(encode_flush(e), -EPIPE);
	encode_reset(e);
	assert_int_equal(encode_page(e, 3, primary[3]), 0);
	assert_int_equal(encode_flush(e), 0);
	assert_memory_equal(primary[3], backup[3], PAGE);
	close_pair(&l, e);
}

/* Noise is sent as it is; text is compressed; both decided by a look at the batch. */
static void test_adaptive(void **state)
{
	(void)state;
	for (unsigned codec = 1; codec < CODEC_COUNT; codec++) {
		const struct encode_counters *c;
		struct encoder *e;
		struct link l;
		uint64_t wire;

		open_pair(&l, &e, codec, 0);
		c = encode_counters(e);
		for (unsigned gfn = 0; gfn < PAGES; gfn++) {
			for (unsigned i = 0; i < PAGE; i++)
				primary[gfn][i] = (uint8_t)rnd(256);
			assert_int_equal(encode_page(e, gfn, primary[gfn]), 0);
		}
		assert_int_equal(encode_flush(e), 0);
		assert_int_equal(c->batches_plain, c->batches);
		wire = c->bytes_wire;
		assert_true(wire < c->bytes_raw + c->bytes_raw / 100);
		for (unsigned gfn = 0; gfn < PAGES; gfn++) {
			memset(primary[gfn], 'x', PAGE);
			assert_int_equal(encode_page(e, gfn, primary[gfn]), 0);
		}
		assert_int_equal(encode_flush(e), 0);
		assert_true(c->batches > c->batches_plain);
		assert_true(c->bytes_wire - wire < PAGES * PAGE / 20);
		assert_memory_equal(primary, backup, sizeof(primary));
		close_pair(&l, e);
	}
}

static int ignore(void *opaque, const void *payload, uint32_t len, unsigned records)
{
	(void)opaque, (void)payload, (void)len, (void)records;
	return 0;
}

/* Any gfn that 64 bits can say: steps forward, back, and around. */
static void test_gfns(void **state)
{
	static const uint64_t gfns[] = { 0, 1, 2, 1000, 999, 5, UINT64_C(1) << 28, 0, 700 };
	struct encode_options o = {
		.codec = CODEC_NONE, .delta = true, .cache_bytes = 64 * PAGE, .emit = ignore
	};
	struct encoder *e;

	(void)state;
	assert_int_equal(encode_open(&e, &o), 0);
	for (size_t i = 0; i < ARRAY_SIZE(gfns); i++)
		assert_int_equal(encode_page(e, gfns[i], primary[0]), 0);
	assert_int_equal(encode_flush(e), 0);
	encode_close(e);
	encode_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_agrees), cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_reset),	      cmocka_unit_test(test_failing_emit),
		cmocka_unit_test(test_adaptive),      cmocka_unit_test(test_gfns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
