/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that dirties memory at a steady pace: one page of 16 MiB each PACE ticks of the
 * processor's counter, with its count, in turn.
 */
#include "tests/kvm/bare.h"

#define MEMORY 0x200000u
#define PAGES  4096u
#define PACE   700000u /* some 0.3 ms */

static uint32_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low;
}

__attribute__((used)) static void run(void)
{
	uint32_t last = ticks();

	for (uint32_t count = 0;; count++) {
		*(volatile uint32_t *)(MEMORY + count % PAGES * 4096) = count;
		if (count % PAGES == 0)
			print_char('.');
		while (ticks() - last < PACE)
			__asm__ volatile("pause");
		last = ticks();
	}
}
