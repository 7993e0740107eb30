/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against hostile payloads: each is refused by name before the first record
 * is handed out; and the assembly of a state from its parts.
 */
#include "ha/decode.h"

#include "base/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define PAGE	PROTO_PAGE_BYTES
#define NR_GFNS 100u

static uint8_t bytes[2 * PROTO_PAYLOAD_MAX];
static unsigned handed_out;
static uint64_t gfns[PROTO_BATCH_PAGES];

static int note(void *opaque, const struct page_record *r)
{
	(void)opaque;
	gfns[handed_out++] = r->gfn;
	return 0;
}

static struct decoder *decoder(uint32_t codecs, bool delta)
{
	struct decode_options o = { .nr_gfns = NR_GFNS, .codecs = codecs, .delta = delta };
	struct decoder *d;

	assert_int_equal(decode_open(&d, &o), 0);
	return d;
}

static struct cursor head(unsigned codec, unsigned count, uint32_t raw_len)
{
	struct cursor c = cursor_over(bytes, sizeof(bytes));

	cursor_put_u8(&c, (uint8_t)codec);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, (uint16_t)count);
	cursor_put_u32(&c, raw_len);
	return c;
}

/* `step` is the varint as it stands on the wire, below 128. */
static void record(struct cursor *c, unsigned kind, unsigned step, unsigned len)
{
	cursor_put_u8(c, (uint8_t)kind);
	cursor_put_u8(c, (uint8_t)step);
	cursor_put_u16(c, (uint16_t)len);
	memset(cursor_put_room(c, len), 1, len);
}

/* Closes an uncompressed payload and hands it to a decoder. */
static void expect(struct cursor c, enum proto_code code, unsigned records)
{
	struct decoder *d = decoder(CODEC_ALL, true);
	size_t len = (size_t)(c.pos - bytes);
	struct cursor raw_len = cursor_over(bytes + 4, 4);
	int r;

	cursor_put_u32(&raw_len, (uint32_t)(len - PROTO_PAGES_HEAD));
	handed_out = 0;
	r = decode_pages(d, bytes, len, note, NULL);
	if (code == PROTO_OK) {
		assert_int_equal(r, records);
		assert_int_equal(handed_out, records);
	} else {
		assert_true(r < 0);
		assert_string_equal(proto_code_name(decode_refusal(d)->code),
				    proto_code_name(code));
		assert_int_equal(handed_out, 0);
	}
	decode_close(d);
}

static void test_gfn_steps(void **state)
{
	struct cursor c = head(CODEC_NONE, 4, 0);

	(void)state;
	record(&c, PROTO_PAGE_ZERO, 0, 0);     /* 0 */
	record(&c, PROTO_PAGE_ZERO, 4, 0);     /* 1 + 2 */
	record(&c, PROTO_PAGE_ZERO, 1, 0);     /* 4 - 1: the same once more */
	record(&c, PROTO_PAGE_WHOLE, 5, PAGE); /* 4 - 3 */
	expect(c, PROTO_OK, 4);
	assert_int_equal(gfns[0], 0);
	assert_int_equal(gfns[1], 3);
	assert_int_equal(gfns[2], 3);
	assert_int_equal(gfns[3], 1);
}

