/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initial copy: what it gives of holes, zeroes and data; and, with a writer that goes
 * on all the while, that copy and ring together leave two identical disks. Seeded.
 */
#include "disk-replica/copy.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sched.h>
#include <cmocka.h>

#include "disk-replica/apply.h"
#include "tests/unit/disk_stub.h"

#define DISK_BYTES ((UINT64_C(3) << 20) + 4096 + 512)
#define ROUNDS	   25u

static char dir[64];
static struct disk_info from[2], to[2];
static struct copy *copy;
static struct apply *apply;
static struct mirror *mirror;
static struct reason why;
static uint8_t bytes[DISK_DATA_MAX];

static void make_file(const char *path, uint8_t fill)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)DISK_BYTES), 0);
	memset(bytes, fill, sizeof(bytes));
	for (uint64_t at = 0; fill && at < DISK_BYTES; at += sizeof(bytes))
		assert_true(pwrite(fd, bytes, MIN(sizeof(bytes), DISK_BYTES - at), (off_t)at) > 0);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	copy = NULL;
	apply = NULL;
	mirror = NULL;
	stub_reset();
	snprintf(dir, sizeof(dir), "/tmp/test_disk_copy.XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < 2; i++) {
		from[i].bytes = to[i].bytes = DISK_BYTES;
		snprintf(from[i].path, DISK_PATH_MAX, "%s/from%u", dir, i);
		snprintf(to[i].path, DISK_PATH_MAX, "%s/to%u", dir, i);
		make_file(from[i].path, 0);
		make_file(to[i].path, 0xdb); /* what the standby's disk held before */
	}
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	copy_close(copy);
	apply_close(apply);
	mirror_close(mirror);
	stub_reset();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? -1 : 0;
}

static void open_all(void)
{
	struct apply_config to_config = { .disks = to, .nr_disks = 2, .state_dir = dir };
	static struct sources sources;
	struct mirror_config ring_config = { &sources, MIRROR_RING_MIN };

	stub_sources(&sources, from, 2);
	assert_int_equal(apply_open(&to_config, &apply, &why), 0);
	assert_int_equal(mirror_open(&ring_config, &mirror, &why), 0);
	assert_int_equal(copy_open(from, 2, &copy, &why), 0);
}

static void close_all(void)
{
	copy_close(copy);
	apply_close(apply);
	mirror_close(mirror);
	copy = NULL;
	apply = NULL;
	mirror = NULL;
	stub_reset();
}

static void compare(void)
{
	static uint8_t a[DISK_DATA_MAX], b[DISK_DATA_MAX];

	for (unsigned int i = 0; i < 2; i++) {
		cleanup_close int fa = open(from[i].path, O_RDONLY);
		cleanup_close int fb = open(to[i].path, O_RDONLY);

		for (uint64_t at = 0; at < DISK_BYTES; at += sizeof(a)) {
			ssize_t n = pread(fa, a, sizeof(a), (off_t)at);

			assert_int_equal(pread(fb, b, sizeof(b), (off_t)at), n);
			if (memcmp(a, b, (size_t)n))
				fail_msg("disk %u differs within %llu + %zd", i,
					 (unsigned long long)at, n);
		}
	}
}

static void write_at(unsigned int disk, uint64_t offset, size_t len, uint8_t fill)
{
	cleanup_close int fd = open(from[disk].path, O_WRONLY);

	memset(bytes, fill, len);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)offset), len);
}

static void test_holes_and_zeroes(void **state)
{
	struct disk_record r;
	uint64_t data = 0, next = 0, pieces = 0;
	unsigned int disk = 0;

	(void)state;
	write_at(0, 1 << 20, 4096, 1);
	write_at(0, 2 << 20, 128 << 10, 0); /* allocated, and zero */
	write_at(1, DISK_BYTES - 512, 512, 2);
	open_all();
	assert_int_equal(copy_total_bytes(copy), 2 * DISK_BYTES);
	while (copy_next(copy, &r, &why) == 0) {
		if (r.disk != disk) {
			assert_int_equal(next, DISK_BYTES);
			disk++;
			next = 0;
		}
		assert_int_equal(r.offset, next);
		assert_int_equal(disk_record_check(&r, from, 2, &why), 0);
		next += r.length;
		data += r.op == CONTROL_DISK_WRITE ? r.length : 0;
		pieces++;
		assert_int_equal(apply_record(apply, &r, &why), 0);
	}
	assert_int_equal(disk, 1);
	assert_int_equal(next, DISK_BYTES);
	assert_int_equal(copy_done_bytes(copy), copy_total_bytes(copy));
	assert_int_equal(copy_next(copy, &r, &why), -ENODATA);
	assert_true(data >= 4096 + 512 && data <= 2 * (64 << 10));
	assert_true(pieces < 20);
	compare();
}

static void test_zeroes_are_bounded(void **state)
{
	struct disk_record r;

	(void)state;
	from[0].bytes = 3 * DISK_ZEROES_MAX + 5;
	assert_int_equal(truncate(from[0].path, (off_t)from[0].bytes), 0);
	assert_int_equal(copy_open(from, 1, &copy, &why), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(copy_next(copy, &r, &why), 0);
		assert_int_equal(r.op, CONTROL_DISK_ZEROES);
		assert_int_equal(r.length, i < 3 ? DISK_ZEROES_MAX : 5);
	}
	assert_int_equal(copy_next(copy, &r, &why), -ENODATA);
}

