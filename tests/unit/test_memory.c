/* SPDX-License-Identifier: Apache-2.0 */
/* hypervisor/vmm/memory.h: the bounds of the two doors, and that every write is marked. */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "hypervisor/vmm/memory.h"

#define MIB UINT64_C(1048576)

static int open_small(void **state)
{
	static struct guest_memory mem;

	*state = &mem;
	return guest_memory_open(&mem, 64 * MIB, -1);
}

static int open_split(void **state)
{
	static struct guest_memory mem;

	*state = &mem;
	return guest_memory_open(&mem, GUEST_HOLE_START + 64 * MIB, -1);
}

static int close_memory(void **state)
{
	guest_memory_close(*state);
	return 0;
}

static uint64_t harvest(struct guest_memory *mem, uint64_t *map, bool keep)
{
	memset(map, 0, bitmap_bytes(mem->nr_gfns));
	return guest_harvest_marks(mem, map, keep);
}

static void test_sizes(void **state)
{
	struct guest_memory mem;

	(void)state;
	assert_int_equal(guest_memory_open(&mem, GUEST_MIN_BYTES - MIB, -1), -EINVAL);
	assert_int_equal(guest_memory_open(&mem, GUEST_MAX_BYTES + MIB, -1), -EINVAL);
	assert_int_equal(guest_memory_open(&mem, 64 * MIB + 4096, -1), -EINVAL);
}

/* What one process leaves in its memory the next one finds; anything else is refused. */
static void test_inherited(void **state)
{
	struct guest_memory first, next;
	uint8_t byte = 0;
	int fd, other;

	(void)state;
	assert_int_equal(guest_memory_open(&first, 64 * MIB, -1), 0);
	assert_int_equal(guest_write(&first, 5 * MIB, "x", 1), 0);
	fd = dup(first.fd);
	guest_memory_close(&first);

	assert_int_equal(guest_memory_open(&next, 65 * MIB, fd), -EINVAL);
	assert_int_equal(guest_memory_open(&next, 64 * MIB, fd), 0);
	assert_int_equal(guest_read(&next, 5 * MIB, &byte, 1), 0);
	assert_int_equal(byte, 'x');
	assert_int_equal(guest_harvest_marks(&next, (uint64_t[256 + 1]){ 0 }, false), 0);
	guest_memory_close(&next);

	other = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(other, 64 * MIB), 0);
	assert_int_equal(guest_memory_open(&next, 64 * MIB, other), -EINVAL); /* it could shrink */
	close(other);
	assert_true(guest_memory_open(&next, 64 * MIB, STDIN_FILENO) < 0); /* no memfd at all */
}

static void test_bounds(void **state)
{
	struct guest_memory *mem = *state;
	uint8_t bytes[8] = { 1 };

	assert_int_equal(guest_write(mem, 64 * MIB - 8, bytes, 8), 0);
	assert_int_equal(guest_write(mem, 64 * MIB - 7, bytes, 8), -EFAULT);
	assert_int_equal(guest_write(mem, 64 * MIB, bytes, 1), -EFAULT);
	assert_int_equal(guest_write(mem, UINT64_MAX - 3, bytes, 8), -EFAULT);
	assert_int_equal(guest_read(mem, UINT64_MAX, bytes, 1), -EFAULT);
	assert_int_equal(guest_read(mem, GUEST_HIGH_START, bytes, 1), -EFAULT);
	assert_false(guest_range_ok(mem, 0, UINT64_MAX));
	assert_false(guest_range_ok(mem, 1, UINT64_MAX));
	assert_true(guest_range_ok(mem, 0, 64 * MIB));
}

static void test_hole(void **state)
{
	struct guest_memory *mem = *state;
	const uint64_t end = GUEST_HIGH_START + 64 * MIB;
	uint8_t bytes[16];

	assert_int_equal(mem->nr_gfns, end / GUEST_PAGE_BYTES);
	memset(bytes, 0x5a, sizeof(bytes));
	/* Neither into the hole, nor across it, nor past the end. */
	assert_int_equal(guest_write(mem, GUEST_HOLE_START - 8, bytes, 16), -EFAULT);
	assert_int_equal(guest_write(mem, GUEST_HIGH_START - 8, bytes, 16), -EFAULT);
	assert_int_equal(guest_write(mem, end - 8, bytes, 16), -EFAULT);
	assert_int_equal(guest_write(mem, end - 16, bytes, 16), 0);
	/* High memory follows low memory in the memfd. */
	assert_memory_equal(mem->base + mem->low_bytes + 64 * MIB - 16, bytes, 16);
}

static void test_marks(void **state)
{
	struct guest_memory *mem = *state;
	uint64_t *map = calloc(1, bitmap_bytes(mem->nr_gfns));
	static uint8_t bytes[3 * GUEST_PAGE_BYTES];

	harvest(mem, map, false);
	assert_int_equal(guest_write(mem, 5 * GUEST_PAGE_BYTES + 4095, bytes, 2), 0);
	assert_int_equal(guest_write(mem, GUEST_HIGH_START, bytes, sizeof(bytes)), 0);
	assert_int_equal(guest_write(mem, 9 * GUEST_PAGE_BYTES, bytes, 0), 0);
	/* Kept, they are found again; taken, they are gone. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(harvest(mem, map, i == 0), 5);
		assert_true(bitmap_test(map, 5) && bitmap_test(map, 6));
		for (uint64_t gfn = 0; gfn < 3; gfn++)
			assert_true(bitmap_test(map, (GUEST_HIGH_START >> 12) + gfn));
	}
	assert_int_equal(harvest(mem, map, false), 0);
	/* A page that is in the bitmap already counts once. */
	bitmap_set(map, 7);
	assert_int_equal(guest_write(mem, 7 * GUEST_PAGE_BYTES, bytes, 1), 0);
	assert_int_equal(guest_harvest_marks(mem, map, false), 0);
	free(map);
}

static void test_mark_all(void **state)
{
	struct guest_memory *mem = *state;
	uint64_t *map = calloc(1, bitmap_bytes(mem->nr_gfns));

	guest_mark_all(mem);
	assert_int_equal(harvest(mem, map, false),
			 (mem->low_bytes + mem->high_bytes) / GUEST_PAGE_BYTES);
	assert_true(bitmap_test(map, (GUEST_HOLE_START >> 12) - 1));
	assert_false(bitmap_test(map, GUEST_HOLE_START >> 12));
	assert_false(bitmap_test(map, (GUEST_HIGH_START >> 12) - 1));
	free(map);
}

/* Whoever maps the memfd cannot shrink it under us. */
static void test_sealed(void **state)
{
	struct guest_memory *mem = *state;

	assert_int_equal(ftruncate(mem->fd, 0), -1);
	assert_int_equal(fcntl(mem->fd, F_GET_SEALS) & F_SEAL_SHRINK, F_SEAL_SHRINK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_inherited),
		cmocka_unit_test_setup_teardown(test_bounds, open_small, close_memory),
		cmocka_unit_test_setup_teardown(test_hole, open_split, close_memory),
		cmocka_unit_test_setup_teardown(test_marks, open_split, close_memory),
		cmocka_unit_test_setup_teardown(test_mark_all, open_split, close_memory),
		cmocka_unit_test_setup_teardown(test_sealed, open_small, close_memory),
	};

	return test_main(tests);
}