static void test_bad_records(void **state)
{
	static const struct {
		unsigned kind, step, len;
	} bad[] = {
		{ PROTO_PAGE_ZERO, 1, 0 }, /* gfn -1 */
		{ PROTO_PAGE_ZERO, 0, 1 }, /* a zero page with bytes */
		{ PROTO_PAGE_WHOLE, 0, PAGE - 1 },
		{ PROTO_PAGE_WHOLE, 0, PAGE + 1 },
		{ PROTO_PAGE_WHOLE, 0, 0 },
		{ PROTO_PAGE_DELTA, 0, 0 },
		{ PROTO_PAGE_DELTA, 0, 4 }, /* a run of 0x0101 bytes that are not there */
		{ PROTO_PAGE_DELTA, 0, PROTO_DELTA_MAX + 1 },
		{ 3, 0, 0 },
		{ 255, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* Behind a good record: that one must not come out either. */
		struct cursor c = head(CODEC_NONE, 2, 0);

		record(&c, PROTO_PAGE_ZERO, bad[i].step == 1 ? 0 : 2, 0);
		record(&c, bad[i].kind, bad[i].step == 1 ? 3 : bad[i].step, bad[i].len);
		expect(c, PROTO_BAD_PAGES, 0);
	}
}

static void test_gfn_limit(void **state)
{
	struct cursor c = head(CODEC_NONE, 2, 0);

	(void)state;
	record(&c, PROTO_PAGE_ZERO, 2 * 50, 0);
	record(&c, PROTO_PAGE_ZERO, 2 * 48, 0); /* gfn 99 */
	expect(c, PROTO_OK, 2);
	c = head(CODEC_NONE, 2, 0);
	record(&c, PROTO_PAGE_ZERO, 2 * 50, 0);
	record(&c, PROTO_PAGE_ZERO, 2 * 49, 0); /* gfn 100 */
	expect(c, PROTO_BAD_PAGES, 0);
}

static void test_varints(void **state)
{
	struct cursor c = head(CODEC_NONE, 1, 0);

	(void)state;
	/* Ten bytes that say more than 64 bits, and eleven. */
	cursor_put_u8(&c, PROTO_PAGE_ZERO);
	for (int i = 0; i < 9; i++)
		cursor_put_u8(&c, 0x80);
	cursor_put_u8(&c, 2);
	cursor_put_u16(&c, 0);
	expect(c, PROTO_BAD_PAGES, 0);
	c = head(CODEC_NONE, 1, 0);
	cursor_put_u8(&c, PROTO_PAGE_ZERO);
	for (int i = 0; i < 40; i++)
		cursor_put_u8(&c, 0x80);
	expect(c, PROTO_BAD_PAGES, 0);
}

static void test_counts(void **state)
{
	struct cursor c = head(CODEC_NONE, 0, 0);

	(void)state;
	expect(c, PROTO_BAD_PAGES, 0);
	c = head(CODEC_NONE, PROTO_BATCH_PAGES + 1, 0);
	for (unsigned i = 0; i <= PROTO_BATCH_PAGES; i++)
		record(&c, PROTO_PAGE_ZERO, i ? 1 : 0, 0);
	expect(c, PROTO_BAD_PAGES, 0);
	c = head(CODEC_NONE, 1, 0); /* more records than counted */
	record(&c, PROTO_PAGE_ZERO, 0, 0);
	record(&c, PROTO_PAGE_ZERO, 0, 0);
	expect(c, PROTO_BAD_PAGES, 0);
	c = head(CODEC_NONE, 3, 0); /* fewer */
	record(&c, PROTO_PAGE_ZERO, 0, 0);
	expect(c, PROTO_BAD_PAGES, 0);
	for (size_t len = 0; len < PROTO_PAGES_HEAD; len++) {
		c = head(CODEC_NONE, 1, 0);
		c.pos = bytes + len;
		struct decoder *d = decoder(CODEC_ALL, true);

		assert_true(decode_pages(d, bytes, len, note, NULL) < 0);
		decode_close(d);
	}
}

static int refuse(struct decoder *d, size_t len, enum proto_code code)
{
	handed_out = 0;
	assert_true(decode_pages(d, bytes, len, note, NULL) < 0);
	assert_string_equal(proto_code_name(decode_refusal(d)->code), proto_code_name(code));
	assert_int_equal(handed_out, 0);
	return 0;
}

static void test_codecs(void **state)
{
	struct decoder *d = decoder(1u << CODEC_ZSTD, false);
	uint8_t raw[8] = { PROTO_PAGE_ZERO, 0, 0, 0, PROTO_PAGE_ZERO, 0, 0, 0 };
	struct codec *zstd;
	size_t len = 4096;

	(void)state;
	assert_int_equal(codec_open(&zstd, CODEC_ZSTD), 0);
	head(CODEC_ZSTD, 2, sizeof(raw));
	assert_int_equal(codec_compress(zstd, raw, sizeof(raw), bytes + PROTO_PAGES_HEAD, &len), 0);
	len += PROTO_PAGES_HEAD;
	handed_out = 0;
	assert_int_equal(decode_pages(d, bytes, len, note, NULL), 2);
	refuse(d, len - 1, PROTO_BAD_PAGES);
	head(CODEC_ZSTD, 2, sizeof(raw) + 1);
	refuse(d, len, PROTO_BAD_PAGES);
	head(CODEC_ZSTD, 2, PROTO_PAYLOAD_MAX + 1);
	refuse(d, len, PROTO_TOO_LARGE);
	head(CODEC_LZ4, 2, sizeof(raw)); /* known, but not negotiated */
	refuse(d, len, PROTO_BAD_CODEC);
	head(200, 2, sizeof(raw));
	refuse(d, len, PROTO_BAD_CODEC);
	head(CODEC_ZSTD, 2, sizeof(raw));
	bytes[1] = 1;
	refuse(d, len, PROTO_BAD_PAGES);
	codec_close(zstd);
	decode_close(d);
}

static void test_delta_not_negotiated(void **state)
{
	struct decoder *d = decoder(CODEC_ALL, false);
	static const uint8_t delta[5] = { 0, 0, 1, 0, 7 };
	struct cursor c = head(CODEC_NONE, 1, 9);

	(void)state;
	cursor_put_u8(&c, PROTO_PAGE_DELTA);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, sizeof(delta));
	cursor_put_bytes(&c, delta, sizeof(delta));
	refuse(d, PROTO_PAGES_HEAD + 9, PROTO_BAD_PAGES);
	decode_close(d);
	expect(c, PROTO_OK, 1);
}

