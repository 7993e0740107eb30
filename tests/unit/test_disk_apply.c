/* SPDX-License-Identifier: Apache-2.0 */
/* The standby's disks: refusals, order, errors, and the marker that outlives them. */
#include "disk-replica/apply.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/fault.h"

#define DISK_BYTES (UINT64_C(1) << 20)

static char dir[64];
static struct disk_info disks[2];
static struct disk_log *log_;
static struct apply *apply;
static struct reason why;
static uint8_t bytes[DISK_DATA_MAX];

static void disk_path(char *ret, const char *name)
{
	snprintf(ret, DISK_PATH_MAX, "%s/%s", dir, name);
}

static void make_file(const char *path, uint64_t size)
{
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
}

static int try_open(void)
{
	struct apply_config config = { .disks = disks,
				       .nr_disks = ARRAY_SIZE(disks),
				       .state_dir = dir };

	memset(&why, 0, sizeof(why));
	return apply_open(&config, &apply, &why);
}

static int setup_dir(void **state)
{
	(void)state;
	apply = NULL;
	fault_armed = false;
	snprintf(dir, sizeof(dir), "/tmp/test_disk_apply.XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < ARRAY_SIZE(disks); i++) {
		disks[i].bytes = DISK_BYTES;
		disk_path(disks[i].path, i ? "b.img" : "a.img");
		make_file(disks[i].path, DISK_BYTES);
	}
	return disk_log_open(DISK_LOG_MIN, NULL, &log_, NULL);
}

static int setup(void **state)
{
	return setup_dir(state) || try_open() || apply_sync(apply, &why);
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	fault_armed = false;
	apply_close(apply);
	disk_log_close(log_);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? -1 : 0;
}

static enum apply_state marker_state(void)
{
	struct apply_marker marker;

	assert_int_equal(apply_marker_read(dir, &marker), 0);
	return marker.state;
}

static struct disk_record write_of(uint64_t offset, uint64_t length, uint8_t fill)
{
	memset(bytes, fill, length);
	return (struct disk_record){ CONTROL_DISK_WRITE, 0, offset, length, bytes };
}

static void log_write(uint64_t epoch, uint64_t offset, uint64_t length, uint8_t fill)
{
	struct disk_record r = write_of(offset, length, fill);

	assert_int_equal(disk_log_append(log_, epoch, &r, &why), 0);
}

static void log_op(uint64_t epoch, enum control_disk_op op, uint64_t offset, uint64_t length)
{
	struct disk_record r = { op, 0, offset, length, NULL };

	assert_int_equal(disk_log_append(log_, epoch, &r, &why), 0);
}

static uint8_t byte_at(uint64_t offset)
{
	cleanup_close int fd = open(disks[0].path, O_RDONLY);
	uint8_t b = 0xee;

	assert_int_equal(pread(fd, &b, 1, (off_t)offset), 1);
	return b;
}

static void seal_and_apply(uint64_t epoch)
{
	assert_int_equal(disk_log_seal(log_, epoch, &why), 0);
	assert_int_equal(apply_epoch(apply, log_, epoch, &why), 0);
}

static void test_refusals(void **state)
{
	char good[DISK_PATH_MAX];

	(void)state;
	strcpy(good, disks[1].path);
	disk_path(disks[1].path, "absent.img");
	assert_int_equal(try_open(), -ENOENT);
	assert_non_null(strstr(why.text, "absent.img"));
	strcpy(disks[1].path, good);
	disks[1].bytes = DISK_BYTES + 512;
	assert_int_equal(try_open(), -EFBIG);
	assert_non_null(strstr(why.text, "1048576"));
	assert_non_null(strstr(why.text, "1049088"));
	disks[1].bytes = DISK_BYTES;
	strcpy(disks[1].path, dir);
	assert_int_equal(try_open(), -EINVAL);
	strcpy(disks[1].path, "/dev/null");
	assert_int_equal(try_open(), -EINVAL);
	disk_path(disks[1].path, "fifo");
	assert_int_equal(mkfifo(disks[1].path, 0600), 0);
	assert_int_equal(try_open(), -EINVAL);
	strcpy(disks[1].path, disks[0].path); /* the same disk twice */
	assert_int_equal(try_open(), -EBUSY);
	assert_null(apply);
	/* No refusal has left a marker: the disks were not touched. */
	assert_int_equal(apply_marker_read(dir, &(struct apply_marker){ 0 }), -ENOENT);
}

