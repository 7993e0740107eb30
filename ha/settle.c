/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/settle.h"

#include <pthread.h>

#include "base/clock.h"
#include "disk-replica/drbd.h"
#include "hypervisor/control/control.h"

#define LOOK_NS	 (5 * NS_PER_MS)  /* at how far the disk is */
#define WHOLE_NS (50 * NS_PER_MS) /* at DRBD, when it is not whole */

struct mark {
	uint64_t epoch, position;
};

struct settler {
	struct control *control; /* the thread's */
	struct settler_config config;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* All under lock. */
	bool closed;
	bool asked, done, hold;
	uint64_t round;	     /* rises with each question: an answer is of one */
	struct mark allowed; /* the newest */
	uint64_t settled;
	uint64_t apart_since_ns; /* 0: DRBD is whole */
	bool bare;		 /* no copy of this host's own */
	struct reason bare_why;
	int error;
	struct reason why; /* of the error, or of what is not whole */
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
	cursor_put_u64(&put, s->config.limit_bytes);
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

static int check_whole(const struct settler *s, struct reason *why)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < s->config.nr; i++)
		r = drbd_whole(drbd_proc, s->config.minor[i], why);
	return r;
}

static bool lacks_own(const struct settler *s, struct reason *why)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < s->config.nr; i++)
		r = drbd_has_own(drbd_proc, s->config.minor[i], why);
	return r == -EINVAL;
}

static void note_whole(struct settler *s, int apart, const struct reason *why)
{
	if (!apart) {
		s->apart_since_ns = 0;
		return;
	}
	if (!s->apart_since_ns)
		s->apart_since_ns = clock_now_ns();
	s->why = *why;
}

/* One step towards what is allowed. DRBD is looked at after the disk: what was on stable storage
 * here before it was whole is so there. */
static void do_settle(struct settler *s)
{
	struct mark aim = s->allowed;
	uint64_t round = s->round, settled = 0;
	struct reason why = { 0 }, bare_why = { 0 };
	int apart = 0, r;
	bool bare;

	pthread_mutex_unlock(&s->lock);
	r = settle(s, aim.position, &settled, &why);
	if (!r)
		apart = check_whole(s, &why);
	/* Else it is more than bare, and told so. */
	bare = !r && !apart && lacks_own(s, &bare_why);
	if (!r && (apart || settled < aim.position))
		nanosleep(&(struct timespec){ .tv_nsec = apart ? WHOLE_NS : LOOK_NS }, NULL);
	pthread_mutex_lock(&s->lock);
	if (round != s->round)
		return;
	note_whole(s, apart, &why);
	s->bare = bare;
	s->bare_why = bare_why;
	if (r)
		fail(s, r, &why);
	else if (!apart && settled >= aim.position)
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

int settler_open(const struct settler_config *config, struct settler **ret)
{
	struct settler *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	r = control_connect(config->run_dir, &s->control);
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
	s->apart_since_ns = 0;
	s->bare = false;
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

uint64_t settler_apart_ns(struct settler *s, struct reason *why)
{
	uint64_t ns = 0;

	pthread_mutex_lock(&s->lock);
	if (s->apart_since_ns) {
		ns = clock_now_ns() - s->apart_since_ns;
		*why = s->why;
	}
	pthread_mutex_unlock(&s->lock);
	return ns;
}

bool settler_is_bare(struct settler *s, struct reason *why)
{
	bool bare;

	pthread_mutex_lock(&s->lock);
	bare = s->bare;
	if (bare)
		*why = s->bare_why;
	pthread_mutex_unlock(&s->lock);
	return bare;
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
