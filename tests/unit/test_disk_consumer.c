/* SPDX-License-Identifier: Apache-2.0 */
/* The primary's end of the ring: boundaries, waking the producer, and a ring that lies. */
#include "disk-replica/mirror.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/unit/disk_stub.h"

#define RING_BYTES MIRROR_RING_MIN

static const struct disk_info disks[] = {
	{ .path = "/a", .bytes = 1 << 20 },
	{ .path = "/b", .bytes = 4096, .readonly = true },
};
static struct mirror *mirror;
static uint8_t bytes[CONTROL_DISK_DATA_MAX + 1];
static struct reason why;

static int open_mirror(uint64_t ring_bytes)
{
	static struct sources sources;
	struct mirror_config config = { &sources, ring_bytes };

	stub_sources(&sources, disks, ARRAY_SIZE(disks));
	return mirror_open(&config, &mirror, &why);
}

static int setup(void **state)
{
	(void)state;
	memset(&why, 0, sizeof(why));
	mirror = NULL;
	stub_reset();
	return open_mirror(RING_BYTES);
}

static int setup_closed(void **state)
{
	(void)state;
	mirror = NULL;
	stub_reset();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mirror_close(mirror);
	stub_reset();
	return 0;
}

static void put(enum control_disk_op op, uint64_t offset, uint64_t length)
{
	struct disk_record r = { op, 0, offset, length, NULL };

	if (op == CONTROL_DISK_WRITE)
		r.data = bytes;
	assert_int_equal(stub_put(&r), 0);
}

static void test_boundary(void **state)
{
	struct disk_record r;
	struct mirror_mark first, second;

	(void)state;
	memset(bytes, 0x5a, sizeof(bytes));
	put(CONTROL_DISK_WRITE, 512, 1024);
	put(CONTROL_DISK_FLUSH, 0, 0);
	mirror_boundary(mirror, &first);
	put(CONTROL_DISK_DISCARD, 0, 4096);
	mirror_boundary(mirror, &second);
	assert_true(mirror_used(mirror) > 1024);

	assert_int_equal(mirror_next(mirror, &first, &r, &why), 0);
	assert_int_equal(r.op, CONTROL_DISK_WRITE);
	assert_int_equal(r.offset, 512);
	assert_int_equal(r.length, 1024);
	assert_memory_equal(r.data, bytes, 1024);
	assert_int_equal(mirror_next(mirror, &first, &r, &why), 0);
	assert_int_equal(r.op, CONTROL_DISK_FLUSH);
	assert_int_equal(mirror_next(mirror, &first, &r, &why), -EAGAIN);
	assert_int_equal(mirror_next(mirror, &second, &r, &why), 0);
	assert_int_equal(r.op, CONTROL_DISK_DISCARD);
	assert_null(r.data);
	assert_int_equal(mirror_next(mirror, &second, &r, &why), -EAGAIN);
	/* A limit that was drained already is no error. */
	assert_int_equal(mirror_next(mirror, &first, &r, &why), -EAGAIN);
	assert_int_equal(mirror_used(mirror), 0);
}

static void test_room_is_raised(void **state)
{
	struct disk_record r;
	eventfd_t n;
	unsigned int taken = 0;

	(void)state;
	r = (struct disk_record){ CONTROL_DISK_WRITE, 0, 0, CONTROL_DISK_DATA_MAX, bytes };
	while (stub_put(&r) == 0)
		;
	while (eventfd_read(stub.room_fd, &n) < 0) {
		assert_int_equal(mirror_next(mirror, stub_now(mirror), &r, &why), 0);
		taken++;
	}
	assert_true(taken >= 2 && taken <= 5); /* a quarter of 16 records */
	r = (struct disk_record){ CONTROL_DISK_WRITE, 0, 0, CONTROL_DISK_DATA_MAX, bytes };
	assert_int_equal(stub_put(&r), 0);
	while (mirror_next(mirror, stub_now(mirror), &r, &why) == 0)
		;
	assert_int_equal(eventfd_read(stub.room_fd, &n), 0);
	/* Far less than a quarter, and the end of the drain: the producer may wait for just that.
	 */
	put(CONTROL_DISK_FLUSH, 0, 0);
	while (mirror_next(mirror, stub_now(mirror), &r, &why) == 0)
		;
	assert_int_equal(eventfd_read(stub.room_fd, &n), 0);
	/* Nothing taken, nothing to tell. */
	assert_int_equal(mirror_next(mirror, stub_now(mirror), &r, &why), -EAGAIN);
	assert_int_equal(eventfd_read(stub.room_fd, &n), -1);
}

