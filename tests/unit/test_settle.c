/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/settle.h against a pollux-vmm in miniature and a kernel that says what the test wants of
 * DRBD: nothing is called settled that is not on stable storage on both hosts, or that was not
 * allowed.
 */
#include "tests/lib/test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "disk-replica/drbd.h"
#include "ha/settle.h"
#include "tests/lib/dir.h"

struct control {
	int unused;
};

static struct {
	pthread_mutex_t lock;
	bool waits;	  /* what DISK_DEFER said last */
	unsigned int ons; /* how often it was asked */
	uint64_t limit, allowed, on_disk;
	int defer_error, disk_error;
} vmm = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct control the_control;
static struct test_dir dir;
static struct settler *settler;
static struct reason why;

int control_connect(const char *run_dir, struct control **ret)
{
	(void)run_dir;
	*ret = &the_control;
	return 0;
}

void control_close(struct control *c)
{
	(void)c;
}

static int defer(struct cursor *get)
{
	vmm.waits = cursor_get_u8(get);
	vmm.limit = cursor_get_u64(get);
	vmm.ons++;
	vmm.allowed = 0;
	return vmm.defer_error;
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret)
{
	static uint8_t reply[20];
	struct cursor get = cursor_over(call->request, call->request_len);
	struct cursor put = cursor_over(reply, sizeof(reply));
	int err = 0;

	(void)c;
	pthread_mutex_lock(&vmm.lock);
	if (call->op == CONTROL_DISK_DEFER) {
		err = defer(&get);
	} else {
		assert_int_equal(call->op, CONTROL_DISK_SETTLE);
		assert_true(vmm.waits);
		vmm.allowed = cursor_get_u64(&get);
		cursor_put_u64(&put, MIN(vmm.on_disk, vmm.allowed));
		cursor_put_u64(&put, 0);
		cursor_put_u32(&put, (uint32_t)vmm.disk_error);
		*ret = cursor_over(reply, sizeof(reply));
	}
	assert_true(cursor_done(&get));
	pthread_mutex_unlock(&vmm.lock);
	return err;
}