static void test_lock(void **state)
{
	struct apply *second = NULL;
	struct apply_config config = { .disks = disks,
				       .nr_disks = ARRAY_SIZE(disks),
				       .state_dir = dir };

	(void)state;
	assert_int_equal(apply_open(&config, &second, &why), -EBUSY);
	assert_null(second);
	assert_int_equal(apply_finish(apply, &why), 0);
	apply = NULL;
	assert_int_equal(apply_open(&config, &second, &why), 0);
	apply_close(second);
}

static void test_marker(void **state)
{
	struct apply_marker marker;

	(void)state;
	assert_int_equal(apply_marker_read(dir, &marker), -ENOENT);
	assert_int_equal(try_open(), 0);
	assert_int_equal(marker_state(), APPLY_COPYING);
	assert_int_equal(disk_log_seal(log_, 1, &why), 0);
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EBUSY);
	assert_int_equal(apply_sync(apply, &why), 0);
	assert_int_equal(marker_state(), APPLY_FOLLOWING);
	apply_close(apply); /* as a crash would */
	assert_int_equal(marker_state(), APPLY_FOLLOWING);
	assert_int_equal(try_open(), 0);
	assert_int_equal(marker_state(), APPLY_COPYING);
	assert_int_equal(apply_finish(apply, &why), -EBUSY);
	assert_int_equal(marker_state(), APPLY_COPYING);
	assert_int_equal(try_open(), 0);
	assert_int_equal(apply_sync(apply, &why), 0);
	assert_int_equal(apply_finish(apply, &why), 0);
	apply = NULL;
	assert_int_equal(apply_marker_read(dir, &marker), -ENOENT);
}

static void test_bad_marker(void **state)
{
	const struct apply_marker failed = { .state = APPLY_FAILED, .error = EIO };
	struct apply_marker marker = { .error = 77 };
	char path[DISK_PATH_MAX];
	int fd;

	(void)state;
	disk_path(path, APPLY_MARKER_NAME);
	for (unsigned int i = 0; i < APPLY_MARKER_BYTES; i++) {
		uint8_t b;

		assert_int_equal(apply_marker_write(dir, &failed), 0);
		fd = open(path, O_RDWR);
		assert_int_equal(pread(fd, &b, 1, i), 1);
		b ^= 1;
		assert_int_equal(pwrite(fd, &b, 1, i), 1);
		close(fd);
		assert_int_equal(apply_marker_read(dir, &marker), -EBADMSG);
	}
	assert_int_equal(truncate(path, 5), 0);
	assert_int_equal(apply_marker_read(dir, &marker), -EBADMSG);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(apply_marker_read(dir, &marker), -EBADMSG);
	assert_int_equal(marker.error, 77);
	assert_int_equal(apply_marker_remove(dir), 0);
	assert_int_equal(apply_marker_remove(dir), 0);
}

static void test_order(void **state)
{
	(void)state;
	log_write(1, 0, 8192, 1);
	log_write(1, 4096, 8192, 2);
	log_op(1, CONTROL_DISK_FLUSH, 0, 0);
	log_op(1, CONTROL_DISK_DISCARD, 10240, 512);
	log_write(1, 10300, 10, 4);
	seal_and_apply(1);
	log_write(2, 2048, 4096, 3);
	assert_int_equal(byte_at(0), 1);
	assert_int_equal(byte_at(2048), 1); /* epoch 2 is not there yet */
	assert_int_equal(byte_at(4096), 2);
	assert_int_equal(byte_at(10239), 2);
	assert_int_equal(byte_at(10240), 0);
	assert_int_equal(byte_at(10300), 4);
	assert_int_equal(byte_at(10310), 0);
	assert_int_equal(byte_at(10752), 2);
	assert_int_equal(apply_epoch(apply, log_, 2, &why), -ENOENT);
	assert_int_equal(byte_at(2048), 1);
	seal_and_apply(2);
	assert_int_equal(byte_at(2048), 3);
	assert_int_equal(byte_at(6143), 3);
	assert_int_equal(byte_at(6144), 2);
	assert_int_equal(disk_log_used(log_), 0);
}

