/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: one seed from beginning to end: a VM on A is protected to B, things go wrong for a
 * few seconds, everything heals, and what is left must work.
 */
#include "tests/sim/sim.h"

static void heal(struct world *w)
{
	w->faults_end = true;
	w->slow_until = 0;
	for (int i = 0; i < 2; i++) {
		w->down_until[i] = MIN(w->down_until[i], w->now);
		w->hosts[i].frozen_until = MIN(w->hosts[i].frozen_until, w->now);
		w->hosts[i].disk_fails_until = 0;
	}
}

void sim_run(struct world *w, uint64_t seed, enum mutation mutation)
{
	const struct snapshot nothing = { 0 };

	world_open(w, seed, mutation);
	guest_start(w, &w->hosts[0], &nothing);
	control_watch(w, &w->hosts[0]);
	control_watch(w, &w->hosts[1]);
	faults_begin(w);
	world_run(w, w->now + 3 * NS_PER_S);
	heal(w);
	world_run(w, w->now + 4 * NS_PER_S);
	check_end(w);
}
