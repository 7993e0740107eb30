/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools/daemon/kept.h: memory comes back once, for the same VM of the same size, sealed; and
 * goes when somebody needs the room, but not the room of whoever asks.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/daemon/kept.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/worker.h"

#define MIB  UINT64_C(1048576)
#define UUID "0e4f6d0a-2b53-4b0c-9f0f-6f1f52a1c001"

static struct daemon d = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- what is not tested here --- */

void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...);
void events_add(struct daemon *daemon, const char *vm, const char *kind, const char *fmt, ...)
{
	(void)daemon, (void)vm, (void)kind, (void)fmt;
}

int vm_connect(struct daemon *daemon, uint32_t domid, struct control **ret, struct reason *why)
{
	(void)daemon, (void)domid, (void)ret, (void)why;
	return -ECONNREFUSED;
}

uint64_t vm_memory_bytes(const struct vm *vm)
{
	(void)vm;
	return 64 * MIB;
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret)
{
	(void)c, (void)call, (void)ret;
	return -ENOSYS;
}

void control_close(struct control *c)
{
	(void)c;
}

int worker_run(struct daemon *daemon, worker_fn *fn, void *arg)
{
	fn(daemon, arg);
	return 0;
}

/* --- */

static int make_memory(uint64_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)bytes / 2), 1);
	return fd;
}

static void keep(const char *name, uint64_t bytes, int seals)
{
	struct vm vm = { .memory_fd = make_memory(bytes, seals) };

	snprintf(vm.name, sizeof(vm.name), "%s", name);
	snprintf(vm.uuid, sizeof(vm.uuid), "%s", UUID);
	kept_put(&d, &vm);
	assert_int_equal(vm.memory_fd, -1);
}

#define ALL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static void test_comes_back_once(void **state)
{
	char byte = 0;
	int fd;

	(void)state;
	keep("db", 64 * MIB, ALL);
	keep("other", 64 * MIB, ALL);
	fd = kept_take(&d, "db", UUID, 64 * MIB);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, 32 * MIB), 1);
	assert_int_equal(byte, 'x');
	close(fd);
	assert_int_equal(kept_take(&d, "db", UUID, 64 * MIB), -1);
	fd = kept_take(&d, "other", UUID, 64 * MIB);
	assert_true(fd >= 0);
	close(fd);
}

/* What does not fit is given up, not kept for ever. */
static void test_only_what_fits(void **state)
{
	(void)state;
	keep("db", 64 * MIB, ALL);
	assert_int_equal(kept_take(&d, "db", "11111111-2b53-4b0c-9f0f-6f1f52a1c001", 64 * MIB), -1);
	keep("db", 64 * MIB, ALL);
	assert_int_equal(kept_take(&d, "db", UUID, 128 * MIB), -1);
	keep("db", 32 * MIB, ALL); /* it is not what the VM's process said it was */
	assert_int_equal(kept_take(&d, "db", UUID, 64 * MIB), -1);
	keep("db", 64 * MIB, F_SEAL_GROW); /* it could shrink under us */
	assert_int_equal(kept_take(&d, "db", UUID, 64 * MIB), -1);
	assert_null(d.kept);
}

static void test_room(void **state)
{
	uint64_t available;
	int fd;

	(void)state;
	keep("db", 64 * MIB, ALL);
	keep("other", 64 * MIB, ALL);
	available = kept_make_room(&d, "db", 1);
	assert_true(available > 1);
	fd = kept_take(&d, "other", UUID, 64 * MIB);
	assert_true(fd >= 0); /* nobody needed it */
	close(fd);
	keep("other", 64 * MIB, ALL);
	assert_true(kept_make_room(&d, "db", UINT64_MAX / 2) < UINT64_MAX / 2);
	assert_int_equal(kept_take(&d, "other", UUID, 64 * MIB), -1);
	fd = kept_take(&d, "db", UUID, 64 * MIB);
	assert_true(fd >= 0);
	close(fd);
}

static void test_end(void **state)
{
	(void)state;
	keep("db", 64 * MIB, ALL);
	kept_expire(&d);
	assert_non_null(d.kept);
	keep("db", 64 * MIB, ALL); /* in place of the one before */
	kept_drop(&d, "db");
	assert_null(d.kept);
	keep("db", 64 * MIB, ALL);
	kept_drop_all(&d);
	assert_null(d.kept);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_back_once),
		cmocka_unit_test(test_only_what_fits),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_end),
	};

	return test_main(tests);
}
