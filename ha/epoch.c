/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoch.h: when an epoch ends, what is in flight, and how the guest is slowed when the link or
 * the backup cannot follow. Invariant: acked <= sent <= captured, captured - acked <= the
 * number of slots, and a checkpoint is asked for only while that is strictly less. Pure; one
 * caller at a time. Source: Remus' pipeline of checkpoints, Kemari's event-driven epochs.
 */
#include "ha/epoch.h"

#include <string.h>

#include "base/err.h"

#define THROTTLE_MAX  99u
#define THROTTLE_STEP 10u
#define STALL_STEPS   10u /* intervals without a backup until the guest is stopped */

int epoch_open(struct epoch *ret, const struct epoch_config *config)
{
	if (!config->interval_ns || config->min_interval_ns > config->interval_ns ||
	    config->max_in_flight < 1 || config->max_in_flight > EPOCH_MAX_IN_FLIGHT ||
	    !config->arena_pages || config->queue_high > 100 || config->queue_full > 100 ||
	    config->queue_high > config->queue_full ||
	    (config->mode != EPOCH_REMUS && config->mode != EPOCH_KEMARI))
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	ret->config = *config;
	return 0;
}

uint32_t epoch_in_flight(const struct epoch *epoch)
{
	return (uint32_t)(epoch->captured - epoch->acked);
}

/* The last checkpoint waits until nothing is in flight. */
static bool drains(const struct epoch *epoch)
{
	return epoch->last_from && epoch->captured >= epoch->last_from && epoch_in_flight(epoch);
}

static bool slots_full(const struct epoch *epoch)
{
	return epoch->stalled || drains(epoch) ||
	       epoch_in_flight(epoch) >= epoch->config.max_in_flight;
}

/*
 * The epoch before was larger than a slot, which was found when the guest stood still already: on
 * Xen its suspend was for nothing. So half of this one goes while the guest runs, and it fits.
 */
static bool early_waits(const struct epoch *epoch)
{
	return epoch->early && !epoch->rounds && !epoch->last_from && !slots_full(epoch);
}

static uint64_t early_ns(const struct epoch *epoch)
{
	return epoch->started_ns + epoch->config.interval_ns / 2;
}

/* When the epoch ends at the latest, as things stand. */
static uint64_t due_ns(const struct epoch *epoch)
{
	const struct epoch_config *c = &epoch->config;

	if (c->mode == EPOCH_KEMARI && epoch->output)
		return epoch->started_ns + c->min_interval_ns;
	return epoch->started_ns + c->interval_ns;
}

static bool reached(const struct epoch *epoch, uint32_t percent)
{
	return percent && (epoch->hold_percent >= percent || epoch->disk_percent >= percent);
}

/* A queue that would overflow does not wait for min_interval: sch_plug drops beyond its
 * limit. One that is merely high does, since what fills it may be epochs in flight. */
static enum epoch_why why_now(const struct epoch *epoch, uint64_t now_ns)
{
	const struct epoch_config *c = &epoch->config;
	uint64_t age = now_ns - epoch->started_ns;

	if (!epoch->captured)
		return EPOCH_WHY_FIRST;
	if (epoch->last_from)
		return EPOCH_WHY_LAST;
	if (reached(epoch, c->queue_full) ||
	    (reached(epoch, c->queue_high) && age >= c->min_interval_ns))
		return epoch->hold_percent >= epoch->disk_percent ? EPOCH_WHY_HOLD_QUEUE
								  : EPOCH_WHY_DISK_RING;
	if (age >= c->interval_ns)
		return EPOCH_WHY_INTERVAL;
	if (age < c->min_interval_ns)
		return EPOCH_WHY_NONE;
	if (c->mode == EPOCH_KEMARI && epoch->output)
		return EPOCH_WHY_OUTPUT;
	if (c->dirty_high && epoch->dirty >= c->dirty_high)
		return EPOCH_WHY_DIRTY;
	return EPOCH_WHY_NONE;
}

static void set_throttle(struct epoch *epoch, uint32_t percent, struct epoch_actions *ret)
{
	percent = MIN(percent, THROTTLE_MAX);
	if (percent == epoch->throttle)
		return;
	epoch->throttle = percent;
	ret->set |= EPOCH_DO_THROTTLE;
}

static void set_paused(struct epoch *epoch, bool paused, struct epoch_actions *ret)
{
	if (paused == epoch->paused)
		return;
	epoch->paused = paused;
	ret->set |= paused ? EPOCH_DO_PAUSE : EPOCH_DO_RESUME;
}

/* A checkpoint is due and all slots are taken: slow the guest by a step each interval, and
 * stop it when what it would produce has nowhere to go. */
