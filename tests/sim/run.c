/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: one seed from beginning to end: a VM on A is protected to B, things go wrong for a
 * few seconds, everything heals, and what is left must work.
 */
#include "tests/sim/sim.h"

void sim_run(struct world *w, uint64_t seed, enum mutation mutation)
{
	const struct snapshot nothing = { 0 };

	world_open(w, seed, mutation);
	guest_start(w, &w->hosts[0], &nothing);
	control_watch(w, &w->hosts[0]);
	control_watch(w, &w->hosts[1]);
	faults_begin(w);
	world_run(w, w->now + 3 * NS_PER_S);
	w->faults_end = true; /* those under way end by themselves */
	world_run(w, w->now + 4 * NS_PER_S);
	check_end(w);
}
