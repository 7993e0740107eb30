/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log on disk, and what is recovered from it: after power cuts at random instants, from a
 * tail torn at each byte, with a bit flipped in each byte, of another VM, and with an error at
 * every step.
 */
#include "tests/unit/disk_power.h"

#include <sys/mount.h>

#include "disk-replica/marker.h"

static struct recovered done;

/* --- power cuts --------------------------------------------------------------------- */

/* Epochs come and are applied in random turns, many times around the ring; then the power goes. */
static void test_power_cuts(void **state)
{
	for (unsigned int cut = 0; cut < 30; cut++) {
		unsigned int steps = 1 + power_random(60);
		uint32_t max = power_random(2) ? 3000 : DISK_BYTES;
		uint64_t acked = 1;

		for (unsigned int i = 0; i < steps; i++) {
			bool sync = power_random(3);
			int err = power_epoch(power_random(12), max, sync);

			if (err == -ENOSPC) /* the receiver waits for commits, then goes on */
				break;
			assert_int_equal(err, 0);
			acked = sync ? power.sealed : acked;
			while (power.applied < acked && power_random(3))
				assert_int_equal(power_apply(), 0);
		}
		power_cut();
		power_expect(power.sealed);
		assert_true(power.sealed >= acked);
		assert_int_equal(power_teardown(state), 0);
		assert_int_equal(power_setup(state), 0);
	}
}

/* Round and round: what was overwritten is never needed, what is needed never overwritten. */
static void test_around_the_ring(void **state)
{
	uint64_t written = 0;

	(void)state;
	for (unsigned int i = 0; i < 300; i++) {
		uint64_t before = disk_log_used(power.log);

		assert_int_equal(power_epoch(6, 100000, true), 0);
		written += disk_log_used(power.log) - before;
		while (power.applied + 3 < power.sealed)
			assert_int_equal(power_apply(), 0);
	}
	assert_true(written > 8 * DISK_LOG_MIN);
	power_cut();
	power_expect(power.sealed);
}

static void test_partial_epoch(void **state)
{
	(void)state;
	assert_int_equal(power_epoch(5, 4000, true), 0);
	power_begin();
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(power_change(DISK_BYTES), 0); /* enough that it is in the file */
	power_cut();
	power_expect(2);
}

/* --- torn and spoiled --------------------------------------------------------------- */

struct bounds {
	uint64_t end[KEPT]; /* by epoch: the offset in the file behind its seal */
	uint64_t used;
};

/* Some epochs of small changes; the log is closed, the targets hold none of them. */
static void small_log(struct bounds *b, bool sync)
{
	b->end[1] = LOG_FILE_DATA;
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(power_epoch(3, 200, sync), 0);
		b->end[power.sealed] = LOG_FILE_DATA + disk_log_used(power.log);
	}
	b->used = b->end[power.sealed];
	power_kill();
}

static uint64_t epoch_before(const struct bounds *b, uint64_t at)
{
	uint64_t epoch = 1;

	while (epoch < power.sealed && b->end[epoch + 1] <= at)
		epoch++;
	return epoch;
}

static int scan(struct log_scan *ret)
{
	struct log_file *file;
	int err = log_file_open(power.dir, &file, &power.why);

	if (err)
		return err;
	err = recover_scan(file, power.disks, ret, &power.why);
	log_file_close(file);
	return err;
}

/* What the disk had not yet written when the power went: nothing, or what lay there before. */
static void test_torn_at_each_byte(void **state)
{
	static uint8_t whole[65536], torn[65536];
	struct bounds b;
	int fd;

	(void)state;
	small_log(&b, false);
	fd = power_log_fd();
	assert_int_equal(pread(fd, whole, b.used, 0), b.used);
	for (uint64_t at = LOG_FILE_DATA; at < b.used; at++) {
		struct log_scan s;
		uint64_t want = epoch_before(&b, at);

		memcpy(torn, whole, b.used);
		memset(torn + at, at % 3 ? 0 : 0xa5, b.used - at);
		/* Bytes that were zeroes and are again are not torn. */
		while (want < power.sealed && !memcmp(torn + b.end[want], whole + b.end[want],
						      b.end[want + 1] - b.end[want]))
			want++;
		assert_int_equal(
			pwrite(fd, torn + LOG_FILE_DATA, b.used - LOG_FILE_DATA, LOG_FILE_DATA),
			b.used - LOG_FILE_DATA);
		assert_int_equal(scan(&s), 0);
		assert_int_equal(s.epoch, want);
		if (at % 199 == 0)
			power_expect(want);
		if (at % 199 == 0) { /* and back to where it was */
			struct apply_marker m;

			assert_int_equal(apply_marker_read(power.dir, &m), 0);
			m.state = APPLY_FOLLOWING;
			memcpy(&m.log_key, whole + 32, 8);
			assert_int_equal(apply_marker_write(power.dir, &m), 0);
		}
	}
	close(fd);
}