static void test_zeroes(void **state)
{
	struct disk_record r = write_of(0, DISK_DATA_MAX, 0x77);

	(void)state;
	assert_int_equal(apply_record(apply, &r, &why), 0);
	r = (struct disk_record){ CONTROL_DISK_ZEROES, 0, 100, 100000, NULL };
	assert_int_equal(apply_record(apply, &r, &why), 0);
	assert_int_equal(byte_at(99), 0x77);
	assert_int_equal(byte_at(100), 0);
	assert_int_equal(byte_at(50000), 0);
	assert_int_equal(byte_at(100099), 0);
	assert_int_equal(byte_at(100100), 0x77);
	assert_int_equal(apply_bytes(apply), DISK_DATA_MAX + 100000);
}

/* P4: an epoch with a record that does not fit changes nothing, not even its good ones. */
static void test_bad_record(void **state)
{
	struct disk_record r = write_of(DISK_BYTES - 10, 11, 1);

	(void)state;
	assert_int_equal(apply_record(apply, &r, &why), -EPROTO);
	log_write(1, 0, 512, 9);
	assert_int_equal(disk_log_append(log_, 1, &r, &why), 0);
	assert_int_equal(disk_log_seal(log_, 1, &why), 0);
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EPROTO);
	assert_int_equal(byte_at(0), 0);
	assert_false(apply_is_broken(apply));
}

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static void expect_broken(int err)
{
	struct apply_marker marker;

	assert_true(apply_is_broken(apply));
	assert_int_equal(apply_marker_read(dir, &marker), 0);
	assert_int_equal(marker.state, APPLY_FAILED);
	assert_int_equal(marker.error, err);
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EIO);
	assert_int_equal(apply_sync(apply, &why), -EIO);
	assert_int_equal(apply_finish(apply, &why), -EIO);
	apply = NULL;
	assert_int_equal(marker_state(), APPLY_FAILED);
}

static void test_error_half_way(void **state)
{
	(void)state;
	log_write(1, 0, 512, 1);
	log_write(1, 512, 512, 2);
	assert_int_equal(disk_log_seal(log_, 1, &why), 0);
	arm("disk.apply:2");
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EIO);
	assert_non_null(strstr(why.text, "a.img"));
	assert_int_equal(byte_at(0), 1);
	assert_int_equal(byte_at(512), 0);
	expect_broken(EIO);
}

static void test_error_of_flush(void **state)
{
	(void)state;
	log_op(1, CONTROL_DISK_FLUSH, 0, 0);
	assert_int_equal(disk_log_seal(log_, 1, &why), 0);
	arm("disk.flush");
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EIO);
	expect_broken(EIO);
}

/* The epoch that broke the disks can be applied from its beginning, and makes them whole; what
 * broke them during the first copy is lost. */
static void test_again(void **state)
{
	struct disk_record r = write_of(0, 512, 1);

	(void)state;
	log_write(1, 0, 512, 1);
	log_write(1, 512, 512, 2);
	assert_int_equal(disk_log_seal(log_, 1, &why), 0);
	arm("disk.apply:2:once");
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EIO);
	assert_int_equal(apply_epoch(apply, log_, 1, &why), -EIO);
	assert_int_equal(apply_again(apply, &why), 0);
	assert_int_equal(marker_state(), APPLY_FOLLOWING);
	assert_int_equal(apply_epoch(apply, log_, 1, &why), 0);
	assert_int_equal(byte_at(512), 2);
	assert_false(apply_has_lost(apply));
	assert_int_equal(apply_finish(apply, &why), 0);

	assert_int_equal(try_open(), 0);
	arm("disk.apply:1:once");
	assert_int_equal(apply_record(apply, &r, &why), -EIO);
	assert_int_equal(apply_again(apply, &why), -EIO);
	assert_int_equal(apply_sync(apply, &why), -EIO);
}

