/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: the clock, the event queue (a heap by time, then by order of arrival) and the random
 * numbers. Nothing here knows what a VM is.
 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>

#define QUEUE_MAX 65536u

struct entry {
	uint64_t at, order;
	uint64_t boot, incarnation;
	struct sim_event ev;
};

struct queue {
	struct entry *heap[QUEUE_MAX];
	size_t nr;
	uint64_t orders;
};

/* splitmix64 */
static uint64_t random_next(struct world *w)
{
	uint64_t z = (w->rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t world_random(struct world *w, uint64_t below)
{
	return random_next(w) % below;
}

bool world_chance(struct world *w, uint64_t one_in)
{
	return world_random(w, one_in) == 0;
}

/* Hosts agree neither on the time nor quite on its speed. */
uint64_t host_now(const struct world *w, const struct host *h)
{
	return h->clock_offset + w->now + (uint64_t)((int64_t)w->now / 1000000 * h->clock_ppm);
}

struct host *host_peer(struct world *w, const struct host *h)
{
	return &w->hosts[1 - h->id];
}

void world_trace(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (!w->trace)
		return;
	printf("%10.3f ms  ", (double)w->now / 1e6);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static bool before(const struct entry *a, const struct entry *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void push(struct queue *q, struct entry *e)
{
	size_t i = q->nr++;

	assert(q->nr < QUEUE_MAX);
	while (i && before(e, q->heap[(i - 1) / 2])) {
		q->heap[i] = q->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	q->heap[i] = e;
}

static struct entry *pop(struct queue *q)
{
	struct entry *top = q->heap[0], *tail = q->heap[--q->nr];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < q->nr) {
		if (child + 1 < q->nr && before(q->heap[child + 1], q->heap[child]))
			child++;
		if (!before(q->heap[child], tail))
			break;
		q->heap[i] = q->heap[child];
		i = child;
	}
	q->heap[i] = tail;
	return top;
}

void world_after(struct world *w, uint64_t delay, const struct sim_event *ev)
{
	struct entry *e = malloc(sizeof(*e));

	*e = (struct entry){ .at = w->now + delay, .order = w->queue->orders++, .ev = *ev };
	if (ev->host >= 0) {
		e->boot = w->hosts[ev->host].boot;
		e->incarnation = w->hosts[ev->host].incarnation;
	}
	push(w->queue, e);
}

/* Later, in the same order: what waits for a thaw or a link keeps its place. */
static bool postponed(struct world *w, struct entry *e, uint64_t until)
{
	if (until <= w->now)
		return false;
	e->at = until;
	push(w->queue, e);
	return true;
}

static void deliver(struct world *w, struct entry *e)
{
	struct host *h = e->ev.host < 0 ? NULL : &w->hosts[e->ev.host];

	if (h && e->ev.keeps_lane && postponed(w, e, w->down_until[e->ev.m.from]))
		return;
	if (h && h->alive && postponed(w, e, h->frozen_until))
		return;
	/* A message reaches whoever lives there now; anything else only whom it was meant for. */
	if (!h ||
	    (h->alive && (e->ev.keeps_lane || e->ev.m.lane == LANE_CONTROL || e->boot == h->boot) &&
	     (!e->ev.of_process || e->incarnation == h->incarnation)))
		e->ev.fn(w, h, &e->ev.m);
	free(e);
}

void world_run(struct world *w, uint64_t until)
{
	while (w->queue->nr && w->queue->heap[0]->at <= until && !w->violation[0]) {
		struct entry *e = pop(w->queue);

		w->now = MAX(w->now, e->at);
		deliver(w, e);
		check_rights(w);
	}
	w->now = MAX(w->now, until);
}

void world_open(struct world *w, uint64_t seed, enum mutation mutation)
{
	struct queue *queue = w->queue ? w->queue : calloc(1, sizeof(*queue));
	bool trace = w->trace;

	while (queue->nr)
		free(pop(queue));
	queue->orders = 0;
	memset(w, 0, sizeof(*w));
	w->queue = queue;
	w->trace = trace;
	w->seed = w->rng = seed;
	w->mutation = mutation;
	w->now = NS_PER_S;
	for (int i = 0; i < 2; i++) {
		struct host *h = &w->hosts[i];

		h->id = i;
		h->alive = true;
		h->boot = 1;
		h->clock_offset = world_random(w, 1000) * NS_PER_S;
		h->clock_ppm = (int64_t)world_random(w, 401) - 200;
	}
}

void world_close(struct world *w)
{
	while (w->queue && w->queue->nr)
		free(pop(w->queue));
	free(w->queue);
	w->queue = NULL;
}