static void test_wait_fd(void **state)
{
	struct disk_record r;

	(void)state;
	mirror_wait_clear(mirror); /* does not block on an eventfd that the VM made blocking */
	put(CONTROL_DISK_FLUSH, 0, 0);
	mirror_wait_clear(mirror);
	mirror_wait_clear(mirror);
	/* A counter raised to the brim by the other side must not stop us either. */
	assert_int_equal(eventfd_write(stub.room_fd, UINT64_MAX - 1), 0);
	assert_int_equal(fcntl(stub.room_fd, F_SETFL, 0), 0);
	while (mirror_next(mirror, stub_now(mirror), &r, &why) == 0)
		;
	assert_int_equal(mirror_size(mirror), RING_BYTES);
}

/* One raw record must be refused, and the mirror with it, for good. */
static void refused(const void *head, size_t head_len, size_t data_len, const char *text)
{
	struct disk_record r = { .offset = 77 };

	setup(NULL);
	assert_int_equal(stub_put_raw(head, head_len, bytes, data_len), 0);
	put(CONTROL_DISK_FLUSH, 0, 0);
	for (unsigned int i = 0; i < 2; i++) {
		memset(&why, 0, sizeof(why));
		assert_int_equal(mirror_next(mirror, stub_now(mirror), &r, &why), -EPROTO);
		if (!strstr(why.text, text))
			fail_msg("'%s' does not say '%s'", why.text, text);
	}
	assert_int_equal(r.offset, 77);
	teardown(NULL);
}

static void refused_record(const struct disk_record *r, size_t data_len, const char *text)
{
	uint8_t head[CONTROL_DISK_RECORD_BYTES];

	stub_header(head, r);
	refused(head, sizeof(head), data_len, text);
}

static void test_garbage(void **state)
{
	static const struct {
		struct disk_record r;
		size_t data_len;
		const char *text;
	} bad[] = {
		{ { CONTROL_DISK_WRITE, 2, 0, 512, NULL }, 512, "disk 2, which source 0 has not" },
		{ { CONTROL_DISK_WRITE, 0, 1 << 20, 512, NULL }, 512, "1048576" },
		{ { CONTROL_DISK_WRITE, 0, (1 << 20) - 511, 512, NULL }, 512, "1048576" },
		{ { CONTROL_DISK_WRITE, 0, UINT64_MAX - 10, 512, NULL }, 512, "1048576" },
		{ { CONTROL_DISK_WRITE, 0, 0, 0, NULL }, 0, "0 bytes" },
		{ { CONTROL_DISK_WRITE, 0, 0, 512, NULL }, 511, "came with 511" },
		{ { CONTROL_DISK_WRITE, 0, 0, 512, NULL }, 513, "came with 513" },
		{ { CONTROL_DISK_WRITE, 0, 0, DISK_DATA_MAX + 1, NULL }, 512, "limit is" },
		{ { CONTROL_DISK_WRITE, 0, 0, UINT64_MAX, NULL }, 512, "limit is" },
		{ { CONTROL_DISK_WRITE, 1, 0, 512, NULL }, 512, "read-only" },
		{ { CONTROL_DISK_ZEROES, 0, 512, UINT64_MAX, NULL }, 0, "1048576" },
		{ { CONTROL_DISK_DISCARD, 0, UINT64_MAX, 2, NULL }, 0, "1048576" },
		{ { CONTROL_DISK_DISCARD, 0, 0, 512, NULL }, 8, "came with 8" },
		{ { CONTROL_DISK_FLUSH, 0, 0, 8, NULL }, 0, "flush of 8" },
		{ { CONTROL_DISK_FLUSH, 0, 8, 0, NULL }, 0, "flush" },
		{ { (enum control_disk_op)0, 0, 0, 8, NULL }, 8, "operation 0" },
		{ { (enum control_disk_op)255, 0, 0, 8, NULL }, 8, "operation 255" },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		refused_record(&bad[i].r, bad[i].data_len, bad[i].text);
	refused("", 0, 0, "malformed");
	refused("\1\0\0\0\0\0\0\0", 8, 0, "malformed");
	refused(bytes, sizeof(bytes), 1024, "inconsistent"); /* longer than any record */
}

static void expect_inconsistent(void)
{
	struct disk_record r;

	assert_int_equal(mirror_next(mirror, stub_now(mirror), &r, &why), -EPROTO);
	assert_non_null(strstr(why.text, "inconsistent"));
	teardown(NULL);
}

static void test_lying_header(void **state)
{
	uint32_t len = 4096;

	(void)state;
	setup(NULL);
	stub.ring.shared->head = RING_BYTES + 1; /* more than fits */
	assert_int_equal(mirror_used(mirror), RING_BYTES);
	expect_inconsistent();
	setup(NULL);
	stub.ring.shared->head = 3; /* less than a length */
	expect_inconsistent();
	setup(NULL);
	put(CONTROL_DISK_FLUSH, 0, 0);
	memcpy(stub.ring.data, &len, sizeof(len)); /* a length beyond the head */
	expect_inconsistent();
}

/* Random bytes, random heads: whatever comes out lies within the disks. */
static void test_random_ring(void **state)
{
	unsigned int seed = 1, good = 0;

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		struct disk_record r;

		setup(NULL);
		for (unsigned int i = 0; i < 4096; i++)
			stub.ring.data[i] = (uint8_t)(rand_r(&seed) % (i % 28 < 4 ? 26 : 4));
		stub.ring.shared->head = (uint64_t)rand_r(&seed) % 4096;
		while (!mirror_next(mirror, stub_now(mirror), &r, &why)) {
			assert_int_equal(disk_record_check(&r, disks, ARRAY_SIZE(disks), NULL), 0);
			good++;
		}
		teardown(NULL);
	}
	(void)good;
}

