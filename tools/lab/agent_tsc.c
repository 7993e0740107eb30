/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frequency of this machine's TSC, in kHz. An emulated processor reads the same counter, and
 * a kernel that boots there measures it against emulated timers: on a busy machine it may be wrong
 * by a factor, and all its clocks with it. So the lab says it to the node.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#include "tools/lab/agent.h"

#define TRIES	    1000
#define INTERVAL_NS 100000000

struct instant {
	uint64_t ns, ticks;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Both clocks at once: of many readings the one that nothing came between. */
static struct instant read_both(void)
{
	struct instant best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = now_ns(), ticks = __rdtsc(), took = now_ns() - before;

		if (took >= shortest)
			continue;
		shortest = took;
		best = (struct instant){ .ns = before + took / 2, .ticks = ticks };
	}
	return best;
}

int agent_tsc(void)
{
	const struct timespec interval = { .tv_nsec = INTERVAL_NS };
	struct instant from = read_both(), to;

	nanosleep(&interval, NULL);
	to = read_both();
	printf("%llu\n", (unsigned long long)((double)(to.ticks - from.ticks) * 1e6 /
					      (double)(to.ns - from.ns)));
	return 0;
}