static int stop(void *opaque, const struct page_record *r)
{
	(void)opaque, (void)r;
	return -EIO;
}

static void test_callback_stops(void **state)
{
	struct decoder *d = decoder(CODEC_ALL, true);
	struct cursor c = head(CODEC_NONE, 1, 4);

	(void)state;
	record(&c, PROTO_PAGE_ZERO, 0, 0);
	assert_int_equal(decode_pages(d, bytes, PROTO_PAGES_HEAD + 4, stop, NULL), -EIO);
	decode_close(d);
}

static struct message part(uint32_t offset, uint32_t total, const char *text)
{
	return (struct message){ .type = PROTO_STATE,
				 .state = { .offset = offset, .total = total },
				 .tail = text,
				 .tail_len = (uint32_t)strlen(text) };
}

static void test_state(void **state)
{
	struct state_assembly a, before;
	struct refusal why;
	struct message m;
	uint8_t room[8];

	(void)state;
	state_assembly_init(&a, room, sizeof(room));
	assert_false(state_assembly_whole(&a));
	m = part(0, 8, "abc");
	assert_int_equal(state_assembly_add(&a, &m, &why), 0);
	before = a;
	assert_true(state_assembly_add(&a, &m, &why) < 0); /* twice */
	m = part(4, 8, "d");				   /* a gap */
	assert_true(state_assembly_add(&a, &m, &why) < 0);
	m = part(3, 7, "defg"); /* another total */
	assert_true(state_assembly_add(&a, &m, &why) < 0);
	m = part(3, 8, "defghi"); /* beyond the total */
	assert_true(state_assembly_add(&a, &m, &why) < 0);
	assert_memory_equal(&a, &before, sizeof(a));
	m = part(3, 8, "defgh");
	assert_int_equal(state_assembly_add(&a, &m, &why), 0);
	assert_true(state_assembly_whole(&a));
	assert_memory_equal(room, "abcdefgh", 8);
	state_assembly_init(&a, room, sizeof(room));
	m = part(0, 9, "a");
	assert_int_equal(state_assembly_add(&a, &m, &why), -EMSGSIZE);
	assert_int_equal(why.code, PROTO_TOO_LARGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gfn_steps),
		cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_gfn_limit),
		cmocka_unit_test(test_varints),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_codecs),
		cmocka_unit_test(test_delta_not_negotiated),
		cmocka_unit_test(test_callback_stops),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
