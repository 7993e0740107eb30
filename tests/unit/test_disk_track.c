/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/disk_track.h: what the region file holds at every instant covers what may
 * differ; marks cost one write; what is under way outlives a rotation; a file that cannot be
 * written is believed by nobody; torn blocks.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/bitmap.h"
#include "base/fault.h"
#include "hypervisor/vmm/disk_track.h"
#include "tests/lib/dir.h"

#define R	(UINT64_C(1) << 16)
#define BYTES_0 (300 * R)
#define BYTES_1 (5000 * R - 512) /* two blocks of bits */

static struct test_dir dir;
static struct disk_track *track;
static struct reason why;
static char path[128];
static struct region_header header;
static uint64_t bits[2][80];
static uint64_t *const maps[] = { bits[0], bits[1] };

static int reopen(void)
{
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	return fd;
}

static void make_file(bool full)
{
	struct region_stamp stamp = { .state = REGION_OPEN, .boot = "boot" };
	uint8_t block[REGION_BLOCK_BYTES];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	header = (struct region_header){ .token = "a token", .peer = "b", .nr_disks = 2 };
	header.disk_bytes[0] = BYTES_0;
	header.disk_bytes[1] = BYTES_1;
	memset(bits, 0, sizeof(bits));
	if (full) {
		bitmap_set_range(bits[0], 0, 300);
		bitmap_set_range(bits[1], 0, 5000);
	}
	region_header_encode(&header, block);
	assert_int_equal(region_block_write(fd, 0, block), 0);
	region_stamp_encode(&header, &stamp, block);
	assert_int_equal(region_block_write(fd, REGION_STAMP_OFFSET, block), 0);
	assert_int_equal(region_bits_write(fd, &header, maps), 0);
	close(fd);
}

static void open_track(void)
{
	static const uint64_t bytes[] = { BYTES_0, BYTES_1 };

	assert_int_equal(disk_track_open(&track), 0);
	for (int i = 0; i < 2; i++) {
		char disk[140];
		int fd;

		snprintf(disk, sizeof(disk), "%s/disk%d", dir.path, i);
		fd = open(disk, O_RDWR | O_CREAT, 0600);
		assert_int_equal(ftruncate(fd, (off_t)bytes[i]), 0);
		assert_int_equal(disk_track_add(track, fd, bytes[i]), 0);
	}
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(test_dir_open(&dir), 0);
	snprintf(path, sizeof(path), "%s/regions", dir.path);
	make_file(false);
	open_track();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	disk_track_close(track);
	track = NULL;
	unsetenv("POLLUX_FAULT");
	test_dir_close(&dir);
	return 0;
}

static void on(void)
{
	if (disk_track_on(track, reopen(), &why))
		fail_msg("%s", why.text);
}

/* What the file says now, into `bits`. */
static uint64_t load(void)
{
	cleanup_close int fd = reopen();
	uint64_t torn = 0;

	memset(bits, 0xee, sizeof(bits));
	assert_int_equal(region_bits_read(fd, &header, maps, &torn), 0);
	return torn;
}

static bool in_file(unsigned int disk, uint64_t region)
{
	load();
	return bitmap_test(bits[disk], region);
}

static uint64_t marked(unsigned int disk)
{
	uint64_t map[80];

	assert_int_equal(disk_track_read(track, disk, map), 0);
	return bitmap_count(map, disk ? 5000 : 300);
}

static void write_at(unsigned int disk, uint64_t offset, uint64_t len)
{
	struct disk_track_write w;

	assert_int_equal(disk_track_begin(track, &w, disk, offset, len), 0);
	disk_track_end(track, &w);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(region_shift(512), 16);
	assert_int_equal(region_count(512), 1);
	assert_int_equal(region_count(R), 1);
	assert_int_equal(region_count(R + 512), 2);
	assert_int_equal(region_shift(R * REGION_COUNT_MAX), 16);
	assert_int_equal(region_count(R * REGION_COUNT_MAX), REGION_COUNT_MAX);
	assert_int_equal(region_shift(R * REGION_COUNT_MAX + 512), 17);
	assert_true(region_count(R * REGION_COUNT_MAX + 512) <= REGION_COUNT_MAX);
	assert_true(region_count(UINT64_MAX) <= REGION_COUNT_MAX);
}

