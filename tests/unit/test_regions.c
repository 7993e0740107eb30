/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-replica/regions.h: a region file is there whole or as it was; one that is cut short,
 * spoilt or of something else is never believed to say that a region is alike; and disks that
 * somebody else has written to are noticed.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/regions.h"
#include "tests/lib/dir.h"
#include "tests/unit/disk_files.h"

#define R	    (UINT64_C(1) << 16)
#define NR	    2u
#define FILE_BLOCKS 5u /* header, stamp, one of disk 0, two of disk 1 */
#define FILE_BYTES  (FILE_BLOCKS * REGION_BLOCK_BYTES)

static struct test_dir dir;
static struct disk_info disks[NR];
static const struct region_header like = { .token = "a token of ours",
					   .generation = 7,
					   .peer = "b" };
static struct reason why;
static char path[128];

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static int setup(void **state)
{
	static const uint64_t bytes[NR] = { 300 * R, 5000 * R - 512 };

	(void)state;
	fault_armed = false;
	assert_int_equal(test_dir_open(&dir), 0);
	snprintf(path, sizeof(path), "%s/%s", dir.path, REGIONS_NAME);
	disk_files_make(dir.path, bytes, NR, disks);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fault_armed = false;
	test_dir_close(&dir);
	return 0;
}

static void create(bool full)
{
	assert_int_equal(regions_create(dir.path, &like, disks, NR, full), 0);
}

static void load(uint8_t bytes[FILE_BYTES])
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	assert_int_equal(pread(fd, bytes, FILE_BYTES, 0), FILE_BYTES);
	close(fd);
}

static void store(const uint8_t *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	close(fd);
}

/* Marked regions, or -1 when it is no region file. */
static int64_t marked(uint64_t *ret_torn)
{
	struct regions r;
	int64_t n = 0;
	int err = regions_read(dir.path, disks, NR, &r, &why);

	if (err) {
		assert_int_equal(err, -EBADMSG);
		return -1;
	}
	for (unsigned int i = 0; i < r.sets.nr_disks; i++)
		n += (int64_t)bitmap_count(r.sets.bits[i], region_count(r.sets.disk_bytes[i]));
	if (ret_torn)
		*ret_torn = r.torn;
	regions_close(&r);
	return n;
}

static void test_made_and_read(void **state)
{
	uint8_t boot[REGION_BOOT_BYTES], none[REGION_BOOT_BYTES] = { 0 };
	struct regions r;

	(void)state;
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), -ENOENT);
	assert_int_equal(regions_open_fd(dir.path, REGIONS_OWN), -ENOENT);
	create(true);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_memory_equal(r.header.token, like.token, REGION_TOKEN_BYTES);
	assert_int_equal(r.header.generation, 7);
	assert_string_equal(r.header.peer, "b");
	assert_int_equal(r.header.nr_disks, NR);
	assert_int_equal(r.header.disk_bytes[1], disks[1].bytes);
	assert_int_equal(r.stamp.state, REGION_OPEN);
	regions_boot_id(boot);
	assert_memory_not_equal(boot, none, sizeof(boot));
	assert_memory_equal(r.stamp.boot, boot, sizeof(boot));
	assert_int_equal(r.torn, 0);
	assert_int_equal(region_sets_bytes(&r.sets), disks[0].bytes + disks[1].bytes);
	regions_close(&r);
	assert_int_equal(marked(NULL), 300 + 5000);
	create(false);
	assert_int_equal(marked(NULL), 0);
	assert_int_equal(regions_remove(dir.path), 0);
	assert_int_equal(regions_remove(dir.path), 0);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), -ENOENT);
	assert_int_equal(regions_create("/nowhere", &like, disks, NR, true), -ENOENT);
}

/* However often it is interrupted, what was there is there. */
static void test_interrupted(void **state)
{
	uint8_t before[FILE_BYTES], after[FILE_BYTES];

	(void)state;
	create(true);
	load(before);
	for (unsigned int i = 0; i < 10; i++) {
		arm(i % 2 ? "regions.create" : "regions.rename");
		assert_int_equal(regions_create(dir.path, &like, disks, NR, false), -EIO);
		load(after);
		assert_memory_equal(before, after, FILE_BYTES);
	}
	fault_armed = false;
	create(false);
	assert_int_equal(marked(NULL), 0);
}

