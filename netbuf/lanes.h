/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which lane holds which epochs' frames, for a netbuf that can only hold or let go of a
 * whole queue. Pure: no clock, no kernel inside.
 *
 * A lane is a queue. New frames go into the open one; a mark closes it for its epoch and opens
 * the next that is free. The kernel's sch_plug counts the frames of one finished epoch only,
 * counts them without a lock and keeps the count when its queue is emptied: with several
 * epochs in flight, or a link that goes down, it would let out what it should not. So no count
 * is used: a lane is let go of as a whole, once no frame enters it any more, and P1 rests on
 * which lane a frame is in.
 *
 * Without a free lane a mark changes nothing: the open lane's frames wait for a later epoch,
 * which is late and never early.
 */
#ifndef POLLUX_NETBUF_LANES_H
#define POLLUX_NETBUF_LANES_H

#include <stdbool.h>
#include <stdint.h>

#define LANES	  4u
#define LANE_NONE LANES

enum lane_state {
	LANE_FREE,     /* empty, and holding */
	LANE_OPEN,     /* frames enter it; exactly one */
	LANE_CLOSED,   /* waits for its epoch's acknowledgement */
	LANE_DRAINING, /* let go of, perhaps not yet empty */
};

struct lane {
	enum lane_state state;
	uint64_t epoch; /* closed: may go once this is acknowledged; 0: not known before a mark */
	uint64_t opened_ns;
};

struct lanes {
	struct lane lane[LANES];
	unsigned int open;
	uint64_t last_epoch; /* marked; 0: none */
};

/* Begins with `open` as the open lane. The lanes in `used` (bits) hold frames of an earlier
 * owner: they belong to the first epoch that is marked. */
void lanes_begin(struct lanes *l, unsigned int open, unsigned int used, uint64_t now_ns);

/* The lane that the next mark would open; LANE_NONE: none is free. */
unsigned int lanes_next(const struct lanes *l);

/* The boundary of `epoch`; `next` is open from now on, or LANE_NONE: nothing was turned.
 * -EINVAL: the epoch does not rise. */
int lanes_mark(struct lanes *l, uint64_t epoch, unsigned int next, uint64_t now_ns);

/* The oldest closed lane that may go when `epoch` is acknowledged, or LANE_NONE. */
unsigned int lanes_due(const struct lanes *l, uint64_t epoch);

/* `i` was let go of; `i` is empty and holds again. */
void lanes_let_go(struct lanes *l, unsigned int i);
void lanes_free(struct lanes *l, unsigned int i);

#endif
