/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/blk_defer.h: the guest reads what it wrote, the disk has what was settled and
 * nothing else, in order; errors, bounds and ends leave nothing hanging.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/blk_defer.h"

#define BYTES (UINT64_C(1) << 20)
#define BLOCK 512u
#define ROOM  (UINT64_C(4) << 20)

static struct blk_file file;
static struct blk_defer *defer;
static uint8_t model[BYTES]; /* what the guest should read */

/* "blk.settle": the next change to go to the disk fails; "blk.sync": the next sync. */
static void arm(const char *point)
{
	char fault[64];

	snprintf(fault, sizeof(fault), "%s:1:once", point);
	setenv("POLLUX_FAULT", fault, 1);
	assert_int_equal(fault_open(), 0);
}

static int setup(void **state)
{
	(void)state;
	file = (struct blk_file){ .fd = memfd_create("disk", MFD_CLOEXEC), .bytes = BYTES };
	memset(model, 0, sizeof(model));
	if (file.fd < 0 || ftruncate(file.fd, (off_t)BYTES) < 0)
		return -1;
	return blk_defer_open(&file, &defer);
}

static int teardown(void **state)
{
	(void)state;
	unsetenv("POLLUX_FAULT");
	blk_defer_close(defer);
	blk_file_close(&file);
	return 0;
}

static int change(enum control_disk_op op, uint64_t offset, uint64_t length, uint8_t byte)
{
	static uint8_t data[CONTROL_DISK_DATA_MAX];
	const struct disk_change c = { (uint8_t)op, 0, offset, length,
				       op == CONTROL_DISK_WRITE ? data : NULL };
	int r;

	memset(data, byte, sizeof(data));
	r = blk_defer_add(defer, &c);
	if (r == 1)
		blk_defer_passed(defer);
	if (r == 0 && op != CONTROL_DISK_FLUSH)
		memset(model + offset, op == CONTROL_DISK_WRITE ? byte : 0, length);
	return r;
}

static int write_at(uint64_t offset, uint64_t length, uint8_t byte)
{
	return change(CONTROL_DISK_WRITE, offset, length, byte);
}

static void assert_guest_reads_model(void)
{
	static uint8_t seen[BYTES];

	for (uint64_t at = 0; at < BYTES; at += CONTROL_DISK_DATA_MAX)
		assert_int_equal(blk_defer_read(defer, at, seen + at, CONTROL_DISK_DATA_MAX), 0);
	assert_memory_equal(seen, model, BYTES);
}

static uint8_t on_disk(uint64_t offset)
{
	uint8_t byte = 0;

	assert_int_equal(pread(file.fd, &byte, 1, (off_t)offset), 1);
	return byte;
}

static struct blk_defer_stats stats(void)
{
	struct blk_defer_stats s;

	blk_defer_stats(defer, &s);
	return s;
}

/* Ended, everything is on the disk; that is also how to wait for the thread. */
static void until_settled(uint64_t position)
{
	for (unsigned int i = 0; i < 5000 && stats().settled < position; i++)
		usleep(1000);
	assert_int_equal(stats().settled, position);
}

static void test_off_passes(void **state)
{
	(void)state;
	assert_int_equal(write_at(0, BLOCK, 1), 1);
	assert_int_equal(blk_defer_start(defer, BLK_DEFER_MIN_BYTES - 1), -EINVAL);
	assert_int_equal(write_at(0, BLOCK, 1), 1);
	assert_guest_reads_model();
}

