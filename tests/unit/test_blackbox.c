/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder keeps the newest events, whole and in order. */
#include "tests/lib/test.h"

#include "base/blackbox.h"
#include "base/err.h"

static char path[] = "/tmp/pollux-blackbox-XXXXXX";

static void records_nothing_unopened(void **state)
{
	struct blackbox_entry e;

	(void)state;
	blackbox_record("early", 1, 2);
	assert_int_equal(blackbox_read(&e, 1), 0);
}

static void keeps_the_newest(void **state)
{
	struct blackbox_entry e[3];

	(void)state;
	assert_int_equal(blackbox_open(path), 0);
	for (uint64_t i = 0; i < 20000; i++)
		blackbox_record("captured", i, i * 2);
	assert_int_equal(blackbox_read(e, 3), 3);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(e[i].a, 19997 + i);
		assert_int_equal(e[i].b, 2 * (19997 + i));
		assert_memory_equal(e[i].name, "captured", 8);
		assert_true(i == 0 || e[i].ns >= e[i - 1].ns);
	}
}

static void reopening_forgets(void **state)
{
	struct blackbox_entry e[2];

	(void)state;
	assert_int_equal(blackbox_open(path), 0);
	blackbox_record("x", 7, 8);
	assert_int_equal(blackbox_read(e, 2), 1);
	assert_int_equal(e[0].a, 7);
	assert_string_equal(e[0].name, "x");
	blackbox_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_nothing_unopened),
		cmocka_unit_test(keeps_the_newest),
		cmocka_unit_test(reopening_forgets),
	};
	int fd = mkstemp(path), r;

	if (fd < 0)
		return 1;
	close(fd);
	r = test_main(tests);
	unlink(path);
	return r;
}
