/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/record.h: what is written is read; a crash at any step leaves the old record or the new
 * one, whole; every damaged byte is noticed; the generation never goes down. The crash is a
 * child that ends at a fault point as if killed.
 */
#include "tests/lib/test.h"
#include "tests/lib/dir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/fault.h"
#include "ha/record.h"

static const struct record old_record = {
	.generation = 7, .epoch = 100, .role = RECORD_BACKUP, .peer = "alpha"
};
static const struct record new_record = {
	.generation = 8, .epoch = 345, .role = RECORD_ACTIVE, .peer = "alpha"
};

static int setup(void **state)
{
	static struct test_dir dir;

	*state = &dir;
	return test_dir_open(&dir);
}

static int teardown(void **state)
{
	test_dir_close(*state);
	return 0;
}

static const char *dir_of(void **state)
{
	return ((struct test_dir *)*state)->path;
}

static void assert_same(const struct record *a, const struct record *b)
{
	assert_int_equal(a->generation, b->generation);
	assert_int_equal(a->epoch, b->epoch);
	assert_int_equal(a->role, b->role);
	assert_string_equal(a->peer, b->peer);
}

static size_t slurp(const char *dir, uint8_t *ret, size_t max)
{
	char path[128];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/record", dir);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	n = read(fd, ret, max);
	close(fd);
	assert_true(n > 0);
	return (size_t)n;
}