static void kernel(const char *says)
{
	char path[128], temporary[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc", dir.path);
	snprintf(temporary, sizeof(temporary), "%s/proc.new", dir.path);
	f = fopen(temporary, "w");
	assert_non_null(f);
	fprintf(f, " 7: %s C r-----\n", says);
	fclose(f);
	assert_int_equal(rename(temporary, path), 0);
}

#define WHOLE "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate"
#define ALONE "cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown"

static void disk_has(uint64_t position)
{
	pthread_mutex_lock(&vmm.lock);
	vmm.on_disk = position;
	pthread_mutex_unlock(&vmm.lock);
}

static bool within(bool (*is)(void))
{
	uint64_t until = clock_now_ns() + 20 * NS_PER_S;

	while (!is() && clock_now_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
	return is();
}

static bool is_done(void)
{
	return settler_is_done(settler);
}

static bool has_error(void)
{
	return settler_error(settler, &why);
}

static bool is_apart(void)
{
	return settler_apart_ns(settler, &why);
}

static uint64_t awaited;
static bool is_settled(void)
{
	return settler_settled(settler) == awaited;
}

static void assert_settles(uint64_t epoch)
{
	awaited = epoch;
	assert_true(within(is_settled));
}

static bool was_told(void)
{
	bool told;

	pthread_mutex_lock(&vmm.lock);
	told = vmm.allowed == awaited;
	pthread_mutex_unlock(&vmm.lock);
	return told;
}

/* Pollux-vmm has been asked for this position. */
static void assert_told(uint64_t position)
{
	awaited = position;
	assert_true(within(was_told));
}

static int setup(void **state)
{
	static char proc[128];
	struct settler_config config = {
		.run_dir = "/run", .limit_bytes = 12345, .minor = { 7 }, .nr = 1
	};

	(void)state;
	if (test_dir_open(&dir))
		return -1;
	snprintf(proc, sizeof(proc), "%s/proc", dir.path);
	drbd_proc = proc;
	kernel(WHOLE);
	vmm.waits = false;
	vmm.allowed = vmm.on_disk = vmm.ons = 0;
	vmm.defer_error = vmm.disk_error = 0;
	return settler_open(&config, &settler);
}

static int teardown(void **state)
{
	(void)state;
	settler_close(settler);
	test_dir_close(&dir);
	return 0;
}

static void hold(void)
{
	settler_hold(settler, true);
	assert_true(within(is_done));
	assert_true(vmm.waits);
	assert_int_equal(vmm.limit, 12345);
}

static void test_settles_what_is_on_disk(void **state)
{
	(void)state;
	hold();
	settler_allow(settler, 1, 100);
	assert_told(100);
	assert_int_equal(settler_settled(settler), 0);
	disk_has(99);
	assert_told(100);
	assert_int_equal(settler_settled(settler), 0);
	disk_has(100);
	assert_settles(1);
	disk_has(1000);
	settler_allow(settler, 5, 500);
	assert_settles(5);
}

static void test_drbd_alone(void **state)
{
	(void)state;
	hold();
	kernel(ALONE);
	disk_has(100);
	settler_allow(settler, 1, 100);
	assert_true(within(is_apart));
	assert_non_null(strstr(why.text, "WFConnection"));
	assert_int_equal(settler_settled(settler), 0);
	/* It copies to the other host: that has not all of it yet. */
	kernel("cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent");
	settler_allow(settler, 2, 100);
	assert_true(is_apart());
	assert_int_equal(settler_settled(settler), 0);
	kernel(WHOLE);
	assert_settles(2);
	assert_false(is_apart());
}

static bool is_bare(void)
{
	return settler_is_bare(settler, &why);
}

static bool is_whole(void)
{
	return !is_bare();
}

/* The other host's disk has all: epochs settle, and that there is one copy only is known. */
static void test_no_own_copy(void **state)
{
	(void)state;
	hold();
	assert_false(is_bare());
	kernel("cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate");
	disk_has(100);
	settler_allow(settler, 1, 100);
	assert_true(within(is_bare));
	assert_non_null(strstr(why.text, "Diskless"));
	assert_settles(1);
	kernel(WHOLE);
	disk_has(200);
	settler_allow(settler, 2, 200);
	assert_true(within(is_whole));
}

static void test_pass_forgets(void **state)
{
	(void)state;
	hold();
	disk_has(100);
	settler_allow(settler, 3, 100);
	assert_settles(3);
	settler_hold(settler, false);
	assert_true(within(is_done));
	assert_false(vmm.waits);
	assert_int_equal(settler_settled(settler), 0);
	hold();
	assert_int_equal(vmm.ons, 3);
	assert_int_equal(settler_settled(settler), 0);
	settler_allow(settler, 1, 10);
	assert_settles(1);
}

static void test_errors(void **state)
{
	(void)state;
	vmm.defer_error = -EIO;
	settler_hold(settler, true);
	assert_true(within(has_error));
	assert_false(is_done());
	vmm.defer_error = 0;
	hold();
	vmm.disk_error = ENOSPC;
	settler_allow(settler, 1, 100);
	assert_true(within(has_error));
	assert_int_equal(settler_error(settler, &why), -ENOSPC);
	assert_non_null(strstr(why.text, "No space"));
	assert_int_equal(settler_settled(settler), 0);
}

/* What was asked for last is done, also when the engine ends. */
static void test_close_waits(void **state)
{
	(void)state;
	hold();
	settler_hold(settler, false);
	settler_close(settler);
	settler = NULL;
	assert_false(vmm.waits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_settles_what_is_on_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drbd_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_own_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pass_forgets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_waits, setup, teardown),
	};

	return test_main(tests);
}