static void flip(int fd, uint64_t at, uint8_t bit)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= bit;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

/* `proved`: later seals say that all but the newest epoch were durable. */
static void flip_each_byte(bool proved)
{
	struct bounds b;
	int fd;

	small_log(&b, proved);
	fd = power_log_fd();
	for (uint64_t at = LOG_FILE_DATA; at < b.used; at++) {
		uint8_t bit = (uint8_t)(1u << power_random(8));
		uint64_t lost = epoch_before(&b, at) + 1;
		struct log_scan s;
		int err;

		flip(fd, at, bit);
		err = scan(&s);
		if (proved && lost < power.sealed) {
			assert_int_equal(err, -EBADMSG);
			assert_non_null(strstr(power.why.text, "damaged"));
		} else {
			assert_int_equal(err, 0);
			assert_int_equal(s.epoch, lost - 1);
		}
		flip(fd, at, bit);
	}
	close(fd);
	power_expect(power.sealed);
}

static void test_flip_in_a_tail(void **state)
{
	(void)state;
	flip_each_byte(false);
}

static void test_flip_in_what_was_durable(void **state)
{
	(void)state;
	flip_each_byte(true);
}

/* One header is enough; none is a refusal. */
static void test_flip_in_headers(void **state)
{
	struct bounds b;
	struct log_scan s;
	int fd;

	(void)state;
	small_log(&b, true);
	fd = power_log_fd();
	for (uint64_t at = 0; at < LOG_FILE_HEADER_BYTES; at++) {
		uint8_t bit = (uint8_t)(1u << power_random(8));

		for (unsigned int slot = 0; slot < 2; slot++) {
			flip(fd, slot * LOG_FILE_SLOT + at, bit);
			assert_int_equal(scan(&s), 0);
			assert_int_equal(s.epoch, power.sealed);
			flip(fd, slot * LOG_FILE_SLOT + at, bit);
		}
		flip(fd, at, bit);
		flip(fd, LOG_FILE_SLOT + at, bit);
		assert_int_equal(power_recover(&done), -EBADMSG);
		assert_non_null(strstr(power.why.text, "disk-log"));
		flip(fd, at, bit);
		flip(fd, LOG_FILE_SLOT + at, bit);
	}
	close(fd);
	power_expect(power.sealed);
}

/* The newer header is lost after the room that it had freed was used again. */
static void test_stale_header(void **state)
{
	int fd;

	(void)state;
	for (unsigned int i = 0; i < 120; i++) {
		assert_int_equal(power_epoch(3, DISK_BYTES / 2, true), 0);
		assert_int_equal(power_apply(), 0);
	}
	power_kill();
	fd = power_log_fd();
	for (unsigned int slot = 0; slot < 2; slot++) {
		flip(fd, slot * LOG_FILE_SLOT + 20, 1);
		if (power_recover(&done))
			assert_non_null(strstr(power.why.text, "damaged"));
		else
			power_expect(power.sealed);
		flip(fd, slot * LOG_FILE_SLOT + 20, 1);
	}
	close(fd);
	power_expect(power.sealed);
}

static void test_truncated(void **state)
{
	struct bounds b;
	char path[DISK_PATH_MAX];

	(void)state;
	small_log(&b, true);
	power_path(path, LOG_FILE_NAME);
	assert_int_equal(truncate(path, LOG_FILE_DATA + DISK_LOG_MIN - 1), 0);
	assert_int_equal(power_recover(&done), -EBADMSG);
	assert_non_null(strstr(power.why.text, "truncated"));
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(power_recover(&done), -EBADMSG);
	assert_true(power_disks_are(1));
}

/* --- whose it is -------------------------------------------------------------------- */

static void set_marker(const struct apply_marker *m)
{
	assert_int_equal(apply_marker_write(power.dir, m), 0);
}

