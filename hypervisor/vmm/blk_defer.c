/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of changes, oldest first. Invariant: a change leaves the queue only after the disk
 * has it and while nobody reads, so that a read, which takes the disk first and the queue
 * second, misses none. Reads pass over the whole queue: it holds the changes of an epoch or
 * two, and a look at one costs less than its share of a request.
 *
 * All disks of the VM settle in one order, that of their positions: what a guest had flushed on
 * one disk before it wrote to another is not overtaken, should both hosts be lost. So one lock
 * is for all of them: it is not held while a disk works.
 */
#include "hypervisor/vmm/blk_defer.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/fault.h"
#include "hypervisor/control/control.h"

#define NO_POSITION UINT64_MAX

struct waiting {
	TAILQ_ENTRY(waiting) link;
	uint64_t position; /* NO_POSITION: not stamped */
	uint64_t offset, length;
	uint8_t op;
	uint8_t data[];
};

/* Of this process's VM. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static LIST_HEAD(deferred_disks, blk_defer) disks = LIST_HEAD_INITIALIZER(disks); /* lock */

/* But for file and thread: lock. */
struct blk_defer {
	LIST_ENTRY(blk_defer) link;
	const struct blk_file *file;
	pthread_t thread;
	TAILQ_HEAD(waiting_queue, waiting) queue;
	uint64_t bytes, limit;
	uint64_t allowed;	  /* may go to the disk up to here */
	uint64_t written, synced; /* up to here it was given to the disk, is on stable storage */
	uint64_t unsynced_bytes;  /* of `bytes`: written, and not synced */
	bool on;
	bool lost;    /* a sync has failed: what it was for is gone, once more is of no use */
	bool passing; /* the worker changes the disk itself */
	bool draining;
	bool reading;
	bool cancelled;
	int error;
};

static uint64_t bytes_of(const struct waiting *w)
{
	return sizeof(*w) + (w->op == CONTROL_DISK_WRITE ? w->length : 0);
}

/* --- to the disk -------------------------------------------------------------------------- */

static int perform(const struct blk_defer *d, const struct waiting *w)
{
	int err;

	if (fault_at("blk.settle"))
		return -EIO;
	switch (w->op) {
	case CONTROL_DISK_WRITE:
		return blk_file_write(d->file, w->offset, w->data, w->length);
	case CONTROL_DISK_FLUSH:
		return blk_file_flush(d->file);
	case CONTROL_DISK_DISCARD:
		err = blk_file_discard(d->file, w->offset, w->length);
		/* The guest has read zeroes already. */
		return err == -EOPNOTSUPP ? blk_file_zero(d->file, w->offset, w->length) : err;
	case CONTROL_DISK_ZEROES:
		return blk_file_zero(d->file, w->offset, w->length);
	default:
		return -EINVAL;
	}
}

static bool is_oldest_of_all(const struct waiting *w)
{
	const struct blk_defer *d;

	LIST_FOREACH(d, &disks, link)
	{
		const struct waiting *other = TAILQ_FIRST(&d->queue);

		if (other && other->position < w->position)
			return false;
	}
	return true;
}

/* When protection ends the disks are drained one after the other. */
static bool is_due(const struct blk_defer *d, const struct waiting *w)
{
	if (!w || d->error)
		return false;
	return d->draining ||
	       (w->position != NO_POSITION && w->position <= d->allowed && is_oldest_of_all(w));
}

static void note_synced(struct blk_defer *d, uint64_t position, uint64_t bytes)
{
	d->synced = position;
	d->unsynced_bytes -= bytes;
	d->bytes -= bytes;
}

/* Under lock, as is sync_written(); both let go of it while the disk works. */
static void settle_oldest(struct blk_defer *d, struct waiting *w)
{
	int err;

	pthread_mutex_unlock(&lock);
	err = perform(d, w);
	pthread_mutex_lock(&lock);
	if (err) {
		d->error = -err;
		pthread_cond_broadcast(&changed);
		return;
	}
	while (d->reading)
		pthread_cond_wait(&changed, &lock);
	TAILQ_REMOVE(&d->queue, w, link);
	if (w->position != NO_POSITION)
		d->written = w->position;
	d->unsynced_bytes += bytes_of(w);
	if (w->op == CONTROL_DISK_FLUSH)
		note_synced(d, d->written, d->unsynced_bytes);
	free(w);
	pthread_cond_broadcast(&changed);
}

/* What is written is in the host's memory alone, and would be lost with it. */
static void sync_written(struct blk_defer *d)
{
	uint64_t position = d->written, bytes = d->unsynced_bytes;
	int err;

	pthread_mutex_unlock(&lock);
	err = fault_at("blk.sync") ? -EIO : blk_file_flush(d->file);
	pthread_mutex_lock(&lock);
	d->lost |= err != 0;
	if (err)
		d->error = -err;
	else
		note_synced(d, position, bytes);
	pthread_cond_broadcast(&changed);
}

/* Together, once nothing else is to be done; or when the rest of the room is gone. */
static bool is_sync_due(const struct blk_defer *d, const struct waiting *oldest)
{
	return d->unsynced_bytes && !d->error &&
	       (!is_due(d, oldest) || d->unsynced_bytes > d->limit / 2);
}

