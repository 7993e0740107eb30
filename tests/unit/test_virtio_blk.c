/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/virtio_blk.h: requests against a file, what goes into the mirror ring and
 * when (P2), requests in flight across a save and a load, and what a hostile driver gets.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/ring.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/virtio_blk.h"
#include "tests/lib/dir.h"
#include "tests/lib/virtio_guest.h"

#define DISK_BYTES (UINT64_C(4) << 20)
#define F_FLUSH	   (UINT64_C(1) << 9)

#define HEAD   GUEST_DATA
#define STATUS (GUEST_DATA + 0x100)
#define DATA   (GUEST_DATA + 0x1000)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

struct fixture {
	struct test_dir dir;
	char path[128];
	struct vm *vm;
	struct guest_device d;
	struct ring ring;
	void *mapping;
	int fds[3];
};

static struct vm *make_vm(struct fixture *f, bool standby, bool readonly)
{
	struct vm *vm = guest_vm_open(f->dir.path);
	struct reason why = { "" };

	vm->standby = standby;
	vm->config.nr_disks = 1;
	vm->config.disk[0].path = f->path;
	vm->config.disk[0].readonly = readonly;
	if (virtio_blk_create(vm, 0, &why))
		fail_msg("%s", why.text);
	return vm;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_int_equal(test_dir_open(&f->dir), 0);
	snprintf(f->path, sizeof(f->path), "%s/disk", f->dir.path);
	fd = open(f->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	f->vm = make_vm(f, false, false);
	f->d = guest_device_last(f->vm);
	guest_start(&f->d);
	guest_setup(&f->d, F_FLUSH | VIRTIO_F_EVENT_IDX);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_vm_close(f->vm);
	if (f->mapping) {
		munmap(f->mapping, ring_map_bytes(DISK_MIRROR_MIN_BYTES));
		for (unsigned int i = 0; i < 3; i++)
			close(f->fds[i]);
	}
	test_dir_close(&f->dir);
	free(f);
	return 0;
}

static void mirror_on(struct fixture *f)
{
	assert_int_equal(disk_mirror_set(f->vm->disk_mirror, true, DISK_MIRROR_MIN_BYTES, f->fds),
			 0);
	f->mapping = mmap(NULL, ring_map_bytes(DISK_MIRROR_MIN_BYTES), PROT_READ | PROT_WRITE,
			  MAP_SHARED, f->fds[0], 0);
	assert_ptr_not_equal(f->mapping, MAP_FAILED);
	ring_attach_consumer(&f->ring, f->mapping, DISK_MIRROR_MIN_BYTES);
}

/* The op of the next record in the ring, 0 when there is none. */
static uint8_t record[CONTROL_DISK_RECORD_BYTES + CONTROL_DISK_DATA_MAX];

static unsigned int mirrored(struct fixture *f, uint64_t *ret_offset, uint64_t *ret_len)
{
	struct cursor c = cursor_over(record, sizeof(record));
	unsigned int op;
	size_t len;

	if (ring_get(&f->ring, ring_head(&f->ring), record, sizeof(record), &len))
		return 0;
	eventfd_write(f->fds[2], 1);
	op = cursor_get_u8(&c);
	(void)cursor_get_view(&c, 7);
	*ret_offset = cursor_get_u64(&c);
	*ret_len = cursor_get_u64(&c);
	return op;
}

static void put_head(struct guest_device *d, uint32_t type, uint64_t sector)
{
	uint32_t head[4] = { type, 0, (uint32_t)sector, (uint32_t)(sector >> 32) };
	uint8_t none = 0xaa;

	assert_int_equal(guest_write(&d->vm->memory, HEAD, head, sizeof(head)), 0);
	assert_int_equal(guest_write(&d->vm->memory, STATUS, &none, 1), 0);
}

static void post(struct guest_device *d, uint32_t type, uint64_t sector, uint32_t len)
{
	const struct guest_segment segment[3] = {
		{ HEAD, 16, false },
		{ DATA, len, type == IN || type == GET_ID },
		{ STATUS, 1, true },
	};
	const struct guest_segment bare[2] = { segment[0], segment[2] };

	put_head(d, type, sector);
	guest_post(d, 0, len ? segment : bare, len ? 3 : 2);
}

static unsigned int status(struct guest_device *d)
{
	uint8_t byte;

	assert_int_equal(guest_read(&d->vm->memory, STATUS, &byte, 1), 0);
	return byte;
}

static unsigned int request(struct guest_device *d, uint32_t type, uint64_t sector, uint32_t len)
{
	post(d, type, sector, len);
	if (guest_wait(d, 0, NULL) < 0)
		fail_msg("request %u was not completed", type);
	return status(d);
}

static void fill(struct guest_device *d, unsigned int byte, size_t len)
{
	static uint8_t data[1 << 20];

	memset(data, (int)byte, len);
	assert_int_equal(guest_write(&d->vm->memory, DATA, data, len), 0);
}

/* All `len` bytes at `offset` of the disk are `byte`. */
static bool on_disk(struct fixture *f, uint64_t offset, unsigned int byte, size_t len)
{
	static uint8_t data[1 << 20];
	int fd = open(f->path, O_RDONLY);
	ssize_t n = pread(fd, data, len, (off_t)offset);

	close(fd);
	for (size_t i = 0; i < len; i++) {
		if (data[i] != byte)
			return false;
	}
	return n == (ssize_t)len;
}

static void test_write_and_read(void **state)
{
	struct fixture *f = *state;
	uint32_t len;
	uint8_t byte;

	assert_int_equal(guest_reg(&f->d, VIRTIO_BAR_DEVICE, 8), DISK_BYTES / 512);
	fill(&f->d, 0x5a, 200 * 512);
	assert_int_equal(request(&f->d, OUT, 3, 200 * 512), OK);
	assert_true(guest_interrupted(&f->d, 1));
	assert_true(on_disk(f, 3 * 512, 0x5a, 200 * 512));
	assert_true(on_disk(f, 0, 0, 3 * 512));
	assert_true(on_disk(f, 203 * 512, 0, 512));
	fill(&f->d, 0, 200 * 512);
	post(&f->d, IN, 3, 200 * 512);
	assert_true(guest_wait(&f->d, 0, &len) >= 0);
	assert_int_equal(len, 200 * 512 + 1);
	assert_int_equal(status(&f->d), OK);
	for (unsigned int i = 0; i < 200; i++) {
		assert_int_equal(guest_read(&f->vm->memory, DATA + 512 * i + i, &byte, 1), 0);
		assert_int_equal(byte, 0x5a);
	}
	assert_int_equal(request(&f->d, FLUSH, 0, 0), OK);
}

static void test_erase(void **state)
{
	struct fixture *f = *state;
	const struct {
		uint64_t sector;
		uint32_t sectors, flags;
	} ranges[2] = { { 8, 8, 0 }, { 32, 16, 0 } }, past = { DISK_BYTES / 512 - 1, 2, 0 },
	  overflow = { UINT64_MAX, 2, 0 }, flag = { 0, 1, 1 };

	fill(&f->d, 0x77, 128 * 512);
	assert_int_equal(request(&f->d, OUT, 0, 128 * 512), OK);
	assert_int_equal(guest_write(&f->vm->memory, DATA, ranges, sizeof(ranges)), 0);
	assert_int_equal(request(&f->d, ZEROES, 0, sizeof(ranges)), OK);
	assert_true(on_disk(f, 0, 0x77, 8 * 512));
	assert_true(on_disk(f, 8 * 512, 0, 8 * 512));
	assert_true(on_disk(f, 16 * 512, 0x77, 16 * 512));
	assert_true(on_disk(f, 32 * 512, 0, 16 * 512));
	assert_int_equal(guest_write(&f->vm->memory, DATA, &past, 16), 0);
	assert_int_equal(request(&f->d, DISCARD, 0, 16), IOERR);
	assert_int_equal(guest_write(&f->vm->memory, DATA, &overflow, 16), 0);
	assert_int_equal(request(&f->d, ZEROES, 0, 16), IOERR);
	assert_int_equal(guest_write(&f->vm->memory, DATA, &flag, 16), 0);
	assert_int_equal(request(&f->d, DISCARD, 0, 16), UNSUPP);
	assert_int_equal(request(&f->d, DISCARD, 0, 17), IOERR);
	assert_int_equal(request(&f->d, DISCARD, 0, 16 * 17), IOERR);
	assert_true(on_disk(f, 0, 0x77, 8 * 512));
}

static void test_bad_requests(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(&f->d, OUT, DISK_BYTES / 512 - 1, 1024), IOERR);
	assert_int_equal(request(&f->d, OUT, UINT64_MAX, 512), IOERR);
	assert_int_equal(request(&f->d, IN, UINT64_MAX / 512 + 1, 512), IOERR);
	assert_int_equal(request(&f->d, OUT, 0, 511), IOERR);
	assert_int_equal(request(&f->d, IN, 0, 100), IOERR);
	assert_int_equal(request(&f->d, GET_ID, 0, 19), IOERR);
	assert_int_equal(request(&f->d, GET_ID, 0, 20), OK);
	assert_int_equal(request(&f->d, 12345, 0, 512), UNSUPP);
	assert_true(on_disk(f, 0, 0, 1 << 20));
	assert_int_equal(guest_status(&f->d) & VIRTIO_STATUS_NEEDS_RESET, 0);
}