static void test_whose(void **state)
{
	struct recover_config other = { .state_dir = power.dir,
					.disks = power.disks,
					.nr_disks = NR_DISKS };
	struct apply_marker good, m;
	struct bounds b;

	(void)state;
	small_log(&b, true);
	assert_int_equal(apply_marker_read(power.dir, &good), 0);
	assert_int_equal(recover_disks(&other, &done, &power.why), -EXDEV);
	assert_non_null(strstr(power.why.text, "another VM"));
	m = good;
	m.generation = 6;
	set_marker(&m);
	assert_int_equal(power_recover(&done), -ESTALE);
	assert_non_null(strstr(power.why.text, "generation 5, the disks of 6"));
	m = good;
	m.log_key ^= 1;
	set_marker(&m);
	assert_int_equal(power_recover(&done), -ESTALE);
	set_marker(&good);
	memcpy(other.uuid, uuid, sizeof(uuid));
	other.nr_disks = 1;
	assert_int_equal(recover_disks(&other, &done, &power.why), -EINVAL);
	assert_non_null(strstr(power.why.text, "2 disks, the VM has 1"));
	assert_true(power_disks_are(1));
	power_expect(power.sealed);
}

static void test_nothing_to_recover(void **state)
{
	static const enum apply_state without[] = { APPLY_COPYING, APPLY_FAILED };
	struct apply_marker m;
	struct bounds b;

	(void)state;
	small_log(&b, true);
	assert_int_equal(apply_marker_read(power.dir, &m), 0);
	for (unsigned int i = 0; i < 2; i++) {
		m.state = without[i];
		set_marker(&m);
		assert_int_equal(power_recover(&done), 0);
		assert_false(done.consistent);
	}
	m.state = APPLY_FOLLOWING;
	m.log_key = 0; /* commit = memory; whatever lies in the file is older */
	set_marker(&m);
	assert_int_equal(power_recover(&done), 0);
	assert_false(done.consistent);
	assert_true(power_disks_are(1));
	m.log_key = 1;
	set_marker(&m);
	assert_int_equal(log_file_remove(power.dir), 0);
	assert_int_equal(power_recover(&done), -ENOENT);
	assert_int_equal(apply_marker_remove(power.dir), 0);
	assert_int_equal(power_recover(&done), 0);
	assert_false(done.consistent);
}

static void test_in_use(void **state)
{
	(void)state;
	assert_int_equal(power_epoch(3, 300, true), 0);
	assert_int_equal(power_recover(&done), -EBUSY);
	assert_non_null(strstr(power.why.text, "in use"));
	power_kill();
	truncate(power.disks[1].path, DISK_BYTES / 2);
	assert_int_equal(power_recover(&done), -EFBIG);
	assert_non_null(strstr(power.why.text, "b.img"));
	truncate(power.disks[1].path, DISK_BYTES);
	power_expect(2);
}

/* P4: intact, and not of these disks. */
static void test_misfit(void **state)
{
	uint8_t byte = 7;
	struct disk_record r = { CONTROL_DISK_WRITE, 0, DISK_BYTES, 1, &byte };

	(void)state;
	assert_int_equal(power_epoch(3, 300, true), 0);
	assert_int_equal(disk_log_append(power.log, 3, &r, NULL), 0);
	assert_int_equal(disk_log_seal(power.log, 3, NULL), 0);
	power_kill();
	assert_int_equal(power_recover(&done), -EBADMSG);
	assert_non_null(strstr(power.why.text, "fits"));
	assert_true(power_disks_are(1));
}

static void test_takeover_ends_it(void **state)
{
	(void)state;
	assert_int_equal(power_epoch(3, 300, true), 0);
	assert_int_equal(power_apply(), 0);
	assert_int_equal(apply_finish(power.apply, &power.why), 0);
	power.apply = NULL;
	power_kill();
	assert_int_equal(power_recover(&done), 0);
	assert_false(done.consistent);
	assert_int_equal(scan(&(struct log_scan){ 0 }), -ENOENT);
}

/* --- errors at every step ----------------------------------------------------------- */

