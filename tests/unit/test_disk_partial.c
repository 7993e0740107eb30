/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A partial copy (copy_only() of disk-replica/copy.h): each byte of the regions once and in order,
 * no byte of any other; interrupted ten times it goes on where it was. Seeded.
 */
#include "disk-replica/copy.h"

#include "tests/lib/test.h"

#include <fcntl.h>

#include "base/bitmap.h"
#include "disk-replica/apply.h"
#include "tests/lib/dir.h"

#define R  (UINT64_C(1) << 16)
#define NR 2u

static struct test_dir dir;
static struct disk_info from[NR], to[NR];
static uint64_t bytes[NR] = { 200 * R + 4096 + 512, 90 * R };
static struct region_sets sets;
static struct copy *copy;
static struct apply *apply;
static struct reason why;
static uint64_t random_state = 1;

static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

static void make_disk(struct disk_info *d, const char *name, unsigned int i)
{
	int fd;

	d->bytes = bytes[i];
	snprintf(d->path, sizeof(d->path), "%s/%s%u", dir.path, name, i);
	fd = open(d->path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes[i]), 0);
	close(fd);
}

static int setup(void **state)
{
	const struct apply_config config = { .disks = to, .nr_disks = NR, .state_dir = dir.path };

	(void)state;
	assert_int_equal(test_dir_open(&dir), 0);
	for (unsigned int i = 0; i < NR; i++) {
		make_disk(&from[i], "from", i);
		make_disk(&to[i], "to", i);
	}
	assert_int_equal(apply_open(&config, &apply, &why), 0);
	assert_int_equal(region_sets_open(&sets, bytes, NR), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	copy_close(copy);
	copy = NULL;
	apply_close(apply);
	region_sets_close(&sets);
	test_dir_close(&dir);
	return 0;
}

/* A write that the standby does not have; `len` 0: a hole instead. */
static void change(unsigned int disk, uint64_t offset, size_t len, uint8_t fill)
{
	static uint8_t data[4096];
	cleanup_close int fd = open(from[disk].path, O_WRONLY);

	memset(data, fill, sizeof(data));
	assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
	bitmap_set(sets.bits[disk], offset >> 16);
	bitmap_set(sets.bits[disk], (offset + len - 1) >> 16);
}

static void change_some(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		unsigned int disk = draw(NR);

		change(disk, draw((uint32_t)(bytes[disk] - 4096)), 1 + draw(4096),
		       (uint8_t)draw(256));
	}
}

static void begin(void)
{
	struct region_sets own;

	assert_int_equal(copy_open(from, NR, &copy, &why), 0);
	assert_int_equal(region_sets_open(&own, bytes, NR), 0);
	for (unsigned int i = 0; i < NR; i++)
		bitmap_or(own.bits[i], sets.bits[i], region_count(bytes[i]));
	copy_only(copy, &own);
	assert_int_equal(own.nr_disks, 0); /* taken over */
	assert_int_equal(copy_total_bytes(copy), region_sets_bytes(&sets));
}

/* Where the next byte of a region is, from there on; the end of the disk if there is none. */
static uint64_t next_wanted(unsigned int disk, uint64_t offset)
{
	uint64_t region = bitmap_next(sets.bits[disk], region_count(bytes[disk]), offset >> 16);

	return region == offset >> 16 ? offset : MIN(region << 16, bytes[disk]);
}

/* Takes `limit` records; true when the copy is done. */
static bool copy_some(unsigned int limit, unsigned int *disk, uint64_t *offset)
{
	struct disk_record r;

	while (limit--) {
		int err = copy_next(copy, &r, &why);

		while (*disk < NR && next_wanted(*disk, *offset) == bytes[*disk]) {
			++*disk;
			*offset = 0;
		}
		assert_int_equal(err, *disk < NR ? 0 : -ENODATA);
		if (err)
			return true;
		*offset = next_wanted(*disk, *offset);
		assert_int_equal(r.disk, *disk);
		assert_int_equal(r.offset, *offset);
		for (uint64_t at = r.offset; at < r.offset + r.length; at += R - at % R)
			assert_true(bitmap_test(sets.bits[r.disk], at >> 16));
		assert_int_equal(disk_record_check(&r, from, NR, &why), 0);
		assert_int_equal(apply_record(apply, &r, &why), 0);
		*offset += r.length;
	}
	return false;
}