static void test_bad_ring_descriptor(void **state)
{
	(void)state;
	stub.unsealed = true;
	assert_int_equal(open_mirror(RING_BYTES), -EPROTO);
	assert_non_null(strstr(why.text, "shrink"));
	assert_int_equal(stub.offs, 1); /* what was turned on is turned off again */
	stub_reset();
	stub.cut = 4096;
	assert_int_equal(open_mirror(RING_BYTES), -EPROTO);
	assert_null(mirror);
	assert_int_equal(open_mirror(RING_BYTES + 1), -EINVAL);
	assert_int_equal(open_mirror(RING_BYTES / 2), -EINVAL);
}

static void put_disk(struct cursor *c, uint64_t size, uint8_t readonly, const char *path)
{
	cursor_put_u64(c, size);
	cursor_put_u8(c, readonly);
	cursor_put_u16(c, (uint16_t)strlen(path));
	cursor_put_bytes(c, path, strlen(path));
}

static void test_list(void **state)
{
	struct disk_info list[DISK_MAX];
	struct cursor c = cursor_over(stub.list, sizeof(stub.list));
	unsigned int nr = 0;

	(void)state;
	cursor_put_u16(&c, 2);
	put_disk(&c, 12345, 0, "/var/a.img");
	put_disk(&c, 4096, 1, "/dev/b");
	stub.list_len = (size_t)(c.pos - stub.list);
	assert_int_equal(mirror_list_disks(NULL, list, &nr, &why), 0);
	assert_int_equal(nr, 2);
	assert_int_equal(list[0].bytes, 12345);
	assert_string_equal(list[0].path, "/var/a.img");
	assert_true(list[1].readonly);
	for (size_t cut = 0; cut < stub.list_len; cut++) {
		size_t whole = stub.list_len;

		stub.list_len = cut;
		assert_int_equal(mirror_list_disks(NULL, list, &nr, &why), -EPROTO);
		stub.list_len = whole;
	}
	stub.list[0] = DISK_MAX + 1;
	assert_int_equal(mirror_list_disks(NULL, list, &nr, &why), -EPROTO);
	assert_int_equal(nr, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_boundary, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room_is_raised, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wait_fd, setup, teardown),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_lying_header),
		cmocka_unit_test(test_random_ring),
		cmocka_unit_test_setup_teardown(test_bad_ring_descriptor, setup_closed, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup_closed, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