static void test_refusals(void **state)
{
	struct disk_record r;

	(void)state;
	from[1].bytes = DISK_BYTES + 1;
	assert_int_equal(copy_open(from, 2, &copy, &why), -EINVAL);
	assert_non_null(strstr(why.text, "from1"));
	from[1].bytes = DISK_BYTES;
	strcpy(from[1].path, "/dev/zero");
	assert_int_equal(copy_open(from, 2, &copy, &why), -EINVAL);
	snprintf(from[1].path, DISK_PATH_MAX, "%s/absent", dir);
	assert_int_equal(copy_open(from, 2, &copy, &why), -ENOENT);
	assert_null(copy);
	/* A disk that becomes shorter under way is an error, not a disk of zeroes. */
	make_file(from[0].path, 1);
	assert_int_equal(copy_open(from, 1, &copy, &why), 0);
	assert_int_equal(copy_next(copy, &r, &why), 0);
	assert_int_equal(truncate(from[0].path, DISK_DATA_MAX + 100), 0);
	assert_int_equal(copy_next(copy, &r, &why), -EIO);
}

/* --- with a writer ------------------------------------------------------------------------ */

struct writer {
	unsigned int seed;
	int fds[2];
	bool stop; /* atomic */
	unsigned long writes;
	uint8_t data[64 << 10];
};

static uint64_t pick(struct writer *w, uint64_t below)
{
	return ((uint64_t)rand_r(&w->seed) << 16 ^ (uint64_t)rand_r(&w->seed)) % below;
}

/* As the virtio disk does it: the change, then the record, waiting for room. */
static void one_change(struct writer *w)
{
	struct disk_record r = { .disk = (uint16_t)pick(w, 2), .length = 1 + pick(w, 9000) };
	bool punch = pick(w, 6) == 0;

	if (pick(w, 8) == 0)
		r.length = sizeof(w->data);
	/* Often within a small part, so that writes overlap one another. */
	r.offset = pick(w, (pick(w, 2) ? DISK_BYTES : 200000) - r.length);
	r.op = punch ? CONTROL_DISK_DISCARD : CONTROL_DISK_WRITE;
	if (punch) {
		assert_int_equal(fallocate(w->fds[r.disk],
					   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)r.offset, (off_t)r.length),
				 0);
	} else {
		memset(w->data, (int)pick(w, 256), r.length);
		r.data = w->data;
		assert_int_equal(pwrite(w->fds[r.disk], w->data, r.length, (off_t)r.offset),
				 r.length);
	}
	while (stub_put(&r) == -ENOBUFS)
		sched_yield();
	w->writes++;
}

static void *write_on(void *arg)
{
	struct writer *w = arg;

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED))
		one_change(w);
	return NULL;
}

static void drain(const struct mirror_mark *limit)
{
	struct disk_record r;
	int err;

	while (!(err = mirror_next(mirror, limit, &r, &why)))
		assert_int_equal(apply_record(apply, &r, &why), 0);
	assert_int_equal(err, -EAGAIN);
}

/* The primary's sender, with the backup at once behind it. */
static void copy_while_written(struct writer *w)
{
	struct disk_record r;
	unsigned int steps = 0;

	while (copy_next(copy, &r, &why) == 0) {
		assert_int_equal(apply_record(apply, &r, &why), 0);
		if (pick(w, 3))
			drain(stub_now(mirror));
		/* Let the writer run between chunks, on one processor too. */
		if (steps++ % 2)
			sched_yield();
	}
}

static void test_concurrent_writer(void **state)
{
	const char *env = getenv("SEED");
	unsigned int first = env ? (unsigned int)atoi(env) : 1;
	unsigned long writes = 0;

	(void)state;
	for (unsigned int seed = first; seed < first + ROUNDS; seed++) {
		struct writer *w = calloc(1, sizeof(*w));
		struct writer own = { .seed = seed * 7919 };
		pthread_t thread;

		w->seed = seed;
		make_file(from[0].path, (uint8_t)(seed % 2));
		open_all();
		for (unsigned int i = 0; i < 2; i++)
			w->fds[i] = open(from[i].path, O_RDWR);
		assert_int_equal(pthread_create(&thread, NULL, write_on, w), 0);
		copy_while_written(&own);
		__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
		/* The writer may be waiting for room to put its last record. */
		while (pthread_tryjoin_np(thread, NULL))
			drain(stub_now(mirror));
		drain(stub_now(mirror));
		print_message("seed %u: %lu changes during the copy\n", seed, w->writes);
		compare();
		writes += w->writes;
		for (unsigned int i = 0; i < 2; i++)
			close(w->fds[i]);
		free(w);
		close_all();
	}
	assert_true(writes > ROUNDS); /* or it has tested nothing */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_holes_and_zeroes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zeroes_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_concurrent_writer, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