static void test_not_a_request(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment no_status = { HEAD, 16, false };
	const struct guest_segment short_head[2] = { { HEAD, 15, false }, { STATUS, 1, true } };

	guest_post(&f->d, 0, &no_status, 1);
	assert_true(guest_wait_status(&f->d, VIRTIO_STATUS_NEEDS_RESET));
	assert_true(guest_interrupted(&f->d, 0));
	guest_setup(&f->d, F_FLUSH);
	guest_post(&f->d, 0, short_head, 2);
	assert_true(guest_wait_status(&f->d, VIRTIO_STATUS_NEEDS_RESET));
	/* A reset makes it whole. */
	guest_setup(&f->d, F_FLUSH);
	assert_int_equal(request(&f->d, FLUSH, 0, 0), OK);
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;
	struct guest_device d;

	guest_vm_close(f->vm);
	f->vm = make_vm(f, false, true);
	d = f->d = guest_device_last(f->vm);
	guest_start(&d);
	guest_setup(&d, F_FLUSH);
	assert_int_equal(guest_features(&d) >> 5 & 1, 1);
	assert_int_equal(request(&d, IN, 0, 512), OK);
	assert_int_equal(request(&d, OUT, 0, 512), IOERR);
	assert_int_equal(request(&d, ZEROES, 0, 16), IOERR);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct vm *vm = guest_vm_open(f->dir.path);
	struct reason why;
	int fd;

	vm->config.disk[0].path = f->path;
	assert_int_equal(virtio_blk_create(vm, 0, &why), -EBUSY);
	assert_non_null(strstr(why.text, "in use"));
	vm->config.disk[0].path = (char *)(uintptr_t) "/nonexistent/disk";
	assert_int_equal(virtio_blk_create(vm, 0, &why), -ENOENT);
	vm->config.disk[0].path = (char *)(uintptr_t) "/dev/null";
	assert_int_equal(virtio_blk_create(vm, 0, &why), -EINVAL);
	snprintf(f->path, sizeof(f->path), "%s/odd", f->dir.path);
	vm->config.disk[0].path = f->path;
	fd = open(f->path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 1000), 0);
	close(fd);
	assert_int_equal(virtio_blk_create(vm, 0, &why), -EINVAL);
	assert_non_null(strstr(why.text, "1000"));
	guest_vm_close(vm);
}

