/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the simulator over many seeds. SEED=N COUNT=N choose them; TRACE=1 tells the story of
 * each. A failing seed is printed with the command that shows it.
 */
#include <stdio.h>

#include "tests/sim/sim.h"

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

int main(void)
{
	uint64_t first = number("SEED", 1), count = number("COUNT", 3000);
	uint64_t faults = 0, takeovers = 0, handovers = 0, protections = 0, switchovers = 0;
	unsigned int failures = 0;
	static struct world w;

	setvbuf(stdout, NULL, _IOLBF, 0); /* an assertion must not swallow the story */

	w.trace = number("TRACE", 0);
	for (uint64_t seed = first; seed < first + count && failures < 10; seed++) {
		sim_run(&w, seed, MUTATE_NOTHING);
		faults += w.nr_faults;
		takeovers += w.nr_takeovers;
		handovers += w.nr_handovers;
		protections += w.nr_protected;
		switchovers += w.nr_switchovers;
		if (!w.violation[0])
			continue;
		failures++;
		printf("seed %lu: %s\n  SEED=%lu COUNT=1 TRACE=1 test_sim\n", (unsigned long)seed,
		       w.violation, (unsigned long)seed);
	}
	world_close(&w);
	printf("%lu seeds: %lu faults, %lu takeovers, %lu of them by switchover, %lu hand-overs, "
	       "%lu times protected; %u failures\n",
	       (unsigned long)count, (unsigned long)faults, (unsigned long)takeovers,
	       (unsigned long)switchovers, (unsigned long)handovers, (unsigned long)protections,
	       failures);
	/* A simulation in which nothing happens proves nothing. */
	if (count >= 100 &&
	    (takeovers < count / 20 || switchovers < count / 50 || protections < count / 2)) {
		printf("too little happened\n");
		return 1;
	}
	return failures != 0;
}