static void spill(const char *dir, const uint8_t *bytes, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/record", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

static void test_absent(void **state)
{
	struct record rec = old_record;
	struct reason why = { "" };

	assert_int_equal(record_read(dir_of(state), &rec, &why), -ENOENT);
	assert_same(&rec, &old_record); /* untouched */
	assert_int_equal(record_read("/nonexistent", &rec, &why), -ENOENT);
	assert_int_equal(record_write("/nonexistent", &rec, &why), -ENOENT);
}

static void test_round_trip(void **state)
{
	struct record rec, longest = new_record;
	struct reason why;

	assert_int_equal(record_write(dir_of(state), &old_record, &why), 0);
	assert_int_equal(record_read(dir_of(state), &rec, &why), 0);
	assert_same(&rec, &old_record);
	memset(longest.peer, 'x', RECORD_PEER_MAX);
	assert_int_equal(record_write(dir_of(state), &longest, &why), 0);
	assert_int_equal(record_read(dir_of(state), &rec, &why), 0);
	assert_same(&rec, &longest);
}

/* The bytes are the format that record.h describes: a change here is a new version. */
static void test_format_is_pinned(void **state)
{
	static const uint8_t head[] = {
		'P', 'X', 'R', 'E', 'C', 'O', 'R', 'D', 1,   0,	  0,   0,   47,
		0,   0,	  0,   7,   0,	 0,   0,   0,	0,   0,	  0,   100, 0,
		0,   0,	  0,   0,   0,	 0,   3,   5,	'a', 'l', 'p', 'h', 'a',
	};
	uint8_t bytes[128];
	struct reason why;

	assert_int_equal(record_write(dir_of(state), &old_record, &why), 0);
	assert_int_equal(slurp(dir_of(state), bytes, sizeof(bytes)), sizeof(head) + 8);
	assert_memory_equal(bytes, head, sizeof(head));
}

static void test_generation_never_goes_down(void **state)
{
	struct record same = new_record, rec;
	struct reason why;

	assert_int_equal(record_write(dir_of(state), &new_record, &why), 0);
	assert_int_equal(record_write(dir_of(state), &old_record, &why), -ESTALE);
	assert_non_null(strstr(why.text, "generation 7 is below 8"));
	same.role = RECORD_STOPPED;
	assert_int_equal(record_write(dir_of(state), &same, &why), 0);
	assert_int_equal(record_read(dir_of(state), &rec, &why), 0);
	assert_same(&rec, &same);
}

static void test_invalid_is_not_written(void **state)
{
	struct record rec = new_record;
	struct reason why;

	rec.generation = 0;
	assert_int_equal(record_write(dir_of(state), &rec, &why), -EINVAL);
	rec = new_record;
	rec.role = RECORD_NONE;
	assert_int_equal(record_write(dir_of(state), &rec, &why), -EINVAL);
	rec = new_record;
	memset(rec.peer, 'x', sizeof(rec.peer));
	assert_int_equal(record_write(dir_of(state), &rec, &why), -EINVAL);
	assert_int_equal(record_read(dir_of(state), &rec, &why), -ENOENT);
}

static void test_every_damage_is_noticed(void **state)
{
	const char *dir = dir_of(state);
	uint8_t good[128], bad[130];
	struct record rec;
	struct reason why;
	size_t len;

	assert_int_equal(record_write(dir, &old_record, &why), 0);
	len = slurp(dir, good, sizeof(good));
	for (size_t bit = 0; bit < len * 8; bit++) {
		memcpy(bad, good, len);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		spill(dir, bad, len);
		assert_int_equal(record_read(dir, &rec, &why), -EBADMSG);
	}
	for (size_t cut = 0; cut < len; cut++) {
		spill(dir, good, cut);
		assert_int_equal(record_read(dir, &rec, &why), -EBADMSG);
	}
	memcpy(bad, good, len);
	bad[len] = 0;
	spill(dir, bad, len + 1);
	assert_int_equal(record_read(dir, &rec, &why), -EBADMSG);
	assert_non_null(strstr(why.text, dir)); /* names the file */
	/* An unreadable record is not replaced either: it may have said "active". */
	assert_int_equal(record_write(dir, &new_record, &why), -EBADMSG);
	spill(dir, good, len);
	assert_int_equal(record_read(dir, &rec, &why), 0);
}

static int write_in_child(const char *dir, const char *fault)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		setenv("POLLUX_FAULT", fault, 1);
		if (fault_open())
			_exit(99);
		_exit(record_write(dir, &new_record, NULL) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_crash_and_failure_at_each_step(void **state)
{
	static const struct {
		const char *point;
		bool is_new; /* what a crash there leaves */
	} steps[] = {
		{ "record.create", false }, { "record.write", false },	{ "record.fsync", false },
		{ "record.rename", false }, { "record.dirsync", true },
	};
	static const char *const actions[] = { "exit", "fail" };
	const char *dir = dir_of(state);
	struct reason why;

	for (size_t i = 0; i < ARRAY_SIZE(steps) * 2; i++) {
		const char *action = actions[i % 2];
		char fault[64], path[128];
		struct record rec;

		snprintf(path, sizeof(path), "%s/record", dir);
		unlink(path);
		assert_int_equal(record_write(dir, &old_record, &why), 0);
		snprintf(fault, sizeof(fault), "%s:1:%s", steps[i / 2].point, action);
		assert_int_equal(write_in_child(dir, fault), i % 2 ? 1 : 86);
		assert_int_equal(record_read(dir, &rec, &why), 0);
		assert_same(&rec, steps[i / 2].is_new ? &new_record : &old_record);
		/* And what is left behind does not stand in the way. */
		assert_int_equal(record_write(dir, &new_record, &why), 0);
		assert_int_equal(record_read(dir, &rec, &why), 0);
		assert_same(&rec, &new_record);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(record_role_name(RECORD_ACTIVE), "active");
	assert_string_equal(record_role_name(RECORD_STOPPED), "stopped");
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_absent),
		IN_DIR(test_round_trip),
		IN_DIR(test_format_is_pinned),
		IN_DIR(test_generation_never_goes_down),
		IN_DIR(test_invalid_is_not_written),
		IN_DIR(test_every_damage_is_noticed),
		IN_DIR(test_crash_and_failure_at_each_step),
		cmocka_unit_test(test_names),
	};

	return test_main(tests);
}
