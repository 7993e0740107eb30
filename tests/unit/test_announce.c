/* SPDX-License-Identifier: Apache-2.0 */
/* netbuf/announce.h: every frame byte by byte, as the RFCs and other implementations have it. */
#include "tests/lib/test.h"

#include <string.h>

#include "base/err.h"
#include "netbuf/announce.h"

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x77, 0x01, 0x00 };
static const uint8_t v4[4] = { 10, 0, 0, 5 };

static void test_arp(void **state)
{
	static const uint8_t expected[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x77, 0x01, 0x00, 0x08, 0x06,
		0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x52, 0x54, 0x00, 0x77, 0x01, 0x00,
		0x0a, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x05,
	};
	uint8_t frame[ANNOUNCE_FRAME_MAX];

	(void)state;
	assert_int_equal(announce_arp(frame, mac, v4), 60);
	assert_memory_equal(frame, expected, sizeof(expected));
	assert_int_equal(announce_arp_reply(frame, mac, v4), 60);
	assert_int_equal(frame[21], 2);
	assert_memory_equal(frame + 22, mac, 6);
	assert_memory_equal(frame + 32, mac, 6);
	assert_memory_equal(frame + 38, v4, 4);
}

static void test_rarp(void **state)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];

	(void)state;
	assert_int_equal(announce_rarp(frame, mac), 60);
	assert_int_equal(frame[12] << 8 | frame[13], 0x8035);
	assert_int_equal(frame[21], 3);
	assert_memory_equal(frame + 22, mac, 6);
	assert_memory_equal(frame + 32, mac, 6);
}

/* The receiver's check: the sum over pseudo-header and message, its checksum included, is 0. */
static uint32_t sum(const uint8_t *p, size_t len)
{
	uint32_t total = 0;

	for (size_t i = 0; i < len; i += 2)
		total += (uint32_t)(p[i] << 8 | p[i + 1]);
	return total;
}

static void test_neighbour(void **state)
{
	static const uint8_t v6[16] = { 0xfe, 0x80, 0,	  0,	0,    0,    0,	  0,
					0x50, 0x54, 0x00, 0xff, 0xfe, 0x77, 0x01, 0x00 };
	uint8_t frame[ANNOUNCE_FRAME_MAX];
	uint32_t total;

	(void)state;
	assert_int_equal(announce_neighbour(frame, mac, v6), 86);
	assert_int_equal(frame[0] << 8 | frame[1], 0x3333);
	assert_int_equal(frame[5], 1);
	assert_int_equal(frame[14], 0x60);
	assert_int_equal(frame[18] << 8 | frame[19], 32);
	assert_int_equal(frame[21], 255);
	assert_int_equal(frame[38], 0xff);
	assert_int_equal(frame[53], 1);
	assert_int_equal(frame[54], 136);
	assert_int_equal(frame[58], 0x20); /* override, neither solicited nor router */
	assert_memory_equal(frame + 62, v6, 16);
	assert_int_equal(frame[78], 2);
	assert_int_equal(frame[79], 1);
	assert_memory_equal(frame + 80, mac, 6);
	total = sum(frame + 22, 32) + 58 + 32 + sum(frame + 54, 32);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	assert_int_equal(total, 0xffff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp),
		cmocka_unit_test(test_rarp),
		cmocka_unit_test(test_neighbour),
	};

	return test_main(tests);
}