/* A real full disk. */
static void test_no_space(void **state)
{
	static uint8_t junk[4096];
	uint8_t before[FILE_BYTES], after[FILE_BYTES];
	char full[128];
	int fd;

	(void)state;
	if (mount("none", dir.path, "tmpfs", 0, "size=8k")) {
		print_message("skipped: no permission to mount a tmpfs\n");
		skip();
	}
	create(true);
	load(before);
	snprintf(full, sizeof(full), "%s/full", dir.path);
	fd = open(full, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
	close(fd);
	assert_int_equal(regions_create(dir.path, &like, disks, NR, false), -ENOSPC);
	load(after);
	assert_memory_equal(before, after, FILE_BYTES);
	assert_int_equal(umount(dir.path), 0);
}

/* --- spoilt ----------------------------------------------------------------------- */

static void test_truncated(void **state)
{
	uint8_t bytes[FILE_BYTES];
	char elsewhere[128];

	(void)state;
	create(false);
	load(bytes);
	for (size_t len = 0; len < FILE_BYTES; len++) {
		store(bytes, len);
		assert_int_equal(marked(NULL), -1);
	}
	store(bytes, FILE_BYTES);
	assert_int_equal(marked(NULL), 0);
	/* Nor is a link followed, or a folder taken for one. */
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", dir.path);
	assert_int_equal(rename(path, elsewhere), 0);
	assert_int_equal(symlink("elsewhere", path), 0);
	assert_int_equal(marked(NULL), -1);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(marked(NULL), -1);
}

/* A flipped bit may set marks. It clears none, and makes no file of another one. */
static void test_each_bit(void **state)
{
	static const int64_t in_block[] = { 0, 0, 300, 4032, 5000 - 4032 };
	uint8_t good[FILE_BYTES], bad[FILE_BYTES];
	struct regions r;

	(void)state;
	create(false);
	load(good);
	for (size_t at = 0; at < FILE_BYTES; at++) {
		size_t block = at / REGION_BLOCK_BYTES;
		uint64_t torn = 0;

		memcpy(bad, good, FILE_BYTES);
		bad[at] ^= (uint8_t)(1u << at % 8);
		store(bad, FILE_BYTES);
		if (!block) {
			assert_int_equal(marked(NULL), -1);
			continue;
		}
		assert_int_equal(marked(&torn), in_block[block]);
		assert_int_equal(torn, block > 1);
		if (block == 1) {
			static const uint8_t none[REGION_BOOT_BYTES];

			assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
			assert_int_equal(r.stamp.state, REGION_OPEN);
			assert_memory_equal(r.stamp.boot, none, sizeof(none));
			regions_close(&r);
		}
	}
}

/* Intact blocks, of another file or from another place: the disk confused two sectors, or an
 * older file shows through. */
static void test_other_blocks(void **state)
{
	struct region_header other = like;
	uint8_t ours[FILE_BYTES], theirs[FILE_BYTES], mixed[FILE_BYTES];
	uint64_t torn;

	(void)state;
	create(false);
	load(ours);
	other.token[0] ^= 1;
	assert_int_equal(regions_create(dir.path, &other, disks, NR, false), 0);
	load(theirs);
	memcpy(mixed, ours, FILE_BYTES);
	memcpy(mixed + 2 * REGION_BLOCK_BYTES, theirs + 2 * REGION_BLOCK_BYTES,
	       3 * REGION_BLOCK_BYTES);
	store(mixed, FILE_BYTES);
	assert_int_equal(marked(&torn), 5300);
	assert_int_equal(torn, 3);
	memcpy(mixed, ours, FILE_BYTES);
	memcpy(mixed + 3 * REGION_BLOCK_BYTES, ours + 4 * REGION_BLOCK_BYTES, REGION_BLOCK_BYTES);
	store(mixed, FILE_BYTES);
	assert_int_equal(marked(&torn), 4032);
	assert_int_equal(torn, 1);
}

/* --- the disks -------------------------------------------------------------------- */

static void set_mtime(unsigned int disk, uint64_t ns)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT },
				 { .tv_sec = (time_t)(ns / NS_PER_S),
				   .tv_nsec = (long)(ns % NS_PER_S) } };

	assert_int_equal(utimensat(AT_FDCWD, disks[disk].path, t, 0), 0);
}

