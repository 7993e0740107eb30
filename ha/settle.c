/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/settle.h"

#include <pthread.h>

#include "base/clock.h"
#include "hypervisor/control/control.h"

#define LOOK_NS (5 * NS_PER_MS) /* at how far the disk is */

struct mark {
	uint64_t epoch, position;
};

struct settler {
	struct control *control; /* the thread's */
	uint64_t limit_bytes;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* All under lock. */
	bool closed;
	bool asked, done, hold;
	uint64_t round;	     /* rises with each question: an answer is of one */
	struct mark allowed; /* the newest */
	uint64_t settled;
	int error;
	struct reason why;
};

static int defer(struct settler *s, bool on, struct reason *why)
{
	uint8_t request[9];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = { .op = CONTROL_DISK_DEFER,
				     .request = request,
				     .request_len = sizeof(request),
				     .why = why };

	cursor_put_u8(&put, on);
	cursor_put_u64(&put, s->limit_bytes);
	return control_call(s->control, &call, NULL);
}

/* Up to where all is on stable storage. */
static int settle(struct settler *s, uint64_t position, uint64_t *ret, struct reason *why)
{
	uint8_t request[8];
	struct cursor put = cursor_over(request, sizeof(request)), reply;
	struct control_call call = { .op = CONTROL_DISK_SETTLE,
				     .request = request,
				     .request_len = sizeof(request),
				     .why = why };
	uint64_t settled;
	uint32_t error;
	int r;

	cursor_put_u64(&put, position);
	r = control_call(s->control, &call, &reply);
	if (r)
		return r;
	settled = cursor_get_u64(&reply);
	cursor_get_u64(&reply);
	error = cursor_get_u32(&reply);
	if (!cursor_done(&reply) || error > INT16_MAX)
		return -EPROTO;
	if (error)
		return reason_set(why, (int)error, "a disk on DRBD fails: %s",
				  strerror((int)error));
	*ret = settled;
	return 0;
}

/* Locked, as what follows; let go of while pollux-vmm answers. */
static void fail(struct settler *s, int err, const struct reason *why)
{
	s->error = err;
	s->why = *why;
	if (!why->text[0])
		reason_set(&s->why, -err, "settling a disk on DRBD: %s", strerror(-err));
}

static void do_defer(struct settler *s)
{
	uint64_t round = s->round;
	bool hold = s->hold;
	struct reason why = { 0 };
	int r;

	pthread_mutex_unlock(&s->lock);
	r = defer(s, hold, &why);
	pthread_mutex_lock(&s->lock);
	if (round != s->round)
		return;
	s->done = !r;
	if (r)
		fail(s, r, &why);
}

static void do_settle(struct settler *s)
{
	struct mark aim = s->allowed;
	uint64_t round = s->round, settled = 0;
	struct reason why = { 0 };
	int r;

	pthread_mutex_unlock(&s->lock);
	do {
		r = settle(s, aim.position, &settled, &why);
		if (!r && settled < aim.position)
			nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		pthread_mutex_lock(&s->lock);
		if (round != s->round || s->closed)
			return;
		pthread_mutex_unlock(&s->lock);
	} while (!r && settled < aim.position);
	pthread_mutex_lock(&s->lock);
	if (round != s->round)
		return;
	if (r)
		fail(s, r, &why);
	else
		s->settled = aim.epoch;
}

static void *run(void *opaque)
{
	struct settler *s = opaque;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (s->asked && !s->done && !s->error)
			do_defer(s);
		else if (s->closed)
			break;
		else if (s->done && s->hold && !s->error && s->allowed.epoch > s->settled)
			do_settle(s);
		else
			pthread_cond_wait(&s->changed, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int settler_open(const char *run_dir, uint64_t limit_bytes, struct settler **ret)
{
	struct settler *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->limit_bytes = limit_bytes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	r = control_connect(run_dir, &s->control);
	if (!r)
		r = -pthread_create(&s->thread, NULL, run, s);
	if (r) {
		control_close(s->control);
		pthread_cond_destroy(&s->changed);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void settler_close(struct settler *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closed = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	control_close(s->control);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void settler_hold(struct settler *s, bool hold)
{
	pthread_mutex_lock(&s->lock);
	s->asked = true;
	s->done = false;
	s->hold = hold;
	s->error = 0;
	s->allowed = (struct mark){ 0 };
	s->settled = 0;
	s->round++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

bool settler_is_done(struct settler *s)
{
	bool done;

	pthread_mutex_lock(&s->lock);
	done = s->done;
	pthread_mutex_unlock(&s->lock);
	return done;
}

void settler_allow(struct settler *s, uint64_t epoch, uint64_t position)
{
	pthread_mutex_lock(&s->lock);
	s->allowed = (struct mark){ epoch, position };
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

uint64_t settler_settled(struct settler *s)
{
	uint64_t settled;

	pthread_mutex_lock(&s->lock);
	settled = s->settled;
	pthread_mutex_unlock(&s->lock);
	return settled;
}

int settler_error(struct settler *s, struct reason *why)
{
	int err;

	pthread_mutex_lock(&s->lock);
	err = s->error;
	if (err)
		*why = s->why;
	pthread_mutex_unlock(&s->lock);
	return err;
}
