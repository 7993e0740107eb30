/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/durable.h: nothing is called durable that was not on the disks when a sync of all of them
 * began which then succeeded; nobody waits for that sync; an error is told and stays.
 */
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "ha/durable.h"
#include "tests/lib/dir.h"

#define NR 2u

static struct test_dir dir;
static struct disk_info disks[NR];
static struct durable *durable;

/* The test's disk: each sync may be made to wait, or to fail. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int begun, ended;
	bool hold;
	int error; /* errno of the next ones */
	unsigned int on_the_second;
} syncs = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	int err;

	(void)fd;
	pthread_mutex_lock(&syncs.lock);
	syncs.begun++;
	pthread_cond_broadcast(&syncs.changed);
	while (syncs.hold)
		pthread_cond_wait(&syncs.changed, &syncs.lock);
	err = syncs.on_the_second && syncs.begun % NR ? 0 : syncs.error;
	syncs.ended++;
	pthread_mutex_unlock(&syncs.lock);
	errno = err;
	return err ? -1 : 0;
}

static void hold(bool on)
{
	pthread_mutex_lock(&syncs.lock);
	syncs.hold = on;
	pthread_cond_broadcast(&syncs.changed);
	pthread_mutex_unlock(&syncs.lock);
}

static void await_begun(unsigned int n)
{
	pthread_mutex_lock(&syncs.lock);
	while (syncs.begun < n)
		pthread_cond_wait(&syncs.changed, &syncs.lock);
	pthread_mutex_unlock(&syncs.lock);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 2 * (long)NS_PER_MS }, NULL);
}

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static unsigned int open_disks(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned int n = 0;

	while ((entry = readdir(d))) {
		char target[256] = "";

		if (readlinkat(dirfd(d), entry->d_name, target, sizeof(target) - 1) > 0)
			n += !strncmp(target, dir.path, strlen(dir.path));
	}
	closedir(d);
	return n;
}

static int setup(void **state)
{
	(void)state;
	fault_armed = false;
	syncs.begun = syncs.ended = syncs.on_the_second = 0;
	syncs.error = 0;
	assert_int_equal(test_dir_open(&dir), 0);
	for (unsigned int i = 0; i < NR; i++) {
		snprintf(disks[i].path, sizeof(disks[i].path), "%s/disk%u", dir.path, i);
		close(open(disks[i].path, O_RDWR | O_CREAT, 0600));
	}
	assert_int_equal(durable_open(disks, NR, &durable), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	durable_close(durable);
	durable = NULL;
	/* Whoever closes does not wait; the thread lets the disks go all the same. */
	while (open_disks())
		nap();
	test_dir_close(&dir);
	return 0;
}

static void news(uint64_t epoch, uint64_t ops, uint64_t bytes)
{
	const struct durable_mark mark = { epoch, ops, bytes };

	durable_news(durable, &mark);
}

/* Waits for the next word, which is to be this one. */
static void expect(uint64_t epoch, uint64_t ops)
{
	struct durable_mark m;

	while (!durable_progress(durable, &m)) {
		assert_int_equal(durable_error(durable), 0);
		nap();
	}
	assert_int_equal(m.epoch, epoch);
	assert_int_equal(m.ops, ops);
	assert_false(durable_progress(durable, &m)); /* once */
}

static void test_told_once_synced(void **state)
{
	struct durable_mark m;
	uint64_t begin;

	(void)state;
	assert_false(durable_progress(durable, &m));
	hold(true);
	news(0, 5, 4096);
	await_begun(1);
	/* This one comes too late for the sync that has begun. */
	news(1, 9, 8192);
	assert_false(durable_progress(durable, &m));
	begin = clock_now_ns();
	hold(false);
	expect(0, 5);
	expect(1, 9);
	assert_int_equal(syncs.begun, 2 * NR);
	/* Not at once, but in the copy's pace. */
	assert_true(clock_now_ns() - begin >= DURABLE_COPY_NS * 9 / 10);
}

/* What wrote nothing needs no sync, and is told. */
static void test_nothing_written(void **state)
{
	(void)state;
	news(0, 5, 4096);
	expect(0, 5);
	assert_int_equal(syncs.begun, NR);
	news(0, 7, 4096);
	expect(0, 7);
	assert_int_equal(syncs.begun, NR);
}

/* An error of any disk: what was durable before stays so, and nothing else is said ever. */
static void failed(int err)
{
	struct durable_mark m;

	news(0, 5, 4096);
	expect(0, 5);
	syncs.on_the_second = 1;
	syncs.error = err;
	news(0, 8, 9000);
	while (!durable_error(durable))
		nap();
	assert_int_equal(durable_error(durable), -err);
	syncs.error = 0;
	news(0, 9, 10000);
	news(1, 9, 10000);
	durable_progress(durable, &m);
	assert_int_equal(m.ops, 5);
	assert_int_equal(m.epoch, 0);
	assert_int_equal(durable_error(durable), -err);
	assert_int_equal(syncs.begun, 2 * NR);
}

static void test_io_error(void **state)
{
	(void)state;
	failed(EIO);
}

static void test_no_space(void **state)
{
	(void)state;
	failed(ENOSPC);
}

static void test_fault(void **state)
{
	struct durable_mark m;

	(void)state;
	arm("durable.sync");
	news(3, 8, 9000);
	while (!durable_error(durable))
		nap();
	assert_int_equal(durable_error(durable), -EIO);
	assert_false(durable_progress(durable, &m));
	assert_int_equal(syncs.begun, 0);
}

/* A takeover does not wait for a disk that is stuck. */
static void test_close_under_way(void **state)
{
	uint64_t begin;

	(void)state;
	hold(true);
	news(1, 5, 4096);
	await_begun(1);
	begin = clock_now_ns();
	durable_close(durable);
	durable = NULL;
	assert_true(clock_now_ns() - begin < NS_PER_S);
	assert_int_equal(syncs.ended, 0);
	assert_int_equal(open_disks(), NR);
	hold(false);
}

static void test_open_refused(void **state)
{
	struct disk_info missing[NR] = { disks[0] };
	struct durable *d = NULL;

	(void)state;
	snprintf(missing[1].path, sizeof(missing[1].path), "%s/missing", dir.path);
	assert_int_equal(durable_open(missing, NR, &d), -ENOENT);
	assert_null(d);
	assert_int_equal(open_disks(), NR); /* those of the one that is open */
	durable_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_told_once_synced), TEST(test_nothing_written), TEST(test_io_error),
		TEST(test_no_space),	     TEST(test_fault),		 TEST(test_close_under_way),
		TEST(test_open_refused),
	};

	return test_main(tests);
}