/* A real full disk: a sparse image on a filesystem that has no room for it. */
static void test_full_disk(void **state)
{
	char small[DISK_PATH_MAX];
	struct disk_record r = write_of(0, DISK_DATA_MAX, 1);
	int err = 0;

	(void)state;
	disk_path(small, "small");
	assert_int_equal(mkdir(small, 0700), 0);
	if (mount("none", small, "tmpfs", 0, "size=512k")) {
		print_message("skipped: no permission to mount a tmpfs\n");
		skip();
	}
	disk_path(disks[0].path, "small/a.img");
	make_file(disks[0].path, DISK_BYTES);
	err = try_open();
	for (r.offset = 0; !err && r.offset < DISK_BYTES; r.offset += DISK_DATA_MAX)
		err = apply_record(apply, &r, &why);
	assert_int_equal(err, -ENOSPC);
	assert_non_null(strstr(why.text, "No space left"));
	expect_broken(ENOSPC);
	assert_int_equal(umount(small), 0);
}

/* Disk 0 is on DRBD: `kept` is what it is here, once this host is its primary. */
static int setup_drbd(void **state)
{
	if (setup_dir(state))
		return -1;
	strcpy(disks[0].path, "drbd:r0");
	return try_open() || apply_sync(apply, &why);
}

static int open_kept(void)
{
	char path[DISK_PATH_MAX];

	disk_path(path, "a.img");
	strcpy(disks[0].path, path);
	return open(path, O_RDWR | O_CLOEXEC);
}

static uint64_t oldest(void)
{
	uint64_t epoch = 0;

	return disk_log_oldest(log_, &epoch) ? epoch : 0;
}

static void test_drbd_keeps_until_settled(void **state)
{
	struct disk_record other;
	cleanup_close int fd = -1;

	(void)state;
	assert_true(apply_keeps(apply));
	for (uint64_t epoch = 1; epoch <= 4; epoch++) {
		log_write(epoch, epoch * 4096, 512, (uint8_t)epoch);
		if (epoch == 2) {
			other = write_of(0, 512, 7);
			other.disk = 1;
			assert_int_equal(disk_log_append(log_, epoch, &other, &why), 0);
		}
		seal_and_apply(epoch);
	}
	assert_int_equal(oldest(), 1);
	apply_settled(apply, log_, 2);
	assert_int_equal(oldest(), 3);
	apply_settled(apply, log_, 1); /* never down */
	assert_int_equal(oldest(), 3);
	log_write(5, 0, 512, 9); /* whole, and not applied: not to be settled */
	assert_int_equal(disk_log_seal(log_, 5, &why), 0);
	log_write(6, 0, 512, 10); /* not whole */
	apply_settled(apply, log_, 3);
	fd = open_kept();
	assert_int_equal(byte_at(4 * 4096), 0);
	assert_int_equal(apply_kept(apply, log_, 0, fd, &why), 0);
	assert_int_equal(byte_at(2 * 4096), 0);
	assert_int_equal(byte_at(3 * 4096), 0);
	assert_int_equal(byte_at(4 * 4096), 4);
	assert_int_equal(byte_at(0), 0);
	strcpy(disks[0].path, disks[1].path);
	assert_int_equal(byte_at(0), 7);
}

/* What is made again is in the order in which it was made. */
static void test_drbd_writes_again_in_order(void **state)
{
	cleanup_close int fd = -1;

	(void)state;
	log_write(1, 0, 512, 1);
	log_op(1, CONTROL_DISK_ZEROES, 0, 256);
	log_op(1, CONTROL_DISK_FLUSH, 0, 0);
	seal_and_apply(1);
	log_write(2, 128, 64, 2);
	seal_and_apply(2);
	fd = open_kept();
	assert_int_equal(apply_kept(apply, log_, 0, fd, &why), 0);
	assert_int_equal(byte_at(0), 0);
	assert_int_equal(byte_at(130), 2);
	assert_int_equal(byte_at(300), 1);
	fault_armed = false;
	assert_int_equal(apply_finish(apply, &why), 0);
	apply = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_refusals, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_marker, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_bad_marker, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zeroes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_error_half_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_of_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drbd_keeps_until_settled, setup_drbd,
						teardown),
		cmocka_unit_test_setup_teardown(test_drbd_writes_again_in_order, setup_drbd,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
