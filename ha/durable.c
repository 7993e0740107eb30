/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/durable.h"

#include <fcntl.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/fault.h"

struct durable {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed;			/* lock; the thread frees everything */
	struct durable_mark news, done; /* lock */
	bool told;			/* lock: `done` was asked for */
	int error;			/* lock */
	int fd[DISK_MAX];
	unsigned int nr_disks;
};

static void release(struct durable *d)
{
	for (unsigned int i = 0; i < d->nr_disks; i++)
		close(d->fd[i]);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int sync_all(struct durable *d)
{
	if (fault_at("durable.sync"))
		return -EIO;
	for (unsigned int i = 0; i < d->nr_disks; i++)
		if (fdatasync(d->fd[i]))
			return -errno;
	return 0;
}

/* Locked. Until something is to be synced, and not sooner than the last time allows. */
static bool await_work(struct durable *d, uint64_t not_before_ns)
{
	const struct timespec until = { .tv_sec = (time_t)(not_before_ns / NS_PER_S),
					.tv_nsec = (long)(not_before_ns % NS_PER_S) };

	while (!d->closed && clock_read_ns(CLOCK_MONOTONIC) < not_before_ns)
		pthread_cond_timedwait(&d->changed, &d->lock, &until);
	while (!d->closed && d->news.epoch == d->done.epoch && d->news.ops == d->done.ops)
		pthread_cond_wait(&d->changed, &d->lock);
	return !d->closed;
}

static void *run(void *opaque)
{
	struct durable *d = opaque;
	uint64_t next_ns = 0;

	pthread_mutex_lock(&d->lock);
	while (await_work(d, next_ns) && !d->error) {
		struct durable_mark mark = d->news;
		int err = 0;

		if (mark.bytes != d->done.bytes) {
			pthread_mutex_unlock(&d->lock);
			err = sync_all(d);
			pthread_mutex_lock(&d->lock);
		}
		if (!err)
			d->done = mark;
		d->error = err;
		d->told = false;
		next_ns = clock_read_ns(CLOCK_MONOTONIC) +
			  (mark.epoch ? DURABLE_EVERY_NS : DURABLE_COPY_NS);
	}
	while (!d->closed)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
	release(d);
	return NULL;
}

static void init(struct durable *d)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
}

static int start(struct durable *d)
{
	pthread_t thread;
	int err = -pthread_create(&thread, NULL, run, d);

	if (!err)
		pthread_detach(thread);
	return err;
}

int durable_open(const struct disk_info *disks, unsigned int nr_disks, struct durable **ret)
{
	struct durable *d = calloc(1, sizeof(*d));
	int err = 0;

	if (!d)
		return -ENOMEM;
	init(d);
	for (unsigned int i = 0; i < nr_disks && !err; i++) {
		if (disk_is_drbd(&disks[i]))
			continue;
		d->fd[d->nr_disks] = open(disks[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (d->fd[d->nr_disks] < 0)
			err = -errno;
		else
			d->nr_disks++;
	}
	if (!err)
		err = start(d);
	if (err) {
		release(d);
		return err;
	}
	*ret = d;
	return 0;
}

void durable_close(struct durable *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->closed = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

void durable_news(struct durable *d, const struct durable_mark *mark)
{
	pthread_mutex_lock(&d->lock);
	d->news = *mark;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

bool durable_progress(struct durable *d, struct durable_mark *ret)
{
	bool news;

	pthread_mutex_lock(&d->lock);
	news = !d->told && (d->done.epoch || d->done.ops);
	d->told = true;
	*ret = d->done;
	pthread_mutex_unlock(&d->lock);
	return news;
}

int durable_error(struct durable *d)
{
	int err;

	pthread_mutex_lock(&d->lock);
	err = d->error;
	pthread_mutex_unlock(&d->lock);
	return err;
}