static void test_mirror(void **state)
{
	struct fixture *f = *state;
	const struct {
		uint64_t sector;
		uint32_t sectors, flags;
	} range = { 8, 8, 0 };
	uint64_t offset, len;

	mirror_on(f);
	fill(&f->d, 1, 300 * 512);
	assert_int_equal(request(&f->d, OUT, 2, 300 * 512), OK);
	/* Completed, so in the ring, in pieces that follow one another. */
	for (uint64_t at = 0; at < 300 * 512; at += len) {
		assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_WRITE);
		assert_int_equal(offset, 2 * 512 + at);
		assert_in_range(len, 512, CONTROL_DISK_DATA_MAX);
	}
	assert_int_equal(request(&f->d, FLUSH, 0, 0), OK);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_FLUSH);
	assert_int_equal(guest_write(&f->vm->memory, DATA, &range, 16), 0);
	assert_int_equal(request(&f->d, ZEROES, 0, 16), OK);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_ZEROES);
	assert_int_equal(offset, 8 * 512);
	assert_int_equal(len, 8 * 512);
	assert_int_equal(request(&f->d, IN, 0, 512), OK);
	assert_int_equal(request(&f->d, OUT, UINT64_MAX, 512), IOERR);
	assert_int_equal(mirrored(f, &offset, &len), 0);
}