static void compare(void)
{
	static uint8_t a[1 << 16], b[1 << 16];

	for (unsigned int i = 0; i < NR; i++) {
		cleanup_close int fa = open(from[i].path, O_RDONLY);
		cleanup_close int fb = open(to[i].path, O_RDONLY);

		for (uint64_t at = 0; at < bytes[i]; at += sizeof(a)) {
			ssize_t n = pread(fa, a, sizeof(a), (off_t)at);

			assert_int_equal(pread(fb, b, sizeof(b), (off_t)at), n);
			assert_memory_equal(a, b, (size_t)n);
		}
	}
}

static void test_regions_alone(void **state)
{
	for (unsigned int round = 0; round < 30; round++) {
		unsigned int disk = 0;
		uint64_t offset = 0;

		change_some(draw(60));
		begin();
		assert_true(copy_some(UINT32_MAX, &disk, &offset));
		assert_int_equal(copy_done_bytes(copy), copy_total_bytes(copy));
		compare();
		copy_close(copy);
		copy = NULL;
		region_sets_close(&sets);
		assert_int_equal(region_sets_open(&sets, bytes, NR), 0);
	}
	(void)state;
}

static void test_none_and_all(void **state)
{
	struct disk_record r;
	unsigned int disk = 0;
	uint64_t offset = 0;

	(void)state;
	begin();
	assert_int_equal(copy_total_bytes(copy), 0);
	assert_int_equal(copy_next(copy, &r, &why), -ENODATA);
	copy_close(copy);
	change_some(20);
	region_sets_fill(&sets);
	begin();
	assert_int_equal(copy_total_bytes(copy), bytes[0] + bytes[1]);
	assert_true(copy_some(UINT32_MAX, &disk, &offset));
	compare();
}

/* A hole that reaches beyond the region is copied as far as the region goes. */
static void test_hole(void **state)
{
	struct disk_record r;
	unsigned int disk;
	uint64_t offset;

	(void)state;
	bitmap_set(sets.bits[0], 7);
	bitmap_set(sets.bits[0], 200); /* what there is of the last one */
	begin();
	assert_int_equal(copy_next(copy, &r, &why), 0);
	assert_int_equal(r.op, CONTROL_DISK_ZEROES);
	assert_int_equal(r.offset, 7 * R);
	assert_int_equal(r.length, R);
	copy_position(copy, &disk, &offset);
	assert_int_equal(disk, 0);
	assert_int_equal(offset, 8 * R);
	assert_int_equal(copy_next(copy, &r, &why), 0);
	assert_int_equal(r.offset, 200 * R);
	assert_int_equal(r.length, 4096 + 512);
	assert_int_equal(copy_next(copy, &r, &why), -ENODATA);
}

/* As ha/track.h does it: what lies before the position is forgotten, at each end of a link; and
 * the guest goes on writing. */
static void test_interrupted_ten_times(void **state)
{
	uint64_t copied = 0, all;

	(void)state;
	change_some(200);
	all = region_sets_bytes(&sets);
	for (unsigned int i = 0; i <= 10; i++) {
		unsigned int disk = 0;
		uint64_t offset = 0;
		bool done;

		begin();
		done = copy_some(i < 10 ? 6 : UINT32_MAX, &disk, &offset);
		assert_int_equal(done, i == 10);
		copied += copy_done_bytes(copy);
		copy_position(copy, &disk, &offset);
		for (unsigned int d = 0; d < NR; d++)
			for (uint64_t k = 0; k < region_count(bytes[d]); k++)
				if (d < disk || (d == disk && (k + 1) << 16 <= offset))
					bitmap_clear(sets.bits[d], k);
		copy_close(copy);
		copy = NULL;
		if (i < 10)
			change(i % NR, draw((uint32_t)(bytes[i % NR] - 4096)), 4096, (uint8_t)i);
	}
	compare();
	/* What was written since, and at most a region for each interruption, twice. */
	assert_true(copied <= all + 10 * 3 * R);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_regions_alone),
		TEST(test_none_and_all),
		TEST(test_hole),
		TEST(test_interrupted_ten_times),
	};

	return test_main(tests);
}
