/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of people: every unit, every edge, every refusal; and JSON's getters. */
#include "tests/lib/test.h"

#include "tools/common/json.h"
#include "tools/common/text.h"

static void durations(void **state)
{
	static const char *const bad[] = { "",
					   "5",
					   "ms",
					   "-5ms",
					   "+5ms",
					   " 5ms",
					   "5 ms",
					   "1m30s",
					   "1.5s",
					   "0x10s",
					   "99999999999999999999s",
					   "300000000h" };
	struct reason why;
	uint64_t v = 77;

	(void)state;
	assert_int_equal(text_parse_duration("100ms", &v, NULL), 0);
	assert_int_equal(v, 100000000);
	assert_int_equal(text_parse_duration("2s", &v, NULL), 0);
	assert_int_equal(v, 2000000000);
	assert_int_equal(text_parse_duration("0ns", &v, NULL), 0);
	assert_int_equal(v, 0);
	assert_int_equal(text_parse_duration("1h", &v, NULL), 0);
	assert_int_equal(v, UINT64_C(3600000000000));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		v = 77;
		assert_int_equal(text_parse_duration(bad[i], &v, &why), -EINVAL);
		assert_int_equal(v, 77);
		assert_non_null(strstr(why.text, bad[i]));
	}
}

static void sizes(void **state)
{
	uint64_t v = 1;
	char s[32];

	(void)state;
	assert_int_equal(text_parse_size("64MiB", &v, NULL), 0);
	assert_int_equal(v, 64 << 20);
	assert_int_equal(text_parse_size("4096", &v, NULL), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(text_parse_size("64MB", &v, NULL), -EINVAL);
	assert_int_equal(text_parse_size("99999999TiB", &v, NULL), -EINVAL);
	assert_string_equal(text_size(1536, s, sizeof(s)), "1.50 KiB");
	assert_string_equal(text_size(5, s, sizeof(s)), "5 B");
	assert_string_equal(text_duration(2500000, s, sizeof(s)), "2.50 ms");
	assert_string_equal(text_duration(0, s, sizeof(s)), "0.00 us");
	assert_string_equal(text_time(UINT64_C(1700000000123000000), s, sizeof(s)),
			    "2023-11-14T22:13:20.123Z");
}

static void names(void **state)
{
	char longest[TEXT_NAME_MAX + 2];
	struct reason why;

	(void)state;
	memset(longest, 'n', sizeof(longest) - 1);
	longest[TEXT_NAME_MAX + 1] = '\0';
	assert_int_equal(text_check_name("name", "db-1.x_y", &why), 0);
	assert_int_equal(text_check_name("name", "", &why), -EINVAL);
	assert_int_equal(text_check_name("name", "../db", &why), -EINVAL);
	assert_int_equal(text_check_name("name", ".db", &why), -EINVAL);
	assert_int_equal(text_check_name("name", "a/b", &why), -EINVAL);
	assert_int_equal(text_check_name("name", "d\xc3\xa4", &why), -EINVAL);
	assert_int_equal(text_check_name("name", longest, &why), -EINVAL);
	longest[TEXT_NAME_MAX] = '\0';
	assert_int_equal(text_check_name("name", longest, &why), 0);
}

static void uuids(void **state)
{
	char a[37], b[37];

	(void)state;
	text_make_uuid(a);
	text_make_uuid(b);
	assert_true(text_is_uuid(a));
	assert_string_not_equal(a, b);
	assert_true(text_is_uuid("6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11"));
	assert_false(text_is_uuid("6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c1"));
	assert_false(text_is_uuid("6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c111"));
	assert_false(text_is_uuid("6f1c1a9e05a0e-4b8f-9d35-0d2a4f6b7c11"));
	assert_false(text_is_uuid(""));
}

static void addresses(void **state)
{
	static const char *const bad[] = { "",		":7400", "1.2.3.4:0", "1.2.3.4:65536",
					   "1.2.3.4:x", "[::1",	 "[::1]x",    "::1:7400:" };
	struct text_address a;
	struct reason why;

	(void)state;
	assert_int_equal(text_parse_address("192.0.2.1:7400", 0, &a, &why), 0);
	assert_string_equal(a.host, "192.0.2.1");
	assert_int_equal(a.port, 7400);
	assert_int_equal(text_parse_address("[2001:db8::1]:1", 0, &a, &why), 0);
	assert_string_equal(a.host, "2001:db8::1");
	assert_int_equal(text_parse_address("[::1]", 9, &a, &why), 0);
	assert_int_equal(a.port, 9);
	assert_int_equal(text_parse_address("host", 9, &a, &why), 0);
	assert_int_equal(text_parse_address("host", 0, &a, &why), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(text_parse_address(bad[i], 7400, &a, &why), -EINVAL);
}

static void json_is_whole_and_typed(void **state)
{
	static const char *const bad[] = { "",	   "[]",       "1",    "{",
					   "{} x", "{\"a\":}", "null", "{\"a\":\"\xff\"}" };
	cleanup_json struct json_object *o = NULL;
	struct reason why;
	const char *s = "kept";
	uint64_t v = 5;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (json_parse(bad[i], "text", &o, &why) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	assert_null(o);
	assert_int_equal(json_parse("{\"n\":18446744073709551615,\"m\":-1,\"s\":\"x\","
				    "\"z\":\"a\\u0000b\",\"l\":null}",
				    "text", &o, &why),
			 0);
	assert_int_equal(json_get_u64(o, "n", &v, &why), 0);
	assert_true(v == UINT64_MAX);
	v = 5;
	assert_int_equal(json_get_u64(o, "m", &v, &why), -EINVAL);
	assert_int_equal(json_get_u64(o, "s", &v, &why), -EINVAL);
	assert_int_equal(v, 5);
	assert_int_equal(json_get_string(o, "z", &s, &why), -EINVAL);
	assert_int_equal(json_get_string(o, "l", &s, &why), -ENOENT);
	assert_string_equal(s, "kept");
	assert_non_null(strstr(why.text, "\"l\""));
}

static void json_depth_is_bounded(void **state)
{
	char deep[4 * JSON_MAX_DEPTH * 2 + 8] = "";
	struct json_object *o;
	struct reason why;

	(void)state;
	for (int i = 0; i < JSON_MAX_DEPTH + 2; i++)
		strcat(deep, "{\"a\":");
	strcat(deep, "1");
	for (int i = 0; i < JSON_MAX_DEPTH + 2; i++)
		strcat(deep, "}");
	assert_int_equal(json_parse(deep, "text", &o, &why), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(sizes),
		cmocka_unit_test(names),
		cmocka_unit_test(uuids),
		cmocka_unit_test(addresses),
		cmocka_unit_test(json_is_whole_and_typed),
		cmocka_unit_test(json_depth_is_bounded),
	};

	return test_main(tests);
}
