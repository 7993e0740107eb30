/* SPDX-License-Identifier: Apache-2.0 */
/* base/cursor.h: little-endian on every machine, and never a byte beyond the end. */
#include "tests/lib/test.h"

#include <string.h>

#include "base/cursor.h"

static void test_little_endian(void **state)
{
	static const uint8_t want[] = { 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
					0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 'x' };
	uint8_t buf[sizeof(want)];
	struct cursor put = cursor_over(buf, sizeof(buf)), get = cursor_over(buf, sizeof(buf));
	char x;

	(void)state;
	cursor_put_u8(&put, 0x01);
	cursor_put_u16(&put, 0x0203);
	cursor_put_u32(&put, 0x04050607);
	cursor_put_u64(&put, UINT64_C(0x08090a0b0c0d0e0f));
	cursor_put_bytes(&put, "x", 1);
	assert_true(cursor_done(&put));
	assert_memory_equal(buf, want, sizeof(want));
	assert_int_equal(cursor_get_u8(&get), 0x01);
	assert_int_equal(cursor_get_u16(&get), 0x0203);
	assert_int_equal(cursor_get_u32(&get), 0x04050607);
	assert_false(cursor_done(&get));
	assert_int_equal(cursor_get_u64(&get), UINT64_C(0x08090a0b0c0d0e0f));
	cursor_get_bytes(&get, &x, 1);
	assert_int_equal(x, 'x');
	assert_true(cursor_done(&get));
}

/* Each get, one byte short: 0, bad, and bad for good, although a byte would be left. */
static void test_short_reads_turn_bad(void **state)
{
	static const uint8_t bytes[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct cursor c;

	(void)state;
	c = cursor_over(bytes, 7);
	assert_int_equal(cursor_get_u64(&c), 0);
	assert_false(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(cursor_get_u8(&c), 0);
	c = cursor_over(bytes, 3);
	assert_int_equal(cursor_get_u32(&c), 0);
	c = cursor_over(bytes, 1);
	assert_int_equal(cursor_get_u16(&c), 0);
	c = cursor_over(bytes, 0);
	assert_int_equal(cursor_get_u8(&c), 0);
	assert_false(cursor_ok(&c));
	c = cursor_over(bytes, 8);
	assert_null(cursor_get_view(&c, SIZE_MAX));
	assert_false(cursor_done(&c));
}

static void test_failed_get_leaves_the_result(void **state)
{
	struct cursor c = cursor_over("ab", 2);
	char out[4] = "123";

	(void)state;
	cursor_get_bytes(&c, out, 3);
	assert_string_equal(out, "123");
	assert_false(cursor_ok(&c));
}

static void test_short_puts_write_nothing(void **state)
{
	uint8_t buf[8];
	struct cursor c = cursor_over(buf, 3);

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	cursor_put_u32(&c, 0);
	cursor_put_u8(&c, 0);
	assert_false(cursor_ok(&c));
	assert_null(cursor_put_room(&c, 1));
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0xee);
}

static void test_views(void **state)
{
	const char *text = "hello";
	struct cursor c = cursor_over(text, 5);

	(void)state;
	assert_ptr_equal(cursor_get_view(&c, 2), text);
	assert_ptr_equal(cursor_get_view(&c, 0), text + 2);
	assert_int_equal(cursor_left(&c), 3);
	assert_ptr_equal(cursor_get_view(&c, 3), text + 2);
	assert_true(cursor_done(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_little_endian),
		cmocka_unit_test(test_short_reads_turn_bad),
		cmocka_unit_test(test_failed_get_leaves_the_result),
		cmocka_unit_test(test_short_puts_write_nothing),
		cmocka_unit_test(test_views),
	};

	return test_main(tests);
}
