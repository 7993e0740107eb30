/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs: there and back, bounded both ways, nothing but the exact size accepted. */
#include "ha/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define RAW (64u << 10)

static uint8_t raw[RAW], packed[2 * RAW], back[RAW + 64];

/* Half text, half noise: compresses, but not to nothing. */
static void fill(void)
{
	uint32_t x = 1;

	for (unsigned i = 0; i < RAW; i++) {
		x = x * 1664525 + 1013904223;
		raw[i] = i & 64 ? (uint8_t)(x >> 24) : (uint8_t)("checkpoint"[i % 10]);
	}
}

static void test_round_trip(void **state)
{
	static const size_t lens[] = { 1, 7, 4096, RAW };

	(void)state;
	fill();
	for (unsigned id = 0; id < CODEC_COUNT; id++) {
		struct codec *c;

		assert_int_equal(codec_open(&c, id), 0);
		for (unsigned round = 0; round < 3; round++)
			for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
				size_t out = sizeof(packed);

				assert_int_equal(codec_compress(c, raw, lens[i], packed, &out), 0);
				memset(back, 0xee, sizeof(back));
				assert_int_equal(codec_decompress(c, packed, out, back, lens[i]),
						 0);
				assert_memory_equal(back, raw, lens[i]);
				assert_int_equal(back[lens[i]], 0xee);
			}
		codec_close(c);
	}
}

static void test_bounds(void **state)
{
	(void)state;
	fill();
	for (unsigned id = 0; id < CODEC_COUNT; id++) {
		struct codec *c;
		size_t out = 100, len = sizeof(packed);

		assert_int_equal(codec_open(&c, id), 0);
		packed[100] = 0xee;
		assert_int_equal(codec_compress(c, raw, RAW, packed, &out), -ENOSPC);
		assert_int_equal(out, 100);
		assert_int_equal(packed[100], 0xee);

		assert_int_equal(codec_compress(c, raw, RAW, packed, &len), 0);
		memset(back, 0xee, sizeof(back));
		/* One byte more or less than the truth, a cut, and trailing bytes. */
		assert_int_equal(codec_decompress(c, packed, len, back, RAW - 1), -EBADMSG);
		assert_int_equal(back[RAW - 1], 0xee);
		assert_int_equal(codec_decompress(c, packed, len, back, RAW + 1), -EBADMSG);
		assert_int_equal(codec_decompress(c, packed, len - 1, back, RAW), -EBADMSG);
		packed[len] = 0;
		assert_int_equal(codec_decompress(c, packed, len + 1, back, RAW), -EBADMSG);
		assert_int_equal(codec_decompress(c, packed, 0, back, RAW), -EBADMSG);
		/* And after all that it still works. */
		assert_int_equal(codec_decompress(c, packed, len, back, RAW), 0);
		codec_close(c);
	}
}

static void test_damage(void **state)
{
	(void)state;
	fill();
	for (unsigned id = 1; id < CODEC_COUNT; id++) {
		struct codec *c;
		size_t len = sizeof(packed);

		assert_int_equal(codec_open(&c, id), 0);
		assert_int_equal(codec_compress(c, raw, 4096, packed, &len), 0);
		memset(back, 0xee, sizeof(back));
		for (size_t i = 0; i < len; i++) {
			packed[i] ^= 0x55;
			codec_decompress(c, packed, len, back, 4096);
			assert_int_equal(back[4096], 0xee);
			packed[i] ^= 0x55;
		}
		codec_close(c);
	}
}

static void test_names(void **state)
{
	struct codec *c;

	(void)state;
	assert_string_equal(codec_name(CODEC_ZSTD), "zstd");
	assert_null(codec_name(CODEC_COUNT));
	assert_int_equal(codec_by_name("zlib"), CODEC_ZLIB);
	assert_int_equal(codec_by_name("lzo"), -EINVAL);
	assert_int_equal(codec_open(&c, CODEC_COUNT), -EINVAL);
	assert_int_equal(codec_choose(CODEC_ZSTD, CODEC_ALL, CODEC_ALL), CODEC_ZSTD);
	assert_int_equal(codec_choose(CODEC_ZSTD, CODEC_ALL, 1 | 2), CODEC_LZ4);
	assert_int_equal(codec_choose(CODEC_ZSTD, CODEC_ALL, 0), CODEC_NONE);
	assert_int_equal(codec_choose(99, CODEC_ALL, CODEC_ALL), CODEC_LZ4);
	codec_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
