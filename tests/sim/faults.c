/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: what goes wrong, drawn from the seed. A quarter of the seeds has exactly one fault:
 * then the VM must survive it. The others have several at once: then the promises must hold,
 * and what is left must come back to work.
 */
#include "tests/sim/sim.h"

static void return_host(struct world *w, struct host *h)
{
	if (h->alive)
		return;
	h->alive = true;
	h->frozen_until = 0;
	world_trace(w, "%c returns", 'A' + h->id);
	/* Its VM died with it. What the record says decides whom it may serve. */
	if (h->has_record && h->disk.role == RECORD_BACKUP)
		engine_start(w, h, PROC_BACKUP, h->id ? "a" : "b");
	control_watch(w, h);
}

/* The host's power. A write under way is done or not. */
void fault_kill_host(struct world *w, struct host *h)
{
	if (!h->alive)
		return;
	world_trace(w, "%c loses power", 'A' + h->id);
	if (h->process == PROC_NONE || role_may_run_solo(&h->role) ||
	    h->role.state == ROLE_ARMING || h->role.state == ROLE_TAKING_OVER)
		w->lost_allowed = true;
	if (h->process != PROC_NONE && h->role.pending && world_chance(w, 2) &&
	    w->mutation != MUTATE_NO_PERSIST) {
		h->disk = h->role.own;
		h->has_record = true;
	}
	h->alive = false;
	h->boot++;
	h->incarnation++;
	h->process = PROC_NONE;
	h->conn = 0;
	guest_drop(h);
	backup_drop(h);
}

/* pollux-ha alone: the VM and its held output stay. What it was writing may be written. */
static void kill_engine(struct world *w, struct host *h)
{
	if (h->process == PROC_NONE)
		return;
	world_trace(w, "%c's engine crashes", 'A' + h->id);
	if (h->role.state == ROLE_TAKING_OVER)
		w->lost_allowed = true;
	if (h->role.pending && world_chance(w, 2) && w->mutation != MUTATE_NO_PERSIST) {
		h->disk = h->role.own;
		h->has_record = true;
	}
	engine_end(w, h);
	if (h->has_record && h->disk.role == RECORD_BACKUP && !h->guest.exists)
		engine_start(w, h, PROC_BACKUP, h->id ? "a" : "b");
}

static void reset_link(struct world *w)
{
	world_trace(w, "connections break");
	for (int i = 0; i < 2; i++) {
		struct role_event ev = { .kind = ROLE_EV_DISCONNECTED };

		if (!w->hosts[i].conn || !w->hosts[i].alive)
			continue;
		w->hosts[i].conn = 0;
		engine_role(w, &w->hosts[i], &ev);
	}
}

static void cut(struct world *w, unsigned int directions)
{
	uint64_t until = w->now + world_random(w, 600 * NS_PER_MS);

	world_trace(w, "link cut (%u) until %lu ms", directions,
		    (unsigned long)(until / NS_PER_MS));
	for (unsigned int i = 0; i < 2; i++)
		if (directions & 1u << i)
			w->down_until[i] = MAX(w->down_until[i], until);
}

static void freeze(struct world *w, struct host *h)
{
	uint64_t until = w->now + world_random(w, 500 * NS_PER_MS);

	h->frozen_until = MAX(h->frozen_until, until);
	world_trace(w, "%c freezes until %lu ms", 'A' + h->id,
		    (unsigned long)(h->frozen_until / NS_PER_MS));
}

static void fail_disk(struct world *w, struct host *h)
{
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_NO_SPACE };

	world_trace(w, "%c's disk fails", 'A' + h->id);
	h->disk_fails_until = w->now + world_random(w, 500 * NS_PER_MS);
	if (world_chance(w, 2) && h->role.state != ROLE_TAKING_OVER)
		engine_role(w, h, &ev);
}

/* An operator forces only after making sure that the other host is dead and took nothing
 * over. */
static void command(struct world *w, struct host *h)
{
	static const enum role_event_kind kinds[] = {
		ROLE_EV_OP_FAILOVER,
		ROLE_EV_OP_UNPROTECT,
		ROLE_EV_OP_UNPROTECT_FORCE,
	};
	struct role_event ev = { .kind = kinds[world_random(w, ARRAY_SIZE(kinds))] };
	struct host *peer = host_peer(w, h);

	if (ev.kind == ROLE_EV_OP_UNPROTECT_FORCE &&
	    (peer->alive || h->guest.instance != w->newest_instance ||
	     (peer->has_record && peer->disk.role == RECORD_ACTIVE)))
		return;
	if (!engine_role(w, h, &ev))
		world_trace(w, "%c: command %d", 'A' + h->id, (int)ev.kind);
}

/* No fault, but what follows may come in the middle of it. */
static void switch_over(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		struct host *h = &w->hosts[i];
		struct role_event ev = {
			.kind = ROLE_EV_OP_SWITCHOVER,
			.until_ns = host_now(w, h) + world_random(w, 300 * NS_PER_MS),
		};

		if (h->alive && !engine_role(w, h, &ev))
			world_trace(w, "%c: switchover", 'A' + h->id);
	}
}

static void revive(struct world *w, struct host *h, const struct message *m)
{
	(void)h;
	return_host(w, &w->hosts[m->n]);
}

static void inject(struct world *w)
{
	struct host *h = &w->hosts[world_random(w, 2)];
	struct sim_event back = { .fn = revive, .host = -1, .m.n = (uint64_t)h->id };

	w->nr_faults++;
	switch (world_random(w, 12)) {
	case 0:
		fault_kill_host(w, h);
		world_after(w, 50 * NS_PER_MS + world_random(w, 800 * NS_PER_MS), &back);
		break;
	case 1:
		kill_engine(w, h);
		break;
	case 2:
		reset_link(w);
		break;
	case 3:
		cut(w, 3);
		break;
	case 4:
		cut(w, 1u << h->id);
		break;
	case 5:
	case 6:
		freeze(w, h);
		break;
	case 7:
		w->slow_until = w->now + world_random(w, 500 * NS_PER_MS);
		break;
	case 8:
		fail_disk(w, h);
		break;
	case 9:
		command(w, h);
		break;
	case 10:
	case 11:
		switch_over(w);
		break;
	}
}

static void fault(struct world *w, struct host *h, const struct message *m)
{
	struct sim_event again = { .fn = fault, .host = -1 };

	(void)h;
	(void)m;
	if (w->faults_end)
		return;
	inject(w);
	if (w->seed % 4 == 0)
		return;
	w->lost_allowed = true;
	/* In bursts: the second fault while the first is being dealt with is the hard one. */
	world_after(w, world_random(w, (world_chance(w, 2) ? 40 : 900) * NS_PER_MS), &again);
}

void faults_begin(struct world *w)
{
	struct sim_event first = { .fn = fault, .host = -1 };

	world_after(w, 600 * NS_PER_MS + world_random(w, NS_PER_S), &first);
}
