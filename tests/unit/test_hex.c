/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/hex.h"

#include "tests/lib/test.h"

static void test_as_it_is_written(void **state)
{
	static const uint8_t want[] = { 0x52, 0x54, 0x00, 0xaB };
	uint8_t got[4];

	(void)state;
	assert_true(hex_parse("525400aB", '\0', got, 4));
	assert_memory_equal(got, want, 4);
	assert_true(hex_parse("52:54:00:Ab", ':', got, 4));
	assert_memory_equal(got, want, 4);
	assert_true(hex_parse("5254-00ab", '-', got, 4));
	assert_memory_equal(got, want, 4);
	assert_true(hex_parse("", ':', got, 0));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"",	     "52:54:00",     "52:54:00:a",   "52:54:00:ab:",
		":52540ab",  "52::54:00:ab", "52:54:00:abc", "52:54:0g:ab",
		"5 254:0ab", "52-54-00-ab"
	};
	uint8_t got[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (hex_parse(bad[i], ':', got, sizeof(got)))
			fail_msg("\"%s\" is taken", bad[i]);
	assert_false(hex_parse("52\0"
			       "5400ab",
			       '\0', got, sizeof(got)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_it_is_written),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
