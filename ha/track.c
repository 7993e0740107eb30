/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/track.h"

#include <pthread.h>

#include "base/clock.h"
#include "disk-replica/sources.h"
#include "hypervisor/control/control.h"

struct track {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed;		/* lock; the thread frees everything */
	struct track_news news; /* lock */
	int error;		/* lock */
	uint64_t hold;		/* lock: nothing is forgotten before this epoch is durable */
	bool forgetting;	/* lock */
	uint64_t cut;		/* atomic: the last epoch whose boundary was, or is being, cut */

	/* The thread's. */
	struct sources sources;
	bool rotated;		    /* and not forgotten yet */
	uint64_t wanted;	    /* the epoch that must be durable before that */
	struct track_copied copied; /* of the copy: to be forgotten once durable */
	uint64_t forgotten;	    /* the `ops` of what was, last */
};

static void release(struct track *t)
{
	sources_close(&t->sources);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* Locked. */
static void sleep_until(struct track *t, uint64_t ns)
{
	const struct timespec until = { .tv_sec = (time_t)(ns / NS_PER_S),
					.tv_nsec = (long)(ns % NS_PER_S) };

	while (!t->closed && clock_read_ns(CLOCK_MONOTONIC) < ns)
		pthread_cond_timedwait(&t->changed, &t->lock, &until);
}

static int forget_one(struct control *control, unsigned int disk, uint64_t offset)
{
	uint8_t request[10];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = { .op = CONTROL_TRACK_FORGET,
				     .request = request,
				     .request_len = sizeof(request) };

	cursor_put_u16(&put, (uint16_t)disk);
	cursor_put_u64(&put, offset);
	return control_call(control, &call, NULL);
}

/* What is marked of the disks before `disk`, and of that one below `offset`. */
static int forget(struct track *t, unsigned int disk, uint64_t offset)
{
	const struct sources *s = &t->sources;
	int err = sources_has_disk(s, 0) ? forget_one(s->control[0], disk, offset) : 0;

	for (unsigned int i = 0; i < s->nr_disks && !err; i++) {
		if (!s->named[i].served || i > disk)
			continue;
		err = i < disk ? forget_one(s->control[s->source[i]], 1, 0)
			       : forget_one(s->control[s->source[i]], 0, offset);
	}
	return err;
}

static int rotate(struct track *t)
{
	const struct sources *s = &t->sources;
	int err = 0;

	for (unsigned int i = 0; i < s->nr && !err; i++)
		if (sources_has_disk(s, i))
			err = control_simple(s->control[i], CONTROL_TRACK_ROTATE);
	return err;
}

/* Before the first epoch is durable. */
static int copy_step(struct track *t, const struct track_news *n)
{
	if (t->copied.ops && n->durable_ops >= t->copied.ops) {
		int err = forget(t, t->copied.disk, t->copied.offset);

		if (err)
			return err;
		t->forgotten = t->copied.ops;
		t->copied.ops = 0;
	}
	if (!t->copied.ops && n->copied.ops > t->forgotten)
		t->copied = n->copied;
	return 0;
}

static bool begin_forgetting(struct track *t, uint64_t durable)
{
	pthread_mutex_lock(&t->lock);
	t->forgetting = durable >= t->hold;
	pthread_mutex_unlock(&t->lock);
	return t->forgetting;
}

static void end_forgetting(struct track *t)
{
	pthread_mutex_lock(&t->lock);
	t->forgetting = false;
	pthread_mutex_unlock(&t->lock);
}

int track_hold(struct track *t, uint64_t epoch)
{
	bool busy;

	pthread_mutex_lock(&t->lock);
	busy = t->forgetting;
	if (!busy)
		t->hold = MAX(t->hold, epoch);
	pthread_mutex_unlock(&t->lock);
	return busy ? -EAGAIN : 0;
}

static int epoch_step(struct track *t, const struct track_news *n)
{
	int err = 0;

	if (t->rotated && n->durable_epoch >= t->wanted) {
		if (!begin_forgetting(t, n->durable_epoch))
			return -EAGAIN;
		err = forget(t, t->sources.nr_disks, 0);
		end_forgetting(t);
		t->rotated = err != 0;
	}
	if (err || t->rotated)
		return err;
	err = rotate(t);
	if (err)
		return err;
	t->rotated = true;
	/* Said before it is done: any later boundary is after our rotation. */
	t->wanted = __atomic_load_n(&t->cut, __ATOMIC_SEQ_CST) + 1;
	return 0;
}

/* Locked. The pace is the backup's: nothing is done twice for one word of it. */
static bool has_work(const struct track *t)
{
	const struct track_news *n = &t->news;

	if (n->durable_epoch)
		return !t->rotated || n->durable_epoch >= t->wanted;
	return t->copied.ops ? n->durable_ops >= t->copied.ops : n->copied.ops > t->forgotten;
}

static void *run(void *opaque)
{
	struct track *t = opaque;

	pthread_mutex_lock(&t->lock);
	while (!t->closed) {
		struct track_news news = t->news;
		int err;

		if (!has_work(t)) {
			pthread_cond_wait(&t->changed, &t->lock);
			continue;
		}
		pthread_mutex_unlock(&t->lock);
		err = news.durable_epoch ? epoch_step(t, &news) : copy_step(t, &news);
		pthread_mutex_lock(&t->lock);
		if (err && err != -EAGAIN) {
			t->error = err;
			break;
		}
		if (err)
			sleep_until(t, clock_read_ns(CLOCK_MONOTONIC) + TRACK_AGAIN_NS);
	}
	while (!t->closed)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	release(t);
	return NULL;
}

int track_open(const char *run_dir, struct track **ret)
{
	struct track *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;
	pthread_t thread;
	int err;

	if (!t)
		return -ENOMEM;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, &attr);
	pthread_condattr_destroy(&attr);
	err = sources_connect(run_dir, &t->sources, NULL);
	if (!err)
		err = -pthread_create(&thread, NULL, run, t);
	if (err) {
		release(t);
		return err;
	}
	pthread_detach(thread);
	*ret = t;
	return 0;
}

void track_close(struct track *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->closed = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

void track_cut(struct track *t, uint64_t epoch)
{
	__atomic_store_n(&t->cut, epoch, __ATOMIC_SEQ_CST);
}

void track_tell(struct track *t, const struct track_news *news)
{
	pthread_mutex_lock(&t->lock);
	t->news = *news;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

int track_error(struct track *t)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = t->error;
	pthread_mutex_unlock(&t->lock);
	return err;
}
