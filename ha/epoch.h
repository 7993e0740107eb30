/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When an epoch ends. Pure: no clock, socket, allocation or thread inside; the caller feeds
 * events with the time and does what the actions say (docs/architecture.md, "Follow an epoch").
 *
 * Epochs are numbered from 1 for each first copy. An epoch is *in flight* from its checkpoint
 * to its acknowledgement, and occupies a stage slot. With `max_in_flight` of them no checkpoint
 * begins: the present epoch grows, the guest is slowed, and at last paused: memory stays within
 * its bound (backpressure). Acknowledgements come in order and for what was sent; anything else
 * is a lying peer (P4).
 *
 * An epoch larger than a slot needs live rounds first, and then the next one has such a round
 * early, in the middle of its interval, until what its checkpoint finds would have fitted twice.
 *
 * A capture or a round that was asked for is always answered before START is fed again.
 *
 * Modes: remus, a checkpoint every `interval`; kemari, as soon as output waits but
 * `min_interval` after the last one, and at the latest after `interval`.
 */
#ifndef POLLUX_HA_EPOCH_H
#define POLLUX_HA_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#define EPOCH_MAX_IN_FLIGHT 16u
/* After so many live rounds the guest is stopped for the next: an epoch, of which the backup
 * holds every byte until it commits, is at most that many times the guest's memory, and once
 * more. */
#define EPOCH_MAX_ROUNDS 2u

enum epoch_mode { EPOCH_REMUS, EPOCH_KEMARI };

struct epoch_config {
	enum epoch_mode mode;
	uint64_t interval_ns;
	uint64_t min_interval_ns; /* at most interval_ns */
	uint32_t max_in_flight;	  /* 1 to EPOCH_MAX_IN_FLIGHT: the number of stage slots */
	uint64_t dirty_high;	  /* pages: end the epoch early; 0: never */
	uint64_t arena_pages;	  /* what a stage slot holds; more needs live rounds first */
	/* Percent of the hold queue or the disk ring, whatever epoch fills it: end the epoch
	 * early (after min_interval) / at once, or pause the guest when that cannot be. */
	uint32_t queue_high;
	uint32_t queue_full;
};

enum epoch_event_kind {
	EPOCH_EV_START, /* ROLE_DO_BEGIN_EPOCHS: the first checkpoint is due at once */
	/* ROLE_DO_END_EPOCHS: what is in flight is lost, no checkpoint begins any more; the guest
	 * is slowed and soon stopped, as if all slots were taken, until STOP or START. */
	EPOCH_EV_STALL,
	EPOCH_EV_STOP, /* ROLE_DO_RELEASE_ALL: no epochs; the guest runs at full speed */
	/* ROLE_DO_LAST_EPOCH: end with a checkpoint after which the guest stands still. An
	 * ordinary one comes first and is waited for, so that the last is small and travels
	 * alone. ROLE_DO_RUN_ON: it is not the last after all; as STALL, STOP and START imply. */
	EPOCH_EV_LAST,
	EPOCH_EV_RUN_ON,
	EPOCH_EV_TICK,	 /* the deadline, or just now and then */
	EPOCH_EV_OUTPUT, /* the guest's output waits to be released */
	EPOCH_EV_LOAD,	 /* `dirty`, `hold_percent`, `disk_percent`: as estimated now */
	/* The checkpoint asked for is taken: `now` is the boundary; `dirty`: its pages. */
	EPOCH_EV_CAPTURED,
	/* It did not fit the stage (`dirty`: what it was): the guest runs on, a round is due. */
	EPOCH_EV_TOO_LARGE,
	/* The live round asked for is sent; `dirty`: what has been dirtied meanwhile. */
	EPOCH_EV_ROUND_DONE,
	EPOCH_EV_SENT, /* the last frame of `epoch` is about to be handed to the link */
	EPOCH_EV_ACK,  /* the backup holds all of `epoch`, and of those before it */
	EPOCH_NR_EVENTS,
};

struct epoch_event {
	enum epoch_event_kind kind;
	uint64_t epoch;
	uint64_t dirty;
	uint32_t hold_percent;
	uint32_t disk_percent;
};

enum epoch_why {
	EPOCH_WHY_NONE,
	EPOCH_WHY_FIRST,
	EPOCH_WHY_INTERVAL,
	EPOCH_WHY_OUTPUT,
	EPOCH_WHY_DIRTY,
	EPOCH_WHY_HOLD_QUEUE,
	EPOCH_WHY_DISK_RING,
	EPOCH_WHY_LAST,
};

enum epoch_action {
	EPOCH_DO_CHECKPOINT = 1 << 0, /* end `epoch` now into stage slot `slot`; then CAPTURED */
	EPOCH_DO_ROUND = 1 << 1,      /* send dirty pages of `epoch` while it runs; ROUND_DONE */
	EPOCH_DO_THROTTLE = 1 << 2,   /* `throttle` changed */
	EPOCH_DO_PAUSE = 1 << 3,      /* stop the guest: nothing can take more of it */
	EPOCH_DO_RESUME = 1 << 4,     /* let it run again */
	EPOCH_DO_FREE = 1 << 5,	      /* slots of epochs up to `acked` are free; tell role_step() */
	EPOCH_DO_STAY = 1 << 6,	      /* with CHECKPOINT: the guest stays stopped after it */
	EPOCH_DO_RUN_ON = 1 << 7,     /* let the guest that STAY has left stopped run again */
};

struct epoch_actions {
	uint32_t set; /* of enum epoch_action */
	uint64_t epoch;
	uint32_t slot;
	enum epoch_why why;
	uint32_t throttle; /* percent of the guest's time to take away, 0 to 99 */
	uint64_t acked;
	uint64_t acked_captured_ns; /* boundary of `acked` */
	uint64_t deadline_ns;	    /* when the next TICK is due; UINT64_MAX: none */
};

struct epoch {
	struct epoch_config config;
	bool running;
	bool stalled;
	bool busy; /* a checkpoint or a round was asked for and is not done */
	bool output;
	bool paused;
	uint64_t last_from;   /* the last epoch is a later one than this; 0: none is the last */
	bool staying;	      /* the checkpoint asked for is the last */
	bool still;	      /* it is taken: the guest stands still after `captured` */
	uint64_t current;     /* number of the epoch that the guest runs in */
	uint64_t captured;    /* last one captured; 0: none */
	uint64_t sent;	      /* last one handed to the link */
	uint64_t acked;	      /* last one acknowledged */
	uint64_t started_ns;  /* boundary before `current` */
	uint64_t blocked_ns;  /* since when a checkpoint is due and may not begin; 0: not */
	uint64_t dirty;	      /* estimate for `current` */
	uint32_t rounds;      /* live rounds of `current` */
	uint64_t round_dirty; /* what the round in progress began with; 0: no round yet */
	bool early;	      /* a round is due when half of the interval has passed */
	bool began_early;     /* it was the first of `rounds` */
	uint32_t hold_percent;
	uint32_t disk_percent;
	uint32_t throttle;
	uint64_t boundary_ns[EPOCH_MAX_IN_FLIGHT];
};

/* -EINVAL: the configuration is out of its bounds. */
int epoch_open(struct epoch *ret, const struct epoch_config *config);

/* 0 or -EPROTO: an acknowledgement out of order, or of what was not sent (state unchanged).
 * `ret` is valid either way. */
int epoch_step(struct epoch *epoch, const struct epoch_event *ev, uint64_t now_ns,
	       struct epoch_actions *ret);

uint32_t epoch_in_flight(const struct epoch *epoch);
const char *epoch_why_name(enum epoch_why why);

#endif