static void hold_back(struct epoch *epoch, uint64_t now_ns, struct epoch_actions *ret)
{
	const struct epoch_config *c = &epoch->config;
	uint64_t steps;

	if (!epoch->blocked_ns)
		epoch->blocked_ns = now_ns;
	steps = (now_ns - epoch->blocked_ns) / c->interval_ns;
	set_throttle(
		epoch,
		MAX(epoch->throttle, (uint32_t)MIN(steps, (uint64_t)THROTTLE_MAX) * THROTTLE_STEP),
		ret);
	if (epoch->dirty > c->arena_pages || reached(epoch, c->queue_full) ||
	    (epoch->stalled && steps >= STALL_STEPS))
		set_paused(epoch, true, ret);
}

static void ask_round(struct epoch *epoch, struct epoch_actions *ret)
{
	epoch->rounds++;
	epoch->busy = true;
	ret->set |= EPOCH_DO_ROUND;
	ret->epoch = epoch->current;
}

/* More is dirty than a slot holds: send some of it while the guest runs. A round after which
 * no less is dirty did not converge: slow the guest. A third is sent while it is stopped. */
static void begin_round(struct epoch *epoch, struct epoch_actions *ret)
{
	if (epoch->round_dirty && epoch->dirty >= epoch->round_dirty - epoch->round_dirty / 4)
		set_throttle(epoch, epoch->throttle + 2 * THROTTLE_STEP, ret);
	if (epoch->rounds >= EPOCH_MAX_ROUNDS)
		set_paused(epoch, true, ret);
	epoch->round_dirty = epoch->dirty;
	ask_round(epoch, ret);
}

static void decide(struct epoch *epoch, uint64_t now_ns, struct epoch_actions *ret)
{
	enum epoch_why why;

	if (!epoch->running || epoch->busy || epoch->still)
		return;
	why = why_now(epoch, now_ns);
	if (why == EPOCH_WHY_NONE && epoch->dirty <= epoch->config.arena_pages) {
		if (early_waits(epoch) && now_ns >= early_ns(epoch)) {
			epoch->began_early = true;
			ask_round(epoch, ret);
		}
		return;
	}
	if (slots_full(epoch)) {
		hold_back(epoch, now_ns, ret);
		return;
	}
	if (epoch->dirty > epoch->config.arena_pages) {
		begin_round(epoch, ret);
		return;
	}
	epoch->busy = true;
	epoch->staying = epoch->last_from && epoch->captured >= epoch->last_from;
	ret->set |= EPOCH_DO_CHECKPOINT | (epoch->staying ? EPOCH_DO_STAY : 0);
	ret->epoch = epoch->current;
	ret->slot = (uint32_t)(epoch->current % epoch->config.max_in_flight);
	ret->why = why;
}

static uint64_t deadline(const struct epoch *epoch, uint64_t now_ns)
{
	uint64_t due = due_ns(epoch), step;

	if (!epoch->running || epoch->busy || epoch->still)
		return UINT64_MAX;
	if (early_waits(epoch))
		due = MIN(due, early_ns(epoch));
	if (!epoch->blocked_ns)
		return MAX(due, now_ns);
	step = (now_ns - epoch->blocked_ns) / epoch->config.interval_ns + 1;
	return epoch->blocked_ns + step * epoch->config.interval_ns;
}

/* Not the last: the guest runs again, if it stands still for that; one whose last checkpoint
 * is under way is let go when that is done. */
static void run_on(struct epoch *epoch, struct epoch_actions *ret)
{
	epoch->last_from = 0;
	if (epoch->still)
		ret->set |= EPOCH_DO_RUN_ON;
	epoch->still = false;
}

/* The checkpoint that was to be the last is taken, and has left the guest stopped. */
static void stay(struct epoch *epoch, struct epoch_actions *ret)
{
	if (!epoch->staying)
		return;
	epoch->staying = false;
	epoch->still = true;
	if (!epoch->running || epoch->stalled || !epoch->last_from)
		run_on(epoch, ret);
}

/* With the right to run alone, the guest is neither slowed nor stopped. */
static void stop(struct epoch *epoch, struct epoch_actions *ret)
{
	epoch->running = false;
	epoch->stalled = false;
	epoch->busy = false;
	run_on(epoch, ret);
	set_throttle(epoch, 0, ret);
	set_paused(epoch, false, ret);
}

static void start(struct epoch *epoch, uint64_t now_ns, struct epoch_actions *ret)
{
	struct epoch_config config = epoch->config;

	stop(epoch, ret);
	memset(epoch, 0, sizeof(*epoch));
	epoch->config = config;
	epoch->running = true;
	epoch->current = 1;
	epoch->started_ns = now_ns;
}

/* The brake is taken off by half at each checkpoint that did not have to wait. */
static void captured(struct epoch *epoch, uint64_t pages, uint64_t now_ns,
		     struct epoch_actions *ret)
{
	bool overflowed = epoch->rounds > epoch->began_early;

