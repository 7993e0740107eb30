/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-replica/region_sets.h: what one host says of its regions is what the other reads, for
 * disks of any size; a text that is anything else is refused and changes nothing (P4).
 */
#include "tests/lib/test.h"

#include <openssl/evp.h>
#include <string.h>
#include <zlib.h>

#include "base/bitmap.h"
#include "disk-replica/region_sets.h"

#define R (UINT64_C(1) << 16)

static struct region_sets sets, other;
static struct reason why;
static uint64_t random_state = 1;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

static void open_both(const uint64_t *bytes, unsigned int nr)
{
	assert_int_equal(region_sets_open(&sets, bytes, nr), 0);
	assert_int_equal(region_sets_open(&other, bytes, nr), 0);
}

static int teardown(void **state)
{
	(void)state;
	region_sets_close(&sets);
	region_sets_close(&other);
	return 0;
}

static void expect_same(void)
{
	for (unsigned int i = 0; i < sets.nr_disks; i++)
		assert_memory_equal(sets.bits[i], other.bits[i],
				    bitmap_bytes(region_count(sets.disk_bytes[i])));
}

static void test_sizes(void **state)
{
	static const uint64_t bytes[DISK_MAX] = {
		0, 1, R, R + 1, 262144 * R, 262144 * R + 1, UINT64_C(1) << 62, UINT64_MAX / 2
	};
	cleanup_free char *text = NULL;
	uint64_t all = 0;

	(void)state;
	open_both(bytes, DISK_MAX);
	assert_int_equal(region_sets_bytes(&sets), 0);
	region_sets_fill(&sets);
	for (unsigned int i = 0; i < DISK_MAX; i++) {
		all += bytes[i];
		assert_true(region_count(bytes[i]) <= REGION_COUNT_MAX);
		assert_int_equal(bitmap_count(sets.bits[i], region_count(bytes[i])),
				 region_count(bytes[i]));
	}
	assert_int_equal(region_sets_bytes(&sets), all);
	assert_int_equal(region_sets_to_text(&sets, &text), 0);
	assert_int_equal(region_sets_from_text(&other, text, &why), 0);
	expect_same();
}

/* The last region counts with what there is of it. */
static void test_bytes(void **state)
{
	static const uint64_t bytes[] = { 10 * R + 100, 3 * R };

	(void)state;
	open_both(bytes, 2);
	bitmap_set(sets.bits[0], 10);
	assert_int_equal(region_sets_bytes(&sets), 100);
	bitmap_set(sets.bits[0], 0);
	bitmap_set(sets.bits[1], 2);
	assert_int_equal(region_sets_bytes(&sets), 2 * R + 100);
}

static void test_round_trip(void **state)
{
	for (unsigned int n = 0; n < 100; n++) {
		unsigned int nr = draw(DISK_MAX + 1);
		cleanup_free char *text = NULL;
		uint64_t bytes[DISK_MAX];

		for (unsigned int i = 0; i < nr; i++)
			bytes[i] = draw(400) * R + draw(R);
		open_both(bytes, nr);
		for (unsigned int i = 0; i < nr; i++) {
			uint64_t count = region_count(bytes[i]);

			for (uint64_t k = 0; k < count; k += 1 + draw(30))
				bitmap_set(sets.bits[i], k);
			if (count)
				bitmap_set(other.bits[i], draw((uint32_t)count)); /* to be lost */
		}
		assert_int_equal(region_sets_to_text(&sets, &text), 0);
		assert_int_equal(region_sets_from_text(&other, text, &why), 0);
		expect_same();
		assert_int_equal(teardown(state), 0);
	}
}

/* --- refused ---------------------------------------------------------------------- */

static const uint64_t two[] = { 1000 * R, 77 * R };

static void refused(const char *text)
{
	memset(&why, 0, sizeof(why));
	if (region_sets_from_text(&other, text, &why) != -EPROTO)
		fail_msg("taken: %.60s", text);
	assert_true(why.text[0]);
	assert_int_equal(region_sets_bytes(&other), R); /* as it was */
}