static void test_marks_before_writes(void **state)
{
	struct disk_track_write w;

	(void)state;
	on();
	assert_int_equal(disk_track_begin(track, &w, 1, 4999 * R, R - 512), 0);
	assert_true(in_file(1, 4999)); /* before anything else is done */
	disk_track_end(track, &w);
	write_at(0, R - 1, 2);
	assert_true(in_file(0, 0) && in_file(0, 1));
	assert_false(in_file(0, 2));
	assert_int_equal(marked(0), 2);
	assert_int_equal(marked(1), 1);
	/* Beyond the end, and of no length: nothing, and no harm. */
	write_at(0, BYTES_0, R);
	write_at(0, 5 * R, 0);
	write_at(0, BYTES_0 - 1, UINT64_MAX);
	assert_int_equal(marked(0), 3);
}

static void test_off_costs_nothing(void **state)
{
	uint64_t map[80];

	(void)state;
	write_at(0, 0, R);
	assert_int_equal(disk_track_read(track, 0, map), -ENODATA);
	assert_int_equal(disk_track_rotate(track), -ENODATA);
	on();
	assert_int_equal(marked(0), 0);
	disk_track_off(track);
	write_at(0, 0, R);
	assert_false(in_file(0, 0));
}

static void test_rotate_and_forget(void **state)
{
	(void)state;
	on();
	write_at(0, 3 * R, 1);
	write_at(1, 7 * R, 1);
	assert_int_equal(disk_track_rotate(track), 0);
	write_at(0, 4 * R, 1);
	write_at(1, 7 * R, 1); /* again, in the new time: it stays */
	assert_int_equal(marked(0), 2);
	assert_int_equal(disk_track_forget(track, 2, 0), 0);
	assert_int_equal(marked(0), 1);
	assert_int_equal(marked(1), 1);
	assert_false(in_file(0, 3));
	assert_true(in_file(0, 4) && in_file(1, 7));
	/* Without a rotation there is nothing to forget. */
	assert_int_equal(disk_track_forget(track, 2, 0), 0);
	assert_true(in_file(0, 4));
}

static void test_forget_up_to(void **state)
{
	(void)state;
	make_file(true);
	on();
	assert_int_equal(disk_track_rotate(track), 0);
	write_at(0, 2 * R, 1);
	assert_int_equal(disk_track_forget(track, 0, 10 * R + 5), 0);
	load();
	assert_int_equal(bitmap_count(bits[0], 300), 291);
	assert_true(bitmap_test(bits[0], 2) && bitmap_test(bits[0], 10));
	assert_int_equal(bitmap_count(bits[1], 5000), 5000);
	assert_int_equal(disk_track_forget(track, 1, R), 0);
	load();
	assert_int_equal(bitmap_count(bits[0], 300), 1);
	assert_int_equal(bitmap_count(bits[1], 5000), 4999);
}

/* Begun before a rotation, still under way at the next one and when it is forgotten. */
static void test_under_way(void **state)
{
	struct disk_track_write slow;

	(void)state;
	on();
	assert_int_equal(disk_track_begin(track, &slow, 0, 9 * R, 1), 0);
	assert_int_equal(disk_track_rotate(track), 0);
	assert_int_equal(disk_track_forget(track, 2, 0), -EAGAIN);
	assert_int_equal(disk_track_rotate(track), -EAGAIN);
	assert_true(in_file(0, 9));
	disk_track_end(track, &slow);
	assert_int_equal(disk_track_forget(track, 2, 0), 0);
	assert_true(in_file(0, 9));
	assert_int_equal(disk_track_rotate(track), 0);
	assert_int_equal(disk_track_forget(track, 2, 0), 0);
	assert_false(in_file(0, 9));
}

static void test_mark(void **state)
{
	uint64_t map[80] = { 0 };

	(void)state;
	on();
	bitmap_set(map, 4031);
	bitmap_set(map, 4032);
	assert_int_equal(disk_track_mark(track, 1, map), 0);
	assert_true(in_file(1, 4031) && in_file(1, 4032));
	assert_int_equal(marked(1), 2);
	assert_int_equal(disk_track_mark(track, 2, map), -EINVAL);
}

static void test_reload_and_stamp(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	struct region_stamp stamp;
	struct stat st;
	char disk[140];
	int fd;

	(void)state;
	on();
	write_at(1, 77 * R, 1);
	disk_track_close(track);
	fd = reopen();
	assert_int_equal(region_block_read(fd, REGION_STAMP_OFFSET, block), 0);
	close(fd);
	region_stamp_decode(&header, block, &stamp);
	assert_int_equal(stamp.state, REGION_CLOSED);
	assert_string_equal((const char *)stamp.boot, "boot");
	snprintf(disk, sizeof(disk), "%s/disk1", dir.path);
	assert_int_equal(stat(disk, &st), 0);
	assert_int_equal(stamp.look[1].inode, st.st_ino);
	assert_int_equal(stamp.look[1].bytes, BYTES_1);
	open_track();
	on();
	assert_int_equal(marked(1), 1);
}