	if (epoch->stalled)
		return; /* asked for before the link was lost; goes nowhere */
	assert(epoch->busy && !slots_full(epoch));
	epoch->boundary_ns[epoch->current % EPOCH_MAX_IN_FLIGHT] = now_ns;
	epoch->captured = epoch->current++;
	epoch->busy = false;
	epoch->output = false;
	epoch->early = overflowed || (epoch->early && pages > epoch->config.arena_pages / 2);
	epoch->began_early = false;
	epoch->dirty = 0;
	epoch->round_dirty = 0;
	epoch->rounds = 0;
	epoch->hold_percent = 0;
	epoch->disk_percent = 0;
	epoch->started_ns = now_ns;
	if (!epoch->blocked_ns)
		set_throttle(epoch, epoch->throttle / 2, ret);
	epoch->blocked_ns = 0;
	set_paused(epoch, false, ret);
}

static int acknowledge(struct epoch *epoch, uint64_t n, struct epoch_actions *ret)
{
	if (epoch->stalled || n <= epoch->acked || n > epoch->sent)
		return -EPROTO;
	epoch->acked = n;
	ret->set |= EPOCH_DO_FREE;
	ret->acked_captured_ns = epoch->boundary_ns[n % EPOCH_MAX_IN_FLIGHT];
	return 0;
}

static void load(struct epoch *epoch, const struct epoch_event *ev)
{
	epoch->dirty = ev->dirty;
	epoch->hold_percent = ev->hold_percent;
	epoch->disk_percent = ev->disk_percent;
}

static int apply(struct epoch *epoch, const struct epoch_event *ev, uint64_t now_ns,
		 struct epoch_actions *ret)
{
	switch (ev->kind) {
	case EPOCH_EV_START:
		start(epoch, now_ns, ret);
		break;
	case EPOCH_EV_STALL:
		epoch->stalled = true;
		epoch->busy = false;
		run_on(epoch, ret);
		break;
	case EPOCH_EV_STOP:
		stop(epoch, ret);
		break;
	case EPOCH_EV_LAST:
		epoch->last_from = epoch->captured + 1;
		break;
	case EPOCH_EV_RUN_ON:
		run_on(epoch, ret);
		break;
	case EPOCH_EV_TICK:
	case EPOCH_NR_EVENTS:
		break;
	case EPOCH_EV_OUTPUT:
		epoch->output = true;
		break;
	case EPOCH_EV_LOAD:
		load(epoch, ev);
		break;
	case EPOCH_EV_CAPTURED:
		captured(epoch, ev->dirty, now_ns, ret);
		break;
	case EPOCH_EV_TOO_LARGE:
		/* The estimate was too low; believe what was found. */
		epoch->busy = false;
		epoch->staying = false;
		epoch->dirty = MAX(ev->dirty, epoch->config.arena_pages + 1);
		break;
	case EPOCH_EV_ROUND_DONE:
		epoch->busy = false;
		epoch->dirty = ev->dirty;
		break;
	case EPOCH_EV_SENT:
		if (epoch->stalled)
			break;
		assert(ev->epoch == epoch->sent + 1 && ev->epoch <= epoch->captured);
		epoch->sent = ev->epoch;
		break;
	case EPOCH_EV_ACK:
		return acknowledge(epoch, ev->epoch, ret);
	}
	return 0;
}

int epoch_step(struct epoch *epoch, const struct epoch_event *ev, uint64_t now_ns,
	       struct epoch_actions *ret)
{
	bool stopped = !epoch->running && ev->kind != EPOCH_EV_START;
	int r = 0;

	*ret = (struct epoch_actions){ .deadline_ns = UINT64_MAX };
	if (ev->kind == EPOCH_EV_CAPTURED)
		stay(epoch, ret);
	if (stopped && ev->kind == EPOCH_EV_ACK)
		r = -EPROTO;
	else if (!stopped)
		r = apply(epoch, ev, now_ns, ret);
	decide(epoch, now_ns, ret);
	ret->throttle = epoch->throttle;
	ret->acked = epoch->acked;
	ret->deadline_ns = deadline(epoch, now_ns);
	return r;
}

const char *epoch_why_name(enum epoch_why why)
{
	switch (why) {
	case EPOCH_WHY_NONE:
		return "none";
	case EPOCH_WHY_FIRST:
		return "first";
	case EPOCH_WHY_INTERVAL:
		return "interval";
	case EPOCH_WHY_OUTPUT:
		return "output";
	case EPOCH_WHY_DIRTY:
		return "dirty";
	case EPOCH_WHY_HOLD_QUEUE:
		return "hold-queue";
	case EPOCH_WHY_DISK_RING:
		return "disk-ring";
	case EPOCH_WHY_LAST:
		return "last";
	}
	return "unknown";
}