static void test_bad_texts(void **state)
{
	static const char *const bad[] = { "",	   "A",	       "AAAA",	       "====",
					   "....", "eJwDAA==", "eJwDAAAAAAE=", "\xff\xff\xff\xff" };
	cleanup_free char *text = NULL, *other_text = NULL, *longer = NULL;
	static const uint64_t one_more[] = { 1000 * R, 77 * R, R }, fewer[] = { 1000 * R };
	struct region_sets s;
	size_t len;

	(void)state;
	open_both(two, 2);
	for (uint64_t k = 0; k < 1000; k += 1 + draw(9))
		bitmap_set(sets.bits[0], k);
	bitmap_set(other.bits[1], 5);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		refused(bad[i]);
	assert_int_equal(region_sets_to_text(&sets, &text), 0);
	len = strlen(text);
	/* Cut short anywhere; any one character another. */
	for (size_t n = 0; n < len; n++) {
		char *cut = strndup(text, n), was = text[n];

		refused(cut);
		free(cut);
		text[n] = was == 'A' ? 'B' : 'A';
		if (was != '=' && n + 3 < len)
			refused(text);
		text[n] = was;
	}
	/* With more behind it. */
	longer = malloc(len + 5);
	sprintf(longer, "%sAAAA", text);
	refused(longer);
	/* Of other disks. */
	assert_int_equal(region_sets_open(&s, one_more, 3), 0);
	assert_int_equal(region_sets_to_text(&s, &other_text), 0);
	refused(other_text);
	region_sets_close(&s);
	free(take_ptr(&other_text));
	assert_int_equal(region_sets_open(&s, fewer, 1), 0);
	assert_int_equal(region_sets_to_text(&s, &other_text), 0);
	refused(other_text);
	region_sets_close(&s);
	assert_int_equal(region_sets_from_text(&other, text, &why), 0);
	expect_same();
}

static char *packed_text(const void *raw, size_t len, size_t behind)
{
	uLongf n = compressBound(len);
	uint8_t *packed = calloc(1, n + behind);
	char *text = malloc((n + behind + 2) / 3 * 4 + 1);

	assert_int_equal(compress2(packed, &n, raw, len, 9), Z_OK);
	EVP_EncodeBlock((unsigned char *)text, packed, (int)(n + behind));
	free(packed);
	return text;
}

/* A small text that would become very large; and zlib's stream with something behind it. */
static void test_not_that_much(void **state)
{
	size_t len = (1000 + 63) / 64 * 8 + 2 * 8, large = 64 << 20;
	uint8_t *raw = calloc(1, large);
	cleanup_free char *bomb = packed_text(raw, large, 0), *more = packed_text(raw, len + 8, 0),
			  *less = packed_text(raw, len - 8, 0), *behind = packed_text(raw, len, 6);

	(void)state;
	open_both(two, 2);
	bitmap_set(other.bits[1], 5);
	refused(bomb);
	refused(more);
	refused(less);
	refused(behind);
	free(raw);
}

/* The other host may say what it likes of regions that are none. */
static void test_bits_beyond(void **state)
{
	uint8_t raw[(1000 + 63) / 64 * 8 + 2 * 8];
	cleanup_free char *text = NULL;

	(void)state;
	open_both(two, 2);
	memset(raw, 0xff, sizeof(raw));
	text = packed_text(raw, sizeof(raw), 0);
	assert_int_equal(region_sets_from_text(&other, text, &why), 0);
	region_sets_fill(&sets);
	expect_same();
	assert_int_equal(other.bits[0][1000 / 64] >> 1000 % 64, 0);
	assert_int_equal(other.bits[1][1] >> (77 - 64), 0);
}

static void test_token(void **state)
{
	static const char *const bad[] = {
		"",
		"0123456789abcdef0123456789abcde",
		"0123456789abcdef0123456789abcdef0",
		"0123456789ABCDEF0123456789abcdef",
		"0123456789abcdef 123456789abcdef",
		"0123456789abcdef0123456789abcdeg",
		"0x23456789abcdef0123456789abcdef",
	};
	uint8_t token[REGION_TOKEN_BYTES], back[REGION_TOKEN_BYTES] = "unchanged";
	char text[REGION_TOKEN_TEXT];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(region_token_from_text(bad[i], back));
	assert_string_equal((char *)back, "unchanged");
	for (unsigned int i = 0; i < sizeof(token); i++)
		token[i] = (uint8_t)(i * 17 + 3);
	region_token_to_text(token, text);
	assert_int_equal(strlen(text), 32);
	assert_true(region_token_from_text(text, back));
	assert_memory_equal(token, back, sizeof(token));
}

#define TEST(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),     TEST(test_bytes),		TEST(test_round_trip),
		TEST(test_bad_texts), TEST(test_not_that_much), TEST(test_bits_beyond),
		TEST(test_token),
	};

	return test_main(tests);
}