static void test_wrong_file(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int fd;

	(void)state;
	header.disk_bytes[1] += 512;
	region_header_encode(&header, block);
	fd = reopen();
	assert_int_equal(region_block_write(fd, 0, block), 0);
	close(fd);
	assert_int_equal(disk_track_on(track, reopen(), &why), -EINVAL);
	block[20] ^= 1;
	fd = reopen();
	assert_int_equal(region_block_write(fd, 0, block), 0);
	close(fd);
	assert_int_equal(disk_track_on(track, reopen(), &why), -EBADMSG);
	write_at(0, 0, 1); /* as before: off */
}

static void test_torn(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int fd;

	(void)state;
	fd = reopen();
	assert_int_equal(region_block_read(fd, region_block_offset(&header, 1, 1), block), 0);
	block[100] ^= 4;
	assert_int_equal(region_block_write(fd, region_block_offset(&header, 1, 1), block), 0);
	close(fd);
	assert_int_equal(load(), 1);
	assert_int_equal(bitmap_count(bits[0], 300), 0);
	assert_int_equal(bitmap_count(bits[1], 5000), 5000 - 4032);
	assert_false(bitmap_test(bits[1], 4031));
	on();
	assert_int_equal(marked(1), 5000 - 4032);
	/* A block of another file is torn, too. */
	header.token[0] ^= 1;
	assert_int_equal(load(), 3);
}

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static void test_file_fails(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	struct disk_track_write w;
	uint64_t map[80];
	int fd;

	(void)state;
	on();
	arm("track.sync:1:once,track.spoil:2");
	write_at(0, 0, 1); /* goes on, untracked */
	assert_int_equal(disk_track_read(track, 0, map), -EIO);
	assert_int_equal(disk_track_rotate(track), -EIO);
	fd = reopen();
	assert_int_equal(region_block_read(fd, 0, block), 0);
	close(fd);
	assert_int_equal(region_header_decode(block, &header, &why), -EBADMSG);
	make_file(false);
	on();
	write_at(0, 0, 1);
	arm("track.write:1:once,track.spoil");
	assert_int_equal(disk_track_begin(track, &w, 0, 5 * R, 1), -EIO);
	assert_int_equal(disk_track_begin(track, &w, 0, 6 * R, 1), -EIO);
}

/* Forgetting, too, changes the file: when it cannot, nobody believes the file again. */
static void test_forget_fails(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int fd;

	(void)state;
	on();
	write_at(0, 3 * R, 1);
	assert_int_equal(disk_track_rotate(track), 0);
	arm("track.forget:1:once");
	assert_int_equal(disk_track_forget(track, 2, 0), -EIO);
	assert_int_equal(disk_track_forget(track, 2, 0), -EIO);
	fd = reopen();
	assert_int_equal(region_block_read(fd, 0, block), 0);
	close(fd);
	assert_int_equal(region_header_decode(block, &header, &why), -EBADMSG);
	write_at(0, 9 * R, 1); /* goes on, untracked */
}

/* Linux says once that it has lost something: no later sync may be taken for a good one. */
static void test_disk_sync_fails(void **state)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int fd;

	(void)state;
	on();
	write_at(0, 3 * R, 1);
	assert_int_equal(disk_track_rotate(track), 0);
	arm("track.disk:1:once");
	assert_int_equal(disk_track_forget(track, 2, 0), -EIO);
	assert_int_equal(disk_track_forget(track, 2, 0), -EIO);
	fd = reopen();
	assert_int_equal(region_block_read(fd, 0, block), 0);
	close(fd);
	assert_int_equal(region_header_decode(block, &header, &why), -EBADMSG);
	disk_track_off(track);
	make_file(false);
	assert_int_equal(disk_track_on(track, reopen(), &why), -EIO);
	write_at(0, 9 * R, 1); /* goes on, untracked */
}

/* The disks are not what the marks say, until a whole copy begins with a new file. */
static void test_distrust(void **state)
{
	(void)state;
	on();
	disk_track_distrust(track);
	assert_int_equal(disk_track_rotate(track), -EIO);
	disk_track_off(track);
	make_file(true);
	on();
	assert_int_equal(disk_track_rotate(track), 0);
}

/* Bits of regions that were written and may not be forgotten; shared with who dies. */
static uint64_t *must_be;

