/* SPDX-License-Identifier: Apache-2.0 */
/* The backup's log: order, partial epochs, the bound, and wrapping against a model. */
#include "disk-replica/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/fault.h"

static struct disk_log *log_;
static uint8_t bytes[DISK_DATA_MAX];

static int setup(void **state)
{
	(void)state;
	return disk_log_open(DISK_LOG_MIN, NULL, &log_, NULL);
}

static int teardown(void **state)
{
	(void)state;
	disk_log_close(log_);
	return 0;
}

static struct disk_record write_of(uint64_t offset, uint64_t length)
{
	return (struct disk_record){ CONTROL_DISK_WRITE, 0, offset, length, bytes };
}

static int append(uint64_t epoch, uint64_t offset, uint64_t length)
{
	struct disk_record r = write_of(offset, length);

	return disk_log_append(log_, epoch, &r, NULL);
}

static uint64_t entry_bytes(uint64_t length)
{
	return length + DISK_LOG_RECORD_OVERHEAD;
}

/* Walks an epoch and expects these offsets in this order. */
static void expect_offsets(uint64_t epoch, const uint64_t *offsets, size_t n)
{
	struct disk_log_iter it = { .epoch = epoch };
	struct disk_record r;

	for (size_t i = 0; i < n; i++) {
		assert_int_equal(disk_log_next(log_, &it, &r), 0);
		assert_int_equal(r.offset, offsets[i]);
	}
	assert_int_equal(disk_log_next(log_, &it, &r), -ENODATA);
}

static void test_order(void **state)
{
	uint64_t oldest;

	(void)state;
	assert_int_equal(append(7, 1, 10), 0);
	assert_int_equal(append(7, 2, 10), 0);
	assert_false(disk_log_oldest(log_, &oldest));
	assert_int_equal(disk_log_seal(log_, 7, NULL), 0);
	assert_int_equal(append(8, 100, 10), 0);
	assert_int_equal(append(8, 101, 10), 0);
	assert_int_equal(disk_log_seal(log_, 8, NULL), 0);
	assert_true(disk_log_oldest(log_, &oldest));
	assert_int_equal(oldest, 7);
	expect_offsets(7, (uint64_t[]){ 1, 2 }, 2);
	disk_log_release(log_, 7);
	assert_true(disk_log_oldest(log_, &oldest));
	assert_int_equal(oldest, 8);
	expect_offsets(8, (uint64_t[]){ 100, 101 }, 2);
	disk_log_release(log_, 8);
	assert_false(disk_log_oldest(log_, &oldest));
	assert_int_equal(disk_log_used(log_), 0);
	assert_true(disk_log_peak(log_) > 0);
}

static void test_partial_is_dropped(void **state)
{
	struct disk_log_iter it = { .epoch = 2 };
	struct disk_record r;
	uint64_t oldest;

	(void)state;
	assert_int_equal(append(1, 1, 10), 0);
	assert_int_equal(append(1, 3, 10), 0);
	assert_int_equal(disk_log_seal(log_, 1, NULL), 0);
	assert_int_equal(append(2, 2, 10), 0);
	assert_int_equal(disk_log_next(log_, &it, &r), -ENOENT);
	disk_log_drop_partial(log_);
	assert_true(disk_log_oldest(log_, &oldest));
	assert_int_equal(oldest, 1);
	assert_int_equal(disk_log_next(log_, &it, &r), -ENOENT);
	assert_int_equal(append(2, 5, 10), -EPROTO);
	assert_int_equal(disk_log_seal(log_, 2, NULL), -EPROTO);
	expect_offsets(1, (uint64_t[]){ 1, 3 }, 2);
	disk_log_release(log_, 1);
	assert_int_equal(disk_log_used(log_), 0);
}

static void test_order_of_epochs(void **state)
{
	struct reason why = { 0 };

	(void)state;
	assert_int_equal(append(5, 1, 1), 0);
	assert_int_equal(append(6, 1, 1), -EPROTO);
	assert_int_equal(disk_log_seal(log_, 6, &why), -EPROTO);
	assert_non_null(strstr(why.text, "6"));
	assert_int_equal(disk_log_seal(log_, 5, NULL), 0);
	assert_int_equal(disk_log_seal(log_, 5, NULL), -EPROTO);
	assert_int_equal(append(5, 1, 1), -EPROTO);
	assert_int_equal(append(4, 1, 1), -EPROTO);
	/* An epoch in which no disk changed is an epoch. */
	assert_int_equal(disk_log_seal(log_, 6, NULL), 0);
	expect_offsets(6, NULL, 0);
}

static void test_bound_in_bytes(void **state)
{
	struct reason why = { 0 };
	struct disk_record r = write_of(0, DISK_DATA_MAX);
	uint64_t used, n = 0;

	(void)state;
	while (!disk_log_append(log_, 1, &r, &why))
		n++;
	assert_int_equal(n, DISK_LOG_MIN / (DISK_DATA_MAX + DISK_LOG_RECORD_OVERHEAD));
	assert_non_null(strstr(why.text, "4194304"));
	assert_true(disk_log_used(log_) <= disk_log_limit(log_));
	/* The refused record has left no trace, the others are whole, and room comes back. */
	assert_int_equal(disk_log_seal(log_, 1, NULL), 0);
	used = disk_log_used(log_);
	assert_int_equal(append(2, 0, DISK_DATA_MAX), -ENOSPC);
	assert_int_equal(disk_log_used(log_), used);
	disk_log_release(log_, 1);
	assert_int_equal(append(2, 0, DISK_DATA_MAX), 0);
	r.length = DISK_DATA_MAX + 1;
	assert_int_equal(disk_log_append(log_, 2, &r, NULL), -EPROTO);
}

