/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of lanes: they are opened in order, so that of those closed the oldest follows the
 * open one. Let go of out of order they would let frames overtake one another.
 */
#include "netbuf/lanes.h"

#include "base/err.h"

static unsigned int after(unsigned int i, unsigned int steps)
{
	return (i + steps) % LANES;
}

void lanes_begin(struct lanes *l, unsigned int open, unsigned int used, uint64_t now_ns)
{
	assert(open < LANES);
	*l = (struct lanes){ .open = open };
	for (unsigned int i = 0; i < LANES; i++) {
		l->lane[i].state = used >> i & 1 ? LANE_CLOSED : LANE_FREE;
		l->lane[i].opened_ns = now_ns;
	}
	l->lane[open].state = LANE_OPEN;
}

unsigned int lanes_next(const struct lanes *l)
{
	unsigned int next = after(l->open, 1);

	return l->lane[next].state == LANE_FREE ? next : LANE_NONE;
}

int lanes_mark(struct lanes *l, uint64_t epoch, unsigned int next, uint64_t now_ns)
{
	if (!epoch || epoch <= l->last_epoch)
		return -EINVAL;
	l->last_epoch = epoch;
	for (unsigned int i = 0; i < LANES; i++)
		if (l->lane[i].state == LANE_CLOSED && !l->lane[i].epoch)
			l->lane[i].epoch = epoch;
	if (next == LANE_NONE)
		return 0;
	assert(next == lanes_next(l));
	l->lane[l->open].state = LANE_CLOSED;
	l->lane[l->open].epoch = epoch;
	l->lane[next] = (struct lane){ .state = LANE_OPEN, .opened_ns = now_ns };
	l->open = next;
	return 0;
}

unsigned int lanes_due(const struct lanes *l, uint64_t epoch)
{
	for (unsigned int n = 1; n < LANES; n++) {
		const struct lane *lane = &l->lane[after(l->open, n)];

		if (lane->state != LANE_CLOSED)
			continue;
		return lane->epoch && lane->epoch <= epoch ? after(l->open, n) : LANE_NONE;
	}
	return LANE_NONE;
}

void lanes_let_go(struct lanes *l, unsigned int i)
{
	assert(i < LANES && l->lane[i].state == LANE_CLOSED);
	l->lane[i].state = LANE_DRAINING;
}

void lanes_free(struct lanes *l, unsigned int i)
{
	assert(i < LANES && l->lane[i].state == LANE_DRAINING);
	l->lane[i] = (struct lane){ .state = LANE_FREE };
}