static void test_errors_of_creation(void **state)
{
	static const struct {
		const char *fault;
		int err;
	} steps[] = {
		{ "log.create", -EIO },
		{ "log.allocate", -ENOSPC },
		{ "log.header", -EIO },
		{ "log.rename", -EIO },
	};
	struct bounds b;

	small_log(&b, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		power_arm(steps[i].fault);
		assert_int_equal(power_open_log(), steps[i].err);
		assert_non_null(strstr(power.why.text, "disk-log"));
		fault_armed = false;
	}
	(void)state;
	/* The old one is as it was. */
	power_expect(power.sealed);
}

/* A real full disk. */
static void test_no_space(void **state)
{
	char good[64], small[DISK_PATH_MAX];

	(void)state;
	power_kill();
	power_path(small, "small");
	assert_int_equal(mkdir(small, 0700), 0);
	if (mount("none", small, "tmpfs", 0, "size=2m")) {
		print_message("skipped: no permission to mount a tmpfs\n");
		skip();
	}
	strcpy(good, power.dir);
	strcat(power.dir, "/small");
	assert_int_equal(power_open_log(), -ENOSPC);
	assert_non_null(strstr(power.why.text, "4194304"));
	strcpy(power.dir, good);
	assert_int_equal(umount(small), 0);
}

/* Whatever fails, what was durable before is recovered, or what was whole and came after. */
static void test_errors_of_writing(void **state)
{
	static const char *const steps[] = { "log.write:9",   "log.seal:9",    "log.sync:9",
					     "log.tail",      "log.tail_sync", "log.flushed",
					     "log.applied:9", "disk.apply:25", "disk.flush:3" };

	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		uint64_t durable = 1;
		int err = 0;

		power_arm(steps[i]);
		for (unsigned int n = 0; n < 100 && !err; n++) {
			err = power_epoch(3, 100000, true);
			if (!err)
				durable = power.sealed;
			if (!err && power.applied + 2 < power.sealed)
				err = power_apply();
		}
		assert_true(err < 0);
		fault_armed = false;
		if (!strncmp(steps[i], "log.tail", 8)) /* the disks were flushed before */
			power.flushed = power.applied;
		if (!strncmp(steps[i], "disk.", 5)) {
			power_kill(); /* said by the marker: it is of no use */
			assert_int_equal(power_recover(&done), 0);
			assert_false(done.consistent);
		} else {
			power_cut();
			assert_int_equal(power_recover(&done), 0);
			assert_true(done.consistent);
			assert_true(done.epoch >= durable);
			assert_true(power_disks_are(done.epoch));
		}
		assert_int_equal(power_teardown(state), 0);
		assert_int_equal(power_setup(state), 0);
	}
}

/* Interrupted at each change and each step, it is done again from the start. */
static void test_errors_of_recovery(void **state)
{
	char fault[32];

	(void)state;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(power_epoch(4, 20000, true), 0);
	while (power.applied < 5)
		assert_int_equal(power_apply(), 0);
	power_cut();
	for (unsigned int n = 1; n <= 30; n++) {
		snprintf(fault, sizeof(fault), "recover.apply:%u", n);
		power_arm(fault);
		assert_int_equal(power_recover(&done), -EIO);
		fault_armed = false;
	}
	power_arm("recover.flush:2");
	assert_int_equal(power_recover(&done), -EIO);
	power_arm("recover.mark");
	assert_int_equal(power_recover(&done), -EIO);
	power_arm("marker.rename");
	assert_int_equal(power_recover(&done), -EIO);
	fault_armed = false;
	power_expect(power.sealed);
	power_expect(power.sealed); /* and it stays so */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_power_cuts, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_around_the_ring, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_partial_epoch, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_torn_at_each_byte, power_setup,
						power_teardown),
		cmocka_unit_test_setup_teardown(test_flip_in_a_tail, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_flip_in_what_was_durable, power_setup,
						power_teardown),
		cmocka_unit_test_setup_teardown(test_flip_in_headers, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_stale_header, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_truncated, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_whose, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_recover, power_setup,
						power_teardown),
		cmocka_unit_test_setup_teardown(test_in_use, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_misfit, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_takeover_ends_it, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_errors_of_creation, power_setup,
						power_teardown),
		cmocka_unit_test_setup_teardown(test_no_space, power_setup, power_teardown),
		cmocka_unit_test_setup_teardown(test_errors_of_writing, power_setup,
						power_teardown),
		cmocka_unit_test_setup_teardown(test_errors_of_recovery, power_setup,
						power_teardown),
	};

	power_seed();
	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