static void test_write_through(void **state)
{
	struct fixture *f = *state;
	uint64_t offset, len;

	guest_setup(&f->d, 0);
	mirror_on(f);
	assert_int_equal(request(&f->d, OUT, 0, 512), OK);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_WRITE);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_FLUSH);
}

static void test_disk_error(void **state)
{
	struct fixture *f = *state;
	uint64_t offset, len;

	mirror_on(f);
	setenv("POLLUX_FAULT", "blk.write:1:once,blk.flush:1:once", 1);
	assert_int_equal(fault_open(), 0);
	fill(&f->d, 1, 512);
	assert_int_equal(request(&f->d, OUT, 0, 512), IOERR);
	assert_int_equal(request(&f->d, FLUSH, 0, 0), IOERR);
	assert_int_equal(mirrored(f, &offset, &len), 0);
	assert_int_equal(request(&f->d, OUT, 0, 512), OK);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_WRITE);
	unsetenv("POLLUX_FAULT");
	fault_open();
}

/* Of a write that fails the disk may have a part: the mirror is told what is there. */
static void test_torn_write(void **state)
{
	struct fixture *f = *state;
	uint8_t found[1024], mirror[1024];
	uint64_t offset, len;

	fill(&f->d, 0x11, sizeof(found));
	assert_int_equal(request(&f->d, OUT, 4, sizeof(found)), OK);
	mirror_on(f);
	setenv("POLLUX_FAULT", "blk.torn:1:once", 1);
	assert_int_equal(fault_open(), 0);
	fill(&f->d, 0x22, sizeof(found));
	assert_int_equal(request(&f->d, OUT, 4, sizeof(found)), IOERR);
	assert_int_equal(mirrored(f, &offset, &len), CONTROL_DISK_WRITE);
	assert_int_equal(offset, 4 * 512);
	assert_int_equal(len, sizeof(found));
	memcpy(mirror, record + CONTROL_DISK_RECORD_BYTES, sizeof(mirror));
	assert_int_equal(mirrored(f, &offset, &len), 0);
	assert_int_equal(request(&f->d, IN, 4, sizeof(found)), OK);
	assert_int_equal(guest_read(&f->vm->memory, DATA, found, sizeof(found)), 0);
	assert_int_equal(found[0], 0x22);
	assert_int_equal(found[sizeof(found) - 1], 0x11);
	assert_memory_equal(mirror, found, sizeof(found));
	unsetenv("POLLUX_FAULT");
	fault_open();
}