static void test_waits_for_its_position(void **state)
{
	(void)state;
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(write_at(0, BLOCK, 1), 0);
	blk_defer_stamp(defer, 100);
	assert_int_equal(write_at(BLOCK, BLOCK, 2), 0);
	blk_defer_stamp(defer, 200);
	assert_int_equal(write_at(2 * BLOCK, BLOCK, 3), 0); /* not stamped */
	assert_guest_reads_model();
	assert_int_equal(on_disk(0), 0);
	blk_defer_settle(defer, 150);
	until_settled(150);
	assert_int_equal(on_disk(0), 1);
	assert_int_equal(on_disk(BLOCK), 0);
	blk_defer_settle(defer, UINT64_MAX - 1);
	until_settled(UINT64_MAX - 1);
	assert_int_equal(on_disk(BLOCK), 2);
	assert_int_equal(on_disk(2 * BLOCK), 0);
	assert_guest_reads_model();
}

static void test_later_wins(void **state)
{
	(void)state;
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(write_at(0, 4 * BLOCK, 1), 0);
	blk_defer_stamp(defer, 1);
	assert_int_equal(change(CONTROL_DISK_DISCARD, BLOCK, BLOCK, 0), 0);
	blk_defer_stamp(defer, 2);
	assert_int_equal(change(CONTROL_DISK_ZEROES, 2 * BLOCK, BLOCK, 0), 0);
	blk_defer_stamp(defer, 3);
	assert_int_equal(change(CONTROL_DISK_FLUSH, 0, 0, 0), 0);
	blk_defer_stamp(defer, 4);
	assert_int_equal(write_at(2 * BLOCK, 2 * BLOCK, 9), 0);
	blk_defer_stamp(defer, 5);
	assert_guest_reads_model();
	assert_int_equal(blk_defer_end(defer), 0);
	assert_int_equal(on_disk(0), 1);
	assert_int_equal(on_disk(BLOCK), 0);
	assert_int_equal(on_disk(2 * BLOCK), 9);
	assert_guest_reads_model();
	assert_int_equal(write_at(0, BLOCK, 7), 1);
}

static void test_dropped(void **state)
{
	(void)state;
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(write_at(0, BLOCK, 1), 0);
	blk_defer_stamp(defer, 1);
	blk_defer_close(defer);
	defer = NULL;
	assert_int_equal(on_disk(0), 0);
}

static void test_disk_error(void **state)
{
	(void)state;
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(write_at(0, BLOCK, 1), 0);
	blk_defer_stamp(defer, 1);
	arm("blk.settle");
	blk_defer_settle(defer, 1);
	for (unsigned int i = 0; i < 5000 && !stats().error; i++)
		usleep(1000);
	assert_int_equal(stats().error, EIO);
	assert_int_equal(stats().settled, 0);
	assert_guest_reads_model(); /* nothing is lost */
	assert_int_equal(blk_defer_end(defer), 0);
	assert_int_equal(on_disk(0), 1);
}

/* Written is not settled: the host may lose what it has in memory. */
static void test_settled_is_synced(void **state)
{
	(void)state;
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(write_at(0, BLOCK, 1), 0);
	blk_defer_stamp(defer, 1);
	arm("blk.sync");
	blk_defer_settle(defer, 1);
	for (unsigned int i = 0; i < 5000 && !stats().error; i++)
		usleep(1000);
	assert_int_equal(on_disk(0), 1);
	assert_int_equal(stats().error, EIO);
	assert_int_equal(stats().settled, 0);
	/* And whether it is on stable storage nobody can say any more. */
	assert_int_equal(blk_defer_end(defer), -EIO);
}

/* A write that came after another disk's flush does not overtake it. */
static void test_one_order_for_all_disks(void **state)
{
	struct blk_file second = { .fd = memfd_create("second", MFD_CLOEXEC), .bytes = BYTES };
	const struct disk_change c = { CONTROL_DISK_ZEROES, 1, 0, BLOCK, NULL };
	struct blk_defer_stats s;
	struct blk_defer *other;

	(void)state;
	assert_int_equal(blk_defer_open(&second, &other), 0);
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	assert_int_equal(blk_defer_start(other, ROOM), 0);
	assert_int_equal(write_at(0, BLOCK, 1), 0);
	blk_defer_stamp(defer, 1);
	assert_int_equal(blk_defer_add(other, &c), 0);
	blk_defer_stamp(other, 2);
	/* The first disk may not write yet; a while is enough to see who does not wait for it. */
	blk_defer_settle(other, 2);
	usleep(20000);
	blk_defer_stats(other, &s);
	assert_int_equal(s.settled, 0);
	assert_true(s.waiting_bytes > 0);
	blk_defer_settle(defer, 2);
	until_settled(2);
	for (unsigned int i = 0; i < 5000 && s.settled < 2; i++) {
		usleep(1000);
		blk_defer_stats(other, &s);
	}
	assert_int_equal(s.settled, 2);
	blk_defer_close(other);
	close(second.fd);
}

