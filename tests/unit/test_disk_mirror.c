/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/disk_mirror.h: records as control.h says, a full ring that holds its
 * producer up until there is room, a ring replaced or ended under a waiting producer.
 */
#include "tests/lib/test.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/ring.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/disk_mirror.h"

#define BYTES DISK_MIRROR_MIN_BYTES

struct fixture {
	struct disk_mirror *mirror;
	void *mapping;
	struct ring ring;
	int fds[3];
	uint8_t record[CONTROL_DISK_RECORD_BYTES + CONTROL_DISK_DATA_MAX];
	uint8_t data[CONTROL_DISK_DATA_MAX];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(disk_mirror_open(&f->mirror), 0);
	*state = f;
	return 0;
}

static void detach(struct fixture *f)
{
	if (!f->mapping)
		return;
	munmap(f->mapping, ring_map_bytes(BYTES));
	for (unsigned int i = 0; i < 3; i++)
		close(f->fds[i]);
	f->mapping = NULL;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	disk_mirror_close(f->mirror);
	detach(f);
	free(f);
	return 0;
}

static void attach(struct fixture *f)
{
	int fds[3];

	assert_int_equal(disk_mirror_set(f->mirror, true, BYTES, fds), 0);
	detach(f);
	memcpy(f->fds, fds, sizeof(fds));
	f->mapping =
		mmap(NULL, ring_map_bytes(BYTES), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	assert_ptr_not_equal(f->mapping, MAP_FAILED);
	ring_attach_consumer(&f->ring, f->mapping, BYTES);
}

static int put_write(struct fixture *f, unsigned int number)
{
	uint8_t data[CONTROL_DISK_DATA_MAX];
	const struct disk_change change = {
		.op = CONTROL_DISK_WRITE,
		.disk = 3,
		.offset = number * 512ull,
		.length = sizeof(data),
		.data = data,
	};

	memset(data, (int)number, sizeof(data));
	return disk_mirror_put(f->mirror, &change, NULL);
}

/* Takes a record and returns the number that put_write() gave it, or -1. */
static int get_write(struct fixture *f)
{
	struct cursor c = cursor_over(f->record, sizeof(f->record));
	uint64_t offset;
	size_t len;

	if (ring_get(&f->ring, ring_head(&f->ring), f->record, sizeof(f->record), &len))
		return -1;
	assert_int_equal(len, sizeof(f->record));
	assert_int_equal(cursor_get_u8(&c), CONTROL_DISK_WRITE);
	assert_int_equal(cursor_get_u8(&c), 0);
	assert_int_equal(cursor_get_u16(&c), 3);
	assert_int_equal(cursor_get_u32(&c), 0);
	offset = cursor_get_u64(&c);
	assert_int_equal(cursor_get_u64(&c), CONTROL_DISK_DATA_MAX);
	assert_int_equal(f->record[CONTROL_DISK_RECORD_BYTES], (offset / 512) & 0xff);
	assert_int_equal(f->record[sizeof(f->record) - 1], (offset / 512) & 0xff);
	return (int)(offset / 512);
}

static void test_off(void **state)
{
	assert_int_equal(put_write(*state, 1), 0);
}

static void test_records(void **state)
{
	struct fixture *f = *state;
	const struct disk_change flush = { .op = CONTROL_DISK_FLUSH, .disk = 1 };
	eventfd_t count;
	size_t len;

	attach(f);
	assert_int_equal(put_write(f, 7), 0);
	assert_int_equal(disk_mirror_put(f->mirror, &flush, NULL), 0);
	assert_int_equal(eventfd_read(f->fds[1], &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(get_write(f), 7);
	assert_int_equal(
		ring_get(&f->ring, ring_head(&f->ring), f->record, sizeof(f->record), &len), 0);
	assert_int_equal(len, CONTROL_DISK_RECORD_BYTES);
	assert_int_equal(f->record[0], CONTROL_DISK_FLUSH);
}

static void test_sealed(void **state)
{
	struct fixture *f = *state;

	attach(f);
	assert_int_equal(ftruncate(f->fds[0], 4096), -1);
	assert_int_equal(errno, EPERM);
}

static void test_bad_sizes(void **state)
{
	struct fixture *f = *state;
	int fds[3];

	assert_int_equal(disk_mirror_set(f->mirror, true, BYTES / 2, fds), -EINVAL);
	assert_int_equal(disk_mirror_set(f->mirror, true, BYTES + 4096, fds), -EINVAL);
	assert_int_equal(disk_mirror_set(f->mirror, true, UINT64_C(1) << 63, fds), -EINVAL);
}

struct producer {
	struct fixture *f;
	unsigned int first, count;
	int err;
};

static void *produce(void *arg)
{
	struct producer *p = arg;

	for (unsigned int i = 0; i < p->count && !p->err; i++)
		p->err = put_write(p->f, p->first + i);
	return NULL;
}

/* Waits until the ring is full, which the producer shows by leaving it so. */
static void wait_full(struct fixture *f)
{
	while (ring_used(&f->ring) + sizeof(f->record) + 4 <= BYTES)
		poll(NULL, 0, 1);
}

static void start(pthread_t *thread, struct producer *p)
{
	assert_int_equal(pthread_create(thread, NULL, produce, p), 0);
}

static void test_full(void **state)
{
	struct fixture *f = *state;
	struct producer a = { .f = f, .first = 0, .count = 60 };
	struct producer b = { .f = f, .first = 100, .count = 60 };
	unsigned int next_a = 0, next_b = 100;
	pthread_t thread[2];

	attach(f);
	start(&thread[0], &a);
	start(&thread[1], &b);
	wait_full(f);
	while (next_a < 60 || next_b < 160) {
		struct pollfd data = { .fd = f->fds[1], .events = POLLIN };
		eventfd_t count;
		int number;

		assert_int_equal(poll(&data, 1, 10000), 1);
		eventfd_read(data.fd, &count);
		while ((number = get_write(f)) >= 0) {
			assert_int_equal(number, number < 100 ? next_a++ : next_b++);
			eventfd_write(f->fds[2], 1);
		}
	}
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	assert_int_equal(a.err | b.err, 0);
}

/* The change that waited goes into the new ring, and nothing is lost between the two. */
static void test_replaced(void **state)
{
	struct fixture *f = *state;
	struct producer p = { .f = f, .count = 16 };
	pthread_t thread;
	int first;

	attach(f);
	start(&thread, &p);
	wait_full(f);
	for (first = 0; get_write(f) >= 0; first++)
		continue;
	assert_in_range(first, 1, 15);
	attach(f);
	pthread_join(thread, NULL);
	assert_int_equal(p.err, 0);
	for (int i = first; i < 16; i++)
		assert_int_equal(get_write(f), i);
}

static void test_switched_off(void **state)
{
	struct fixture *f = *state;
	struct producer p = { .f = f, .count = 40 };
	pthread_t thread;

	attach(f);
	start(&thread, &p);
	wait_full(f);
	assert_int_equal(disk_mirror_set(f->mirror, false, 0, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(p.err, 0);
}

static void test_stopped(void **state)
{
	struct fixture *f = *state;
	struct producer p = { .f = f, .count = 40 };
	pthread_t thread;

	attach(f);
	start(&thread, &p);
	wait_full(f);
	disk_mirror_stop(f->mirror);
	pthread_join(thread, NULL);
	assert_int_equal(p.err, -ECANCELED);
}

/* A client that spoils the header stalls the disk; it loses no change. */
static void test_spoilt_header(void **state)
{
	struct fixture *f = *state;
	struct producer p = { .f = f, .count = 1 };
	struct ring_shared *shared;
	pthread_t thread;

	attach(f);
	shared = f->mapping;
	__atomic_store_n(&shared->tail, UINT64_MAX / 2, __ATOMIC_RELEASE);
	start(&thread, &p);
	attach(f);
	pthread_join(thread, NULL);
	assert_int_equal(p.err, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_off),		 TEST(test_records), TEST(test_sealed),
		TEST(test_bad_sizes),	 TEST(test_full),    TEST(test_replaced),
		TEST(test_switched_off), TEST(test_stopped), TEST(test_spoilt_header),
	};

	return test_main(tests);
}
