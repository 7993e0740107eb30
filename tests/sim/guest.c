/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: the guest and its held output. Each step of the guest depends on chance, so what it
 * emits after a boundary is not what a takeover from that boundary would emit: an output that
 * was let out too early contradicts a later one.
 */
#include "tests/sim/sim.h"

static void step(struct world *w, struct host *h, const struct message *m);

static void next_step(struct world *w, struct host *h)
{
	struct sim_event ev = { .fn = step, .host = h->id, .m.instance = h->guest.instance };

	world_after(w, 500 * NS_PER_US + world_random(w, 4 * NS_PER_MS), &ev);
}

static void report_load(struct world *w, struct host *h, bool held)
{
	struct epoch_event out = { .kind = EPOCH_EV_OUTPUT };
	struct epoch_event load = { .kind = EPOCH_EV_LOAD, .dirty = world_random(w, 1200) };

	load.hold_percent = h->guest.nr_held < 100 ? (uint32_t)h->guest.nr_held : 100;
	if (h->process != PROC_PRIMARY)
		return;
	if (held)
		engine_epoch(w, h, &out);
	if (world_chance(w, 8))
		engine_epoch(w, h, &load);
}

static void step(struct world *w, struct host *h, const struct message *m)
{
	struct guest *g = &h->guest;
	struct output out;

	if (!g->exists || g->instance != m->instance)
		return;
	next_step(w, h);
	if (g->paused || g->still || g->nr_held == SIM_HELD)
		return;
	g->n++;
	g->state = (g->state ^ world_random(w, UINT32_MAX)) * UINT64_C(0x100000001b3) | 1;
	out = (struct output){ .n = g->n, .state = g->state };
	if (g->hold)
		g->held[g->nr_held++] = out;
	else
		check_emit(w, h, &out);
	report_load(w, h, g->hold);
}

void guest_start(struct world *w, struct host *h, const struct snapshot *from)
{
	struct guest *g = &h->guest;

	g->exists = true;
	g->paused = g->hold = g->still = false;
	g->nr_held = 0;
	g->n = from->n;
	g->state = from->state;
	g->instance = ++w->newest_instance;
	memset(w->boundary, 0, sizeof(w->boundary));
	next_step(w, h);
}

void guest_drop(struct host *h)
{
	h->guest.exists = false;
	h->guest.nr_held = 0;
}

/* Marks the boundary of `epoch`: what is held so far belongs to it or to those before. */
void guest_mark(struct world *w, struct host *h, uint64_t epoch, struct snapshot *ret)
{
	struct guest *g = &h->guest;

	for (size_t i = 0; i < g->nr_held; i++)
		if (!g->held[i].epoch)
			g->held[i].epoch = epoch;
	*ret = (struct snapshot){
		.epoch = epoch, .n = g->n, .state = g->state, .instance = g->instance
	};
	w->boundary[epoch % ARRAY_SIZE(w->boundary)] = *ret;
}

void guest_release(struct world *w, struct host *h, uint64_t epoch)
{
	struct guest *g = &h->guest;
	size_t n = 0;

	while (n < g->nr_held && g->held[n].epoch && g->held[n].epoch <= epoch)
		check_emit(w, h, &g->held[n++]);
	memmove(g->held, g->held + n, (g->nr_held - n) * sizeof(g->held[0]));
	g->nr_held -= n;
}

/* Epochs are numbered anew: what is held belongs to the next boundary. */
void guest_forget_marks(struct host *h)
{
	for (size_t i = 0; i < h->guest.nr_held; i++)
		h->guest.held[i].epoch = 0;
}

void guest_release_all(struct world *w, struct host *h)
{
	struct guest *g = &h->guest;

	for (size_t i = 0; i < g->nr_held; i++)
		check_emit(w, h, &g->held[i]);
	g->nr_held = 0;
	g->hold = false;
	g->paused = false;
}
