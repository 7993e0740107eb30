/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/track.h against a pollux-vmm in miniature with one region a write: nothing is forgotten that
 * the backup does not hold durably, whatever comes in between; what it holds, is.
 */
#include "tests/lib/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "disk-replica/sources.h"
#include "ha/track.h"
#include "hypervisor/control/control.h"

#define NR_DISKS 3u

struct control {
	int unused;
};

struct call {
	enum control_op op;
	uint16_t disk;
	uint64_t offset;
};

/* What was asked of pollux-vmm, and what it answers. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct call calls[64];
	unsigned int nr, seen;
	enum control_op hold; /* such a call waits */
	bool holding;
	int error; /* of the next `errors` calls */
	unsigned int errors;
	unsigned int closed;
} vmm = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct track *track;
static struct control the_control;

int sources_connect(const char *run_dir, struct sources *ret, struct reason *why)
{
	if (!strcmp(run_dir, "/nowhere"))
		return reason_set(why, ENOENT, "nowhere");
	*ret = (struct sources){ .nr_disks = NR_DISKS, .nr = 1, .control = { &the_control } };
	return 0;
}

bool sources_has_disk(const struct sources *s, unsigned int source)
{
	return source < s->nr;
}

void sources_close(struct sources *s)
{
	pthread_mutex_lock(&vmm.lock);
	vmm.closed += s->nr;
	pthread_cond_broadcast(&vmm.changed);
	pthread_mutex_unlock(&vmm.lock);
}

static int answer(const struct call *call)
{
	int err = 0;

	pthread_mutex_lock(&vmm.lock);
	assert(vmm.nr < ARRAY_SIZE(vmm.calls));
	vmm.calls[vmm.nr++] = *call;
	if (vmm.errors) {
		vmm.errors--;
		err = vmm.error;
	}
	pthread_cond_broadcast(&vmm.changed);
	while (vmm.hold == call->op) {
		vmm.holding = true;
		pthread_cond_broadcast(&vmm.changed);
		pthread_cond_wait(&vmm.changed, &vmm.lock);
	}
	vmm.holding = false;
	pthread_mutex_unlock(&vmm.lock);
	return err;
}

int control_simple(struct control *c, enum control_op op)
{
	const struct call call = { .op = op };

	(void)c;
	return answer(&call);
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret)
{
	struct cursor get = cursor_over(call->request, call->request_len);
	struct call seen = { .op = call->op };

	(void)c;
	(void)ret;
	seen.disk = cursor_get_u16(&get);
	seen.offset = cursor_get_u64(&get);
	assert(cursor_done(&get));
	return answer(&seen);
}

/* --- the test's hands --------------------------------------------------------------- */

static int setup(void **state)
{
	(void)state;
	vmm.nr = vmm.seen = vmm.closed = vmm.errors = 0;
	vmm.hold = 0;
	assert_int_equal(track_open("/run/vm", &track), 0);
	return 0;
}

static void close_track(void)
{
	track_close(track);
	track = NULL;
	pthread_mutex_lock(&vmm.lock);
	while (!vmm.closed)
		pthread_cond_wait(&vmm.changed, &vmm.lock);
	pthread_mutex_unlock(&vmm.lock);
}

static int teardown(void **state)
{
	(void)state;
	if (track)
		close_track();
	return 0;
}

static void hold(enum control_op op)
{
	pthread_mutex_lock(&vmm.lock);
	vmm.hold = op;
	pthread_cond_broadcast(&vmm.changed);
	pthread_mutex_unlock(&vmm.lock);
}

static void fail_next(unsigned int n, int err)
{
	pthread_mutex_lock(&vmm.lock);
	vmm.errors = n;
	vmm.error = err;
	pthread_mutex_unlock(&vmm.lock);
}

static void await_held(void)
{
	pthread_mutex_lock(&vmm.lock);
	while (!vmm.holding)
		pthread_cond_wait(&vmm.changed, &vmm.lock);
	pthread_mutex_unlock(&vmm.lock);
}

/* The next call, which is to be this one. */
static void expect(enum control_op op, uint16_t disk, uint64_t offset)
{
	struct timespec until;
	struct call c;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	pthread_mutex_lock(&vmm.lock);
	while (vmm.nr == vmm.seen && !err)
		err = pthread_cond_timedwait(&vmm.changed, &vmm.lock, &until);
	if (!err)
		c = vmm.calls[vmm.seen++];
	pthread_mutex_unlock(&vmm.lock);
	assert_int_equal(err, 0);
	assert_int_equal(c.op, op);
	assert_int_equal(c.disk, disk);
	assert_int_equal(c.offset, offset);
}

#define ROTATED	  expect(CONTROL_TRACK_ROTATE, 0, 0)
#define FORGOTTEN expect(CONTROL_TRACK_FORGET, NR_DISKS, 0)

/* Until no other thread runs, by the kernel's word: what was told has been looked at. */
static void settle(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *entry;
	bool busy = true;

	while (busy) {
		busy = false;
		rewinddir(d);
		while ((entry = readdir(d))) {
			char stat[512] = "", path[300], *behind;
			int fd;

			if (atoi(entry->d_name) <= 0 || atoi(entry->d_name) == gettid())
				continue;
			snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
			fd = open(path, O_RDONLY);
			if (fd < 0 || read(fd, stat, sizeof(stat) - 1) < 0)
				stat[0] = '\0'; /* it has ended */
			close(fd);
			behind = strrchr(stat, ')');
			busy |= behind && behind[2] != 'S';
		}
		sched_yield();
	}
	closedir(d);
}

