/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit = disk: nothing is told of an epoch before it is durable, all in order after, and
 * an error is told once in its place.
 */
#include "tests/unit/disk_power.h"

#include <poll.h>

#include "disk-replica/marker.h"
#include "ha/harden.h"
#include "ha/mailbox.h"

static struct mailbox *mailbox;
static struct harden *harden;

/* As power_setup(), and the first copy is not synced yet. */
static int setup(void **state)
{
	struct apply_marker m;

	assert_int_equal(power_setup(state), 0);
	assert_int_equal(apply_marker_read(power.dir, &m), 0);
	m.state = APPLY_COPYING;
	assert_int_equal(apply_marker_write(power.dir, &m), 0);
	assert_int_equal(mailbox_open(&mailbox), 0);
	return harden_open(&(struct harden_config){ power.log, power.apply, mailbox }, &harden);
}

static int teardown(void **state)
{
	harden_close(harden);
	mailbox_close(mailbox);
	return power_teardown(state);
}

static void add(uint64_t epoch)
{
	struct letter l = {
		.kind = LETTER_EPOCH_WHOLE, .session = 1, .epoch = epoch, .value = epoch * 7
	};

	harden_add(harden, &l);
}

static void await(struct letter *ret)
{
	struct pollfd p = { .fd = mailbox_fd(mailbox), .events = POLLIN };

	while (!mailbox_take(mailbox, ret))
		assert_int_equal(poll(&p, 1, 10000), 1);
}

static void expect_whole(uint64_t epoch)
{
	struct letter l;

	await(&l);
	assert_int_equal(l.kind, LETTER_EPOCH_WHOLE);
	assert_int_equal(l.epoch, epoch);
	assert_int_equal(l.value, epoch * 7);
}

static void test_order(void **state)
{
	struct apply_marker m;

	(void)state;
	add(1);
	expect_whole(1);
	assert_int_equal(apply_marker_read(power.dir, &m), 0);
	assert_int_equal(m.state, APPLY_FOLLOWING);
	for (uint64_t epoch = 2; epoch < 12; epoch++) {
		assert_int_equal(power_epoch(2, 4000, false), 0);
		add(epoch);
	}
	for (uint64_t epoch = 2; epoch < 12; epoch++)
		expect_whole(epoch);
}

static void expect_failure(const char *fault, enum role_why why)
{
	struct letter l;

	add(1);
	expect_whole(1);
	power_arm(fault);
	for (uint64_t epoch = 2; epoch < 5; epoch++) {
		assert_int_equal(power_epoch(2, 4000, false), 0);
		add(epoch);
	}
	await(&l);
	assert_int_equal(l.kind, LETTER_FAILED);
	assert_int_equal(l.reason_why, why);
	assert_int_equal(l.session, 1);
	harden_close(harden);
	harden = NULL;
	assert_false(mailbox_take(mailbox, &l));
}

static void test_sync_fails(void **state)
{
	(void)state;
	expect_failure("log.sync", ROLE_WHY_DISK_ERROR);
}

static void test_tell_fails(void **state)
{
	(void)state;
	expect_failure("harden.tell", ROLE_WHY_DISK_ERROR);
}

/* The first copy is not on the disks: the first epoch is not told of. */
static void test_first_copy_fails(void **state)
{
	struct letter l;

	(void)state;
	power_arm("disk.flush");
	add(1);
	await(&l);
	assert_int_equal(l.kind, LETTER_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sync_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tell_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_copy_fails, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
