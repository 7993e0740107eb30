/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/worker.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "tools/daemon/daemon.h"

/* Either a running thread or a name that is held: both are few, both live in one list. */
struct worker {
	struct worker *next;
	char name[TEXT_NAME_MAX + 1]; /* "" for a thread */
};

struct start {
	struct daemon *d;
	worker_fn *fn;
	void *arg;
};

static void *run(void *arg)
{
	struct start s = *(struct start *)arg;

	free(arg);
	s.fn(s.d, s.arg);
	daemon_lock(s.d);
	s.d->nr_workers--;
	pthread_cond_broadcast(&s.d->idle);
	daemon_unlock(s.d);
	return NULL;
}

static int start_thread(struct start *s)
{
	pthread_attr_t attr;
	pthread_t thread;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	e = pthread_create(&thread, &attr, run, s);
	pthread_attr_destroy(&attr);
	return -e;
}

int worker_run(struct daemon *d, worker_fn *fn, void *arg)
{
	struct start *s = malloc(sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	*s = (struct start){ d, fn, arg };
	daemon_lock(d);
	if (d->nr_workers >= WORKER_MAX || d->stopping)
		r = -EBUSY;
	else
		d->nr_workers++;
	daemon_unlock(d);
	if (r < 0) {
		free(s);
		return r;
	}
	r = start_thread(s);
	if (r < 0) {
		free(s);
		daemon_lock(d);
		d->nr_workers--;
		daemon_unlock(d);
	}
	return r;
}

static struct timespec to_timespec(uint64_t deadline_ns)
{
	/* pthread_cond_timedwait() knows no CLOCK_BOOTTIME: the rest, from now on. */
	uint64_t now = clock_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
	uint64_t at = clock_read_ns(CLOCK_MONOTONIC) + left;

	return (struct timespec){ (time_t)(at / NS_PER_S), (long)(at % NS_PER_S) };
}

void worker_join_all(struct daemon *d, uint64_t deadline_ns)
{
	struct timespec at = to_timespec(deadline_ns);

	daemon_lock(d);
	d->stopping = true;
	while (d->nr_workers && !pthread_cond_timedwait(&d->idle, &d->lock, &at))
		;
	daemon_unlock(d);
}

static struct worker **find_name(const struct daemon *d, const char *name)
{
	struct worker **at = (struct worker **)&d->workers;

	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	return at;
}

bool worker_name_taken(const struct daemon *d, const char *name)
{
	return *find_name(d, name) != NULL;
}

int worker_take_name(struct daemon *d, const char *name, uint64_t deadline_ns)
{
	struct timespec at = to_timespec(deadline_ns);
	struct worker *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w)
		return -ENOMEM;
	snprintf(w->name, sizeof(w->name), "%s", name);
	daemon_lock(d);
	while (!r && worker_name_taken(d, name))
		r = -pthread_cond_timedwait(&d->idle, &d->lock, &at);
	if (!r) {
		w->next = d->workers;
		d->workers = w;
		w = NULL;
	}
	daemon_unlock(d);
	free(w);
	return r;
}

void worker_drop_name(struct daemon *d, const char *name)
{
	struct worker **at, *w;

	daemon_lock(d);
	at = find_name(d, name);
	w = *at;
	if (w)
		*at = w->next;
	pthread_cond_broadcast(&d->idle);
	daemon_unlock(d);
	free(w);
}