/* Writes, rotates and forgets until the armed point ends the process. */
static void live_until(const char *fault)
{
	unsigned int seed = 1;

	arm(fault);
	for (unsigned int n = 0; n < 1000; n++) {
		uint64_t region = (uint64_t)rand_r(&seed) % 300;
		struct disk_track_write w;

		if (disk_track_begin(track, &w, 0, region * R, 1))
			_exit(1);
		bitmap_set(must_be, region); /* the write itself */
		disk_track_end(track, &w);
		if (n % 20)
			continue;
		if (disk_track_rotate(track))
			_exit(2);
		memset(must_be, 0, 4096); /* the copy has it all */
		if (disk_track_forget(track, 2, 0))
			_exit(3);
	}
	_exit(4);
}

/* Whenever the process ends, what was written and is not held elsewhere is in the file. */
static void test_killed_at_each_step(void **state)
{
	static const char *const steps[] = { "track.write", "track.sync", "track.forget" };
	char fault[40];

	must_be = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned int i = 0; i < 3 * 8; i++) {
		int status = 0;
		pid_t pid;

		memset(must_be, 0, 4096);
		on();
		snprintf(fault, sizeof(fault), "%s:%u:exit", steps[i % 3], 1 + i / 3);
		pid = fork();
		if (!pid)
			live_until(fault);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), 86);
		load();
		for (unsigned int k = 0; k < 300; k++)
			if (bitmap_test(must_be, k) && !bitmap_test(bits[0], k))
				fail_msg("%s: region %u was written and is not marked", fault, k);
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
	munmap(must_be, 4096);
}

/* --- many at once ---------------------------------------------------------------------- */

#define WRITERS 3
#define WRITES	4000

static struct shared {
	pthread_mutex_t lock;
	uint8_t pending[300]; /* writes since the last rotation but one that ended; lock */
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };
static bool done;

static void *writer(void *opaque)
{
	unsigned int seed = (unsigned int)(uintptr_t)opaque;

	for (int i = 0; i < WRITES; i++) {
		uint64_t region = (uint64_t)rand_r(&seed) % 300;
		struct disk_track_write w;

		assert_int_equal(disk_track_begin(track, &w, 0, region * R, 1), 0);
		pthread_mutex_lock(&shared.lock);
		shared.pending[region] = 2; /* the write itself */
		pthread_mutex_unlock(&shared.lock);
		disk_track_end(track, &w);
	}
	return NULL;
}

/* What was written since the rotation before must be marked, always. */
static void check_marked(void)
{
	uint64_t map[80];

	pthread_mutex_lock(&shared.lock);
	assert_int_equal(disk_track_read(track, 0, map), 0);
	for (unsigned int i = 0; i < 300; i++)
		if (shared.pending[i] && !bitmap_test(map, i))
			fail_msg("region %u was written and is not marked", i);
	pthread_mutex_unlock(&shared.lock);
}

static void *forgetter(void *opaque)
{
	(void)opaque;
	while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
		/* Atomic towards the writers' notes: those before are old, those after are not. */
		pthread_mutex_lock(&shared.lock);
		if (!disk_track_rotate(track))
			for (unsigned int i = 0; i < 300; i++)
				shared.pending[i] = shared.pending[i] == 2;
		pthread_mutex_unlock(&shared.lock);
		check_marked();
		pthread_mutex_lock(&shared.lock);
		if (!disk_track_forget(track, 2, 0))
			for (unsigned int i = 0; i < 300; i++)
				shared.pending[i] &= 2;
		pthread_mutex_unlock(&shared.lock);
		check_marked();
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[WRITERS], other;
	uint64_t map[80];

	(void)state;
	memset(shared.pending, 0, sizeof(shared.pending));
	done = false;
	on();
	pthread_create(&other, NULL, forgetter, NULL);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, writer, (void *)(i + 1));
	for (unsigned int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	__atomic_store_n(&done, true, __ATOMIC_RELEASE);
	pthread_join(other, NULL);
	check_marked();
	load();
	assert_int_equal(disk_track_read(track, 0, map), 0);
	for (unsigned int i = 0; i < 300; i++)
		assert_true(!bitmap_test(map, i) || bitmap_test(bits[0], i));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),
		TEST(test_marks_before_writes),
		TEST(test_off_costs_nothing),
		TEST(test_rotate_and_forget),
		TEST(test_forget_up_to),
		TEST(test_under_way),
		TEST(test_mark),
		TEST(test_reload_and_stamp),
		TEST(test_wrong_file),
		TEST(test_torn),
		TEST(test_threads),
		TEST(test_forget_fails),
		TEST(test_disk_sync_fails),
		TEST(test_distrust),
		TEST(test_killed_at_each_step),
		TEST(test_file_fails), /* last: fault points count on */
	};

	return test_main(tests);
}