/* What is passed over at the arena's end counts: else a record would land on a live one. */
static void test_bound_at_the_wrap(void **state)
{
	struct disk_log_iter it = { .epoch = 2 };
	struct disk_record r = write_of(0, DISK_DATA_MAX);

	(void)state;
	assert_int_equal(append(1, 0, 4096), 0);
	memset(bytes, 0x11, sizeof(bytes));
	assert_int_equal(disk_log_seal(log_, 1, NULL), 0);
	while (disk_log_append(log_, 2, &r, NULL) == 0)
		;
	assert_int_equal(disk_log_seal(log_, 2, NULL), 0);
	disk_log_release(log_, 1);
	memset(bytes, 0x22, sizeof(bytes));
	/* There is room for this in all, and not in one piece. */
	assert_true(disk_log_limit(log_) - disk_log_used(log_) >= entry_bytes(260096));
	assert_int_equal(append(3, 0, 260096), -ENOSPC);
	assert_int_equal(append(3, 0, 4032), 0);
	while (disk_log_next(log_, &it, &r) == 0)
		assert_int_equal(((const uint8_t *)r.data)[r.length - 1], 0x11);
}

static void test_bound_in_epochs(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < DISK_LOG_EPOCHS; i++)
		assert_int_equal(disk_log_seal(log_, i, NULL), 0);
	assert_int_equal(disk_log_seal(log_, DISK_LOG_EPOCHS, NULL), -ENOSPC);
	disk_log_release(log_, 0);
	assert_int_equal(disk_log_seal(log_, DISK_LOG_EPOCHS, NULL), 0);
}

/* The next of a series that the walk below repeats from the same seed. */
static struct disk_record nth_record(uint64_t epoch, unsigned int i)
{
	uint32_t x = (uint32_t)(epoch * 2654435761u + i * 40503u);

	x ^= x >> 13;
	x *= 2246822519u;
	if (x % 7 == 0)
		return (struct disk_record){ CONTROL_DISK_FLUSH, (uint16_t)(x >> 8 & 7), 0, 0,
					     NULL };
	return write_of(x, 1 + x % (x % 5 ? 5000 : DISK_DATA_MAX));
}

static void walk(uint64_t epoch, unsigned int n)
{
	struct disk_log_iter it = { .epoch = epoch };
	struct disk_record r;

	for (unsigned int i = 0; i < n; i++) {
		struct disk_record want = nth_record(epoch, i);

		assert_int_equal(disk_log_next(log_, &it, &r), 0);
		assert_int_equal(r.op, want.op);
		assert_int_equal(r.disk, want.disk);
		assert_int_equal(r.offset, want.offset);
		assert_int_equal(r.length, want.length);
		if (r.op != CONTROL_DISK_WRITE)
			continue;
		assert_int_equal(((const uint8_t *)r.data)[0], (uint8_t)want.offset);
		assert_int_equal(((const uint8_t *)r.data)[r.length - 1], (uint8_t)want.offset);
	}
	assert_int_equal(disk_log_next(log_, &it, &r), -ENODATA);
	disk_log_release(log_, epoch);
}

/* Three epochs in flight, many times around the arena: what goes in comes out. */
static void test_wraps(void **state)
{
	unsigned int n[64] = { 0 };

	(void)state;
	for (uint64_t e = 0; e < 2000; e++) {
		for (unsigned int i = 0; i < 12; i++) {
			struct disk_record r = nth_record(e, n[e % 64]);

			if (r.data)
				memset(bytes, (uint8_t)r.offset, r.length);
			if (disk_log_append(log_, e, &r, NULL) == 0)
				n[e % 64]++;
		}
		assert_int_equal(disk_log_seal(log_, e, NULL), 0);
		if (e >= 2) {
			walk(e - 2, n[(e - 2) % 64]);
			n[(e - 2) % 64] = 0;
		}
	}
	assert_true(disk_log_peak(log_) <= disk_log_limit(log_));
}

static void test_fault(void **state)
{
	(void)state;
	setenv("POLLUX_FAULT", "disk.log:2:once", 1);
	assert_int_equal(fault_open(), 0);
	assert_int_equal(append(1, 0, 8), 0);
	assert_int_equal(append(1, 0, 8), -ENOSPC);
	assert_int_equal(append(1, 0, 8), 0);
}

static void test_limits(void **state)
{
	struct disk_log *none = NULL;

	(void)state;
	assert_int_equal(disk_log_open(DISK_LOG_MIN - 1, NULL, &none, NULL), -EINVAL);
	assert_int_equal(disk_log_open(DISK_LOG_MAX + 1, NULL, &none, NULL), -EINVAL);
	assert_null(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_partial_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order_of_epochs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bound_in_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bound_at_the_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bound_in_epochs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wraps, setup, teardown),
		cmocka_unit_test(test_limits),
		cmocka_unit_test_setup_teardown(test_fault, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