static void expect(const struct region_stamp *stamp, const char *text)
{
	memset(&why, 0, sizeof(why));
	assert_int_equal(regions_check_disks(stamp, disks, NR, &why), text ? -ESTALE : 0);
	if (text && !strstr(why.text, text))
		fail_msg("'%s' does not say '%s'", why.text, text);
}

static void test_closed_disks(void **state)
{
	struct region_stamp stamp, fewer;
	char moved[DISK_PATH_MAX + 8];
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(regions_stamp_closed(&stamp, disks, NR), 0);
	assert_int_equal(stamp.state, REGION_CLOSED);
	expect(&stamp, NULL);
	fewer = stamp;
	fewer.nr_disks = 1;
	expect(&fewer, "another size");
	assert_int_equal(stat(disks[1].path, &st), 0);
	set_mtime(1, stamp.look[1].mtime_ns + 1);
	expect(&stamp, "disk1 was written by somebody else");
	set_mtime(1, stamp.look[1].mtime_ns);
	expect(&stamp, NULL);
	assert_int_equal(truncate(disks[1].path, st.st_size + 512), 0);
	set_mtime(1, stamp.look[1].mtime_ns);
	expect(&stamp, "another size");
	assert_int_equal(truncate(disks[1].path, st.st_size), 0);
	/* A copy put in its place, as old and as long. */
	snprintf(moved, sizeof(moved), "%s.old", disks[1].path);
	assert_int_equal(rename(disks[1].path, moved), 0);
	expect(&stamp, "cannot be looked at");
	fd = open(disks[1].path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, st.st_size), 0);
	close(fd);
	set_mtime(1, stamp.look[1].mtime_ns);
	expect(&stamp, "another file");
	assert_int_equal(unlink(disks[1].path), 0);
	assert_int_equal(regions_stamp_closed(&fewer, disks, NR), -ENOENT);
}

/* After a crash only a change since the host came up is somebody else's. */
static void test_open_disks(void **state)
{
	uint64_t boot_ns = clock_wall_ns() - clock_now_ns();
	struct regions r;

	(void)state;
	create(false);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	expect(&r.stamp, NULL); /* written just now, in this boot: our own last writes, perhaps */
	r.stamp.boot[3] ^= 1;
	expect(&r.stamp, "since this host came up");
	for (unsigned int i = 0; i < NR; i++)
		set_mtime(i, boot_ns - 10 * NS_PER_S);
	expect(&r.stamp, NULL);
	set_mtime(1, boot_ns + 10 * NS_PER_S);
	expect(&r.stamp, "disk1 was written");
	regions_close(&r);
}

/* Opened again: what it said of how the disks were left is of no use any more. */
static void test_stamp_open(void **state)
{
	struct region_stamp stamp;
	uint8_t block[REGION_BLOCK_BYTES];
	struct regions r;
	int fd;

	(void)state;
	assert_int_equal(regions_stamp_open(dir.path), -ENOENT);
	create(true);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_int_equal(regions_stamp_closed(&stamp, disks, NR), 0);
	region_stamp_encode(&r.header, &stamp, block);
	regions_close(&r);
	fd = regions_open_fd(dir.path, REGIONS_OWN);
	assert_true(fd >= 0);
	assert_int_equal(region_block_write(fd, REGION_STAMP_OFFSET, block), 0);
	close(fd);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_int_equal(r.stamp.state, REGION_CLOSED);
	regions_close(&r);
	assert_int_equal(regions_stamp_open(dir.path), 0);
	assert_int_equal(regions_read(dir.path, disks, NR, &r, &why), 0);
	assert_int_equal(r.stamp.state, REGION_OPEN);
	assert_int_equal(r.header.generation, 7);
	regions_close(&r);
	assert_int_equal(marked(NULL), 5300);
	assert_int_equal(truncate(path, 600), 0);
	assert_int_equal(regions_stamp_open(dir.path), -EBADMSG);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_made_and_read), TEST(test_interrupted), TEST(test_no_space),
		TEST(test_truncated),	  TEST(test_each_bit),	  TEST(test_other_blocks),
		TEST(test_closed_disks),  TEST(test_open_disks),  TEST(test_stamp_open),
	};

	return test_main(tests);
}
