/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fault.h: each action at each passage. The list is read once per process, so each case
 * runs in a child; its exit status is a mask of the passages that failed.
 */
#include "tests/lib/test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"

#define REFUSED 99

static int passages(const char *list)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		int failed = 0;

		if (list)
			setenv("POLLUX_FAULT", list, 1);
		else
			unsetenv("POLLUX_FAULT");
		if (fault_open())
			_exit(REFUSED);
		for (int i = 0; i < 4; i++)
			failed |= fault_at("disk.write") << i;
		_exit(failed);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_passages(void **state)
{
	static const struct {
		const char *list;
		int status;
	} cases[] = {
		{ NULL, 0 },
		{ "", REFUSED },
		{ "disk.read", 0 },
		{ "disk.write", 0xf },
		{ "disk.write:3", 0xc },
		{ "disk.write:2:fail", 0xe },
		{ "disk.write:2:once", 0x2 },
		{ "disk.read:1:exit,disk.write:4:once", 0x8 },
		{ "disk.write:3:exit", 86 },
		{ "disk.write:0", REFUSED },
		{ "disk.write:1:explode", REFUSED },
		{ "disk.write,", REFUSED },
		{ ":1:fail", REFUSED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (passages(cases[i].list) != cases[i].status)
			fail_msg("%s: %d, want %d", cases[i].list ? cases[i].list : "(unset)",
				 passages(cases[i].list), cases[i].status);
}

static void test_more_than_there_is_room_for(void **state)
{
	char list[256] = "a";

	(void)state;
	for (size_t len = 1; len < 2 * 16; len += 2)
		snprintf(list + len, sizeof(list) - len, ",b");
	assert_int_equal(passages(list), REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passages),
		cmocka_unit_test(test_more_than_there_is_room_for),
	};

	return test_main(tests);
}