/* Posts more than the ring takes and waits until it is full: one request is then in flight. */
static void stall(struct fixture *f)
{
	mirror_on(f);
	fill(&f->d, 0x33, 1 << 20);
	put_head(&f->d, OUT, 0);
	post(&f->d, OUT, 0, 1 << 20);
	while (ring_used(&f->ring) + CONTROL_DISK_DATA_MAX + 64 <= DISK_MIRROR_MIN_BYTES)
		poll(NULL, 0, 1);
	assert_int_equal(guest_used(&f->d, 0), 0);
}

/*
 * The heart of P2: a request that the disk has and the guest does not know of is in the
 * saved state; a second machine with the same memory issues it again and completes it.
 */
static void test_in_flight(void **state)
{
	struct fixture *f = *state;
	static uint8_t saved[65536], page[4096];
	struct guest_device other;
	struct vm *vm;
	size_t len;

	stall(f);
	len = guest_save(&f->d, saved, sizeof(saved));
	assert_int_not_equal(len, 0);
	vm = make_vm(f, true, false);
	other = guest_device_last(vm);
	for (uint64_t gpa = 0; gpa < GUEST_BYTES; gpa += sizeof(page)) {
		guest_read(&f->vm->memory, gpa, page, sizeof(page));
		guest_write(&vm->memory, gpa, page, sizeof(page));
	}
	memcpy(other.queue, f->d.queue, sizeof(other.queue));
	assert_true(guest_load(&other, saved, len));
	/* Until the first machine is gone the disk is not ours. */
	assert_int_equal(other.v->base.ops->start(&other.v->base), -EBUSY);
	disk_mirror_stop(f->vm->disk_mirror);
	guest_vm_close(f->vm);
	f->vm = vm;
	f->d = other;
	truncate(f->path, 0);
	truncate(f->path, DISK_BYTES);
	guest_start(&other);
	assert_int_equal(guest_wait(&other, 0, NULL), 0);
	assert_int_equal(status(&other), OK);
	assert_true(on_disk(f, 0, 0x33, 1 << 20));
	assert_int_equal(request(&other, FLUSH, 0, 0), OK);
	assert_int_equal(guest_used(&other, 0), 2);
}

static void test_bad_state(void **state)
{
	struct fixture *f = *state;
	static uint8_t saved[65536];
	size_t len = guest_save(&f->d, saved, sizeof(saved));

	assert_true(guest_load(&f->d, saved, len));
	assert_false(guest_load(&f->d, saved, len - 1));
	saved[len - 4 - 8]++; /* the disk's size, before the count of requests in flight */
	assert_false(guest_load(&f->d, saved, len));
	saved[len - 4 - 8]--;
	saved[len - 3] = 2; /* 512 of them */
	assert_false(guest_load(&f->d, saved, len));
}

/* The guest resets the device while its request waits for the mirror: it is never completed,
 * and the change is mirrored all the same. */
static void test_reset_in_flight(void **state)
{
	struct fixture *f = *state;
	uint64_t offset, len, sum = 0;

	stall(f);
	guest_setup(&f->d, F_FLUSH);
	post(&f->d, FLUSH, 0, 0);
	for (uint64_t deadline = clock_now_ns() + GUEST_WAIT_NS; clock_now_ns() < deadline;) {
		unsigned int op = mirrored(f, &offset, &len);

		sum += op == CONTROL_DISK_WRITE ? len : 0;
		if (op == CONTROL_DISK_FLUSH)
			break;
		if (!op)
			poll(NULL, 0, 1);
	}
	assert_int_equal(guest_wait(&f->d, 0, NULL), 0);
	assert_int_equal(guest_used(&f->d, 0), 1);
	assert_true(sum % 512 == 0 && on_disk(f, 0, 0x33, sum));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_write_and_read),  TEST(test_erase),	      TEST(test_bad_requests),
		TEST(test_not_a_request),   TEST(test_readonly),      TEST(test_refused),
		TEST(test_mirror),	    TEST(test_write_through), TEST(test_disk_error),
		TEST(test_torn_write),	    TEST(test_in_flight),     TEST(test_bad_state),
		TEST(test_reset_in_flight),
	};

	return test_main(tests);
}