static void *settle_main(void *arg)
{
	struct blk_defer *d = arg;

	pthread_mutex_lock(&lock);
	while (!d->cancelled) {
		struct waiting *w = TAILQ_FIRST(&d->queue);

		if (is_sync_due(d, w))
			sync_written(d);
		else if (is_due(d, w))
			settle_oldest(d, w);
		else
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* --- life --------------------------------------------------------------------------------- */

int blk_defer_open(const struct blk_file *file, struct blk_defer **ret)
{
	struct blk_defer *d = calloc(1, sizeof(*d));
	sigset_t all, old;
	int err;

	if (!d)
		return -ENOMEM;
	d->file = file;
	TAILQ_INIT(&d->queue);
	/* Signals are for others. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&d->thread, NULL, settle_main, d);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		free(d);
		return err;
	}
	pthread_mutex_lock(&lock);
	LIST_INSERT_HEAD(&disks, d, link);
	pthread_mutex_unlock(&lock);
	*ret = d;
	return 0;
}

void blk_defer_cancel(struct blk_defer *d)
{
	pthread_mutex_lock(&lock);
	d->cancelled = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void blk_defer_close(struct blk_defer *d)
{
	struct waiting *w;

	if (!d)
		return;
	blk_defer_cancel(d);
	pthread_join(d->thread, NULL);
	pthread_mutex_lock(&lock);
	LIST_REMOVE(d, link);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	while ((w = TAILQ_FIRST(&d->queue))) {
		TAILQ_REMOVE(&d->queue, w, link);
		free(w);
	}
	free(d);
}

int blk_defer_start(struct blk_defer *d, uint64_t limit_bytes)
{
	bool was_on;

	if (limit_bytes < BLK_DEFER_MIN_BYTES)
		return -EINVAL;
	pthread_mutex_lock(&lock);
	was_on = d->on;
	if (!was_on)
		d->allowed = d->written = d->synced = 0;
	d->on = true;
	d->limit = limit_bytes;
	while (d->passing && !d->cancelled)
		pthread_cond_wait(&changed, &lock);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return was_on ? 0 : blk_file_flush(d->file);
}

int blk_defer_end(struct blk_defer *d)
{
	int err;

	pthread_mutex_lock(&lock);
	d->draining = true;
	if (!d->lost)
		d->error = 0; /* once more */
	pthread_cond_broadcast(&changed);
	while (d->bytes && !d->error && !d->cancelled)
		pthread_cond_wait(&changed, &lock);
	err = d->error ? -d->error : d->cancelled ? -ECANCELED : 0;
	d->draining = false;
	if (!err)
		d->on = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return err;
}

/* --- the guest's side ----------------------------------------------------------------------- */

static struct waiting *copy_of(const struct disk_change *change)
{
	size_t data = change->op == CONTROL_DISK_WRITE ? (size_t)change->length : 0;
	struct waiting *w = malloc(sizeof(*w) + data);

	if (!w)
		return NULL;
	w->position = NO_POSITION;
	w->offset = change->offset;
	w->length = change->length;
	w->op = change->op;
	memcpy(w->data, change->data ? change->data : w->data, data);
	return w;
}

int blk_defer_add(struct blk_defer *d, const struct disk_change *change)
{
	struct waiting *w = copy_of(change);
	int r;

	if (!w)
		return -ENOMEM;
	pthread_mutex_lock(&lock);
	while (!d->cancelled && (d->draining || (d->on && d->bytes + bytes_of(w) > d->limit)))
		pthread_cond_wait(&changed, &lock);
	r = d->cancelled ? -ECANCELED : d->on ? 0 : 1;
	d->passing = r == 1;
	if (!r) {
		TAILQ_INSERT_TAIL(&d->queue, w, link);
		d->bytes += bytes_of(w);
	}
	pthread_mutex_unlock(&lock);
	if (r)
		free(w);
	return r;
}

void blk_defer_passed(struct blk_defer *d)
{
	pthread_mutex_lock(&lock);
	d->passing = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void blk_defer_stamp(struct blk_defer *d, uint64_t position)
{
	struct waiting *w;

	pthread_mutex_lock(&lock);
	w = TAILQ_LAST(&d->queue, waiting_queue);
	if (w && w->position == NO_POSITION)
		w->position = position;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* What `w` changes of the range that starts at `offset`. */
static void overlay(const struct waiting *w, uint64_t offset, uint8_t *ret, size_t len)
{
	uint64_t from = MAX(w->offset, offset);
	uint64_t to = MIN(w->offset + w->length, offset + len);

	if (w->op == CONTROL_DISK_FLUSH || from >= to)
		return;
	if (w->op == CONTROL_DISK_WRITE)
		memcpy(ret + (from - offset), w->data + (from - w->offset), (size_t)(to - from));
	else
		memset(ret + (from - offset), 0, (size_t)(to - from));
}

int blk_defer_read(struct blk_defer *d, uint64_t offset, void *ret, size_t len)
{
	const struct waiting *w;
	int err;

	pthread_mutex_lock(&lock);
	if (TAILQ_EMPTY(&d->queue)) {
		pthread_mutex_unlock(&lock);
		return blk_file_read(d->file, offset, ret, len);
	}
	d->reading = true;
	pthread_mutex_unlock(&lock);
	err = blk_file_read(d->file, offset, ret, len);
	pthread_mutex_lock(&lock);
	if (!err) {
		TAILQ_FOREACH(w, &d->queue, link)
		overlay(w, offset, ret, len);
	}
	d->reading = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return err;
}

void blk_defer_settle(struct blk_defer *d, uint64_t position)
{
	pthread_mutex_lock(&lock);
	d->allowed = MAX(d->allowed, position);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void blk_defer_stats(struct blk_defer *d, struct blk_defer_stats *ret)
{
	const struct waiting *oldest;

	pthread_mutex_lock(&lock);
	oldest = TAILQ_FIRST(&d->queue);
	*ret = (struct blk_defer_stats){
		.settled = d->allowed,
		.waiting_bytes = d->bytes,
		.error = d->error,
	};
	/* One that is not stamped yet lies beyond all that was allowed. */
	if (d->unsynced_bytes || (oldest && oldest->position <= d->allowed))
		ret->settled = d->synced;
	pthread_mutex_unlock(&lock);
}
