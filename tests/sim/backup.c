/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: the receiving half. An epoch arrives in parts; it is whole with the last of them and
 * acknowledged only then (P1); a takeover runs the last whole one and nothing of the one that
 * is arriving (P2).
 */
#include "tests/sim/sim.h"

int backup_part(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_EPOCH_WHOLE,
				 .generation = m->generation,
				 .epoch = m->epoch };
	unsigned int last = w->mutation == MUTATE_ACK_PARTIAL ? 0 : SIM_PARTS - 1;

	h->parts[m->part] = (struct snapshot){
		.epoch = m->epoch, .n = m->n, .state = m->state, .instance = m->instance
	};
	return m->part == last ? engine_role(w, h, &ev) : 0;
}

void backup_drop(struct host *h)
{
	memset(h->parts, 0, sizeof(h->parts));
	memset(h->whole, 0, sizeof(h->whole));
}

static void taken_over(struct world *w, struct host *h, const struct message *m)
{
	struct role_event done = { .kind = ROLE_EV_TAKEN_OVER };
	struct role_event failed = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR };

	if (h->role.state != ROLE_TAKING_OVER)
		return;
	if (m->n) {
		engine_role(w, h, &failed);
		return;
	}
	check_takeover(w, h->whole);
	w->nr_takeovers++;
	guest_start(w, h, &h->whole[0]);
	engine_role(w, h, &done);
}

void backup_take_over(struct world *w, struct host *h)
{
	struct sim_event ev = { .fn = taken_over, .host = h->id, .of_process = true };

	if (w->mutation == MUTATE_COMMIT_PARTIAL)
		memcpy(h->whole, h->parts, sizeof(h->whole));
	ev.m.n = world_chance(w, 10) && !w->faults_end; /* and is tried again */
	world_after(w, NS_PER_MS + world_random(w, 20 * NS_PER_MS), &ev);
}
