/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Breaks the protocol on purpose, one rule at a time, and expects the simulator's checks to
 * notice: a check that catches nothing is no check. COUNT bounds the seeds tried for each.
 */
#include <stdio.h>

#include "tests/sim/sim.h"

static const struct {
	enum mutation mutation;
	const char *name;
	const char *promise; /* what must be seen broken; a promise's number or NULL for any */
} mutations[] = {
	{ MUTATE_RELEASE_AT_SEND, "release when sent instead of when acknowledged", "P1" },
	{ MUTATE_FORGET_HOLD, "let output flow while the backup is being armed", "P" },
	{ MUTATE_STALE_RELEASE, "do a release of an earlier copy", "P1" },
	{ MUTATE_ACK_PARTIAL, "acknowledge an epoch before its last part", "P" },
	{ MUTATE_COMMIT_PARTIAL, "take over with a partial epoch", "P2" },
	{ MUTATE_NO_PERSIST, "use a generation before it is on disk", "P" },
	{ MUTATE_LOWER_GENERATION, "believe a hand-over of any generation", "P" },
	{ MUTATE_FORGET_RIGHT, "forget on restart who has the right", "P3" },
	{ MUTATE_NO_LEASE, "release after the lease", "P3" },
	{ MUTATE_ECHO_ALWAYS, "answer heartbeats while taking over", "P3" },
	{ MUTATE_LAST_IN_FLIGHT, "yield before the last epoch is acknowledged", "switchover" },
	{ MUTATE_LAST_RUNS_ON, "let the guest run on after its last epoch", "switchover" },
	{ MUTATE_ADMIT_WHEN_ACTIVE, "hand over although the VM runs here", "P" },
};

int main(void)
{
	const char *text = getenv("COUNT");
	uint64_t count = text ? strtoull(text, NULL, 0) : 20000;
	unsigned int missed = 0;
	static struct world w;

	setvbuf(stdout, NULL, _IOLBF, 0); /* an assertion must not swallow the story */

	for (size_t i = 0; i < ARRAY_SIZE(mutations); i++) {
		uint64_t seed = 1, tried = 0;

		do {
			sim_run(&w, seed++, mutations[i].mutation);
			tried++;
		} while (tried < count && strncmp(w.violation, mutations[i].promise,
						  strlen(mutations[i].promise)) != 0);
		if (tried == count) {
			missed++;
			printf("NOT CAUGHT in %lu seeds: %s\n", (unsigned long)tried,
			       mutations[i].name);
		} else {
			printf("caught at seed %5lu: %s: %s\n", (unsigned long)seed - 1,
			       mutations[i].name, w.violation);
		}
	}
	world_close(&w);
	return missed != 0;
}