static void durable(uint64_t epoch)
{
	const struct track_news n = { .durable_epoch = epoch };

	track_tell(track, &n);
	settle();
}

static void copied(uint64_t durable_ops, uint64_t ops, unsigned int disk, uint64_t offset)
{
	const struct track_news n = { .durable_ops = durable_ops, .copied = { ops, disk, offset } };

	track_tell(track, &n);
	settle();
}

/* Nothing more was asked than what was expected. */
static void nothing(void)
{
	settle();
	pthread_mutex_lock(&vmm.lock);
	assert_int_equal(vmm.nr, vmm.seen);
	pthread_mutex_unlock(&vmm.lock);
}

/* --- epochs ------------------------------------------------------------------------- */

static void test_epochs(void **state)
{
	(void)state;
	nothing();
	track_cut(track, 3);
	nothing();
	durable(2);
	ROTATED;
	/* Epoch 3 was cut before: what it lacks was marked before the rotation, too. */
	durable(3);
	nothing();
	track_cut(track, 4);
	nothing();
	durable(4);
	FORGOTTEN;
	ROTATED;
	track_cut(track, 9);
	durable(4); /* said twice */
	nothing();
	durable(9);
	FORGOTTEN;
	ROTATED;
}

/* A boundary that is cut while we rotate may be before the rotation. */
static void test_cut_under_way(void **state)
{
	(void)state;
	track_cut(track, 6);
	hold(CONTROL_TRACK_ROTATE);
	durable(5);
	ROTATED;
	await_held();
	track_cut(track, 7);
	hold(0);
	durable(7);
	nothing();
	track_cut(track, 8);
	durable(8);
	FORGOTTEN;
	ROTATED;
}

/* --- the copy ----------------------------------------------------------------------- */

static void test_copy(void **state)
{
	(void)state;
	copied(0, 10, 0, 4096);
	copied(9, 20, 1, 8192);
	nothing();
	copied(10, 20, 1, 8192);
	/* What the first word was about: of the second nothing is durable. */
	expect(CONTROL_TRACK_FORGET, 0, 4096);
	nothing();
	copied(19, 30, 2, 0);
	nothing();
	copied(25, 30, 2, 0);
	expect(CONTROL_TRACK_FORGET, 1, 8192);
	nothing();
	/* The copy is done, and all of it is durable: forgotten once, not for ever. */
	copied(30, 30, 2, 0);
	expect(CONTROL_TRACK_FORGET, 2, 0);
	nothing();
	copied(30, 30, 2, 0);
	nothing();
	copied(35, 35, 2, 512);
	expect(CONTROL_TRACK_FORGET, 2, 512);
	nothing();
	/* The first epoch: what the guest wrote since is still marked. */
	track_cut(track, 1);
	durable(1);
	ROTATED;
	nothing();
	track_cut(track, 2);
	durable(2);
	FORGOTTEN;
	ROTATED;
}

/* --- what pollux-vmm says ----------------------------------------------------------- */

static void test_again(void **state)
{
	(void)state;
	track_cut(track, 1);
	fail_next(2, -EAGAIN);
	durable(1);
	ROTATED;
	ROTATED;
	ROTATED;
	track_cut(track, 2);
	fail_next(1, -EAGAIN);
	durable(2);
	FORGOTTEN;
	FORGOTTEN;
	ROTATED;
	assert_int_equal(track_error(track), 0);
}

static void test_error(void **state)
{
	static const int errors[] = { -EIO, -ENODATA, -ECONNRESET, -ENOSPC };

	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		fail_next(1, errors[i]);
		if (i % 2)
			durable(1);
		else
			copied(0, 10, 0, 4096), copied(10, 10, 0, 4096);
		expect(i % 2 ? CONTROL_TRACK_ROTATE : CONTROL_TRACK_FORGET, 0, i % 2 ? 0 : 4096);
		while (!track_error(track))
			settle();
		assert_int_equal(track_error(track), errors[i]);
		track_cut(track, 8);
		durable(9);
		nothing();
		assert_int_equal(teardown(state), 0);
		assert_int_equal(setup(state), 0);
	}
}

/* Its end is not waited for, though pollux-vmm may be syncing its disks. */
static void test_close_under_way(void **state)
{
	uint64_t begin;

	(void)state;
	hold(CONTROL_TRACK_ROTATE);
	durable(1);
	ROTATED;
	await_held();
	begin = clock_now_ns();
	track_close(track);
	track = NULL;
	assert_true(clock_now_ns() - begin < NS_PER_S);
	assert_int_equal(vmm.closed, 0);
	hold(0);
	close_track();
	assert_int_equal(vmm.closed, 1);
	nothing();
}

static void test_no_vm(void **state)
{
	struct track *t = NULL;

	(void)state;
	assert_int_equal(track_open("/nowhere", &t), -ENOENT);
	assert_null(t);
	track_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_epochs), TEST(test_cut_under_way),   TEST(test_copy),	 TEST(test_again),
		TEST(test_error),  TEST(test_close_under_way), TEST(test_no_vm),
	};

	return test_main(tests);
}