static void *adds_one(void *arg)
{
	*(int *)arg = write_at(0, CONTROL_DISK_DATA_MAX, 1);
	return NULL;
}

static void fill(void)
{
	for (uint64_t i = 1;
	     stats().waiting_bytes + CONTROL_DISK_DATA_MAX + 4096 < BLK_DEFER_MIN_BYTES; i++) {
		assert_int_equal(write_at(0, CONTROL_DISK_DATA_MAX, (uint8_t)i), 0);
		blk_defer_stamp(defer, i);
	}
}

static void test_full_waits(void **state)
{
	pthread_t thread;
	int r = -1;

	(void)state;
	assert_int_equal(blk_defer_start(defer, BLK_DEFER_MIN_BYTES), 0);
	fill();
	assert_int_equal(pthread_create(&thread, NULL, adds_one, &r), 0);
	blk_defer_settle(defer, 1);
	pthread_join(thread, NULL);
	assert_int_equal(r, 0);
	assert_true(stats().waiting_bytes <= BLK_DEFER_MIN_BYTES);
}

static void test_cancel_wakes(void **state)
{
	pthread_t thread;
	int r = -1;

	(void)state;
	assert_int_equal(blk_defer_start(defer, BLK_DEFER_MIN_BYTES), 0);
	fill();
	assert_int_equal(pthread_create(&thread, NULL, adds_one, &r), 0);
	blk_defer_cancel(defer);
	pthread_join(thread, NULL);
	assert_int_equal(r, -ECANCELED);
	assert_int_equal(blk_defer_end(defer), -ECANCELED);
	assert_int_equal(on_disk(0), 0);
}

static void test_random(void **state)
{
	unsigned int seed = 1;

	(void)state;
	print_message("seed %u\n", seed);
	assert_int_equal(blk_defer_start(defer, ROOM), 0);
	for (uint64_t i = 1; i < 3000; i++) {
		uint64_t length = (1 + (unsigned int)rand_r(&seed) % 16) * BLOCK;
		uint64_t offset = (unsigned int)rand_r(&seed) % ((BYTES - length) / BLOCK) * BLOCK;
		static uint8_t seen[16 * BLOCK];

		assert_int_equal(change((unsigned int)rand_r(&seed) % 8 ? CONTROL_DISK_WRITE
									: CONTROL_DISK_ZEROES,
					offset, length, (uint8_t)i),
				 0);
		blk_defer_stamp(defer, i);
		if (i % 7 == 0)
			blk_defer_settle(defer, i - (unsigned int)rand_r(&seed) % 20 % i);
		offset = (unsigned int)rand_r(&seed) % ((BYTES - length) / BLOCK) * BLOCK;
		assert_int_equal(blk_defer_read(defer, offset, seen, length), 0);
		assert_memory_equal(seen, model + offset, length);
	}
	assert_int_equal(blk_defer_end(defer), 0);
	assert_guest_reads_model();
	for (uint64_t at = 0; at < BYTES; at += 100)
		assert_int_equal(on_disk(at), model[at]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_off_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waits_for_its_position, setup, teardown),
		cmocka_unit_test_setup_teardown(test_later_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settled_is_synced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_order_for_all_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel_wakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return test_main(tests);
}
