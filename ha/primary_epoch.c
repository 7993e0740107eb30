/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs on the primary: what epoch.h decides, done. A checkpoint is taken here, on the
 * main thread, and handed to the sender; its acknowledgement comes back as a letter.
 */
#include "ha/primary.h"

#include <sys/epoll.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "disk-replica/log.h"
#include "disk-replica/mirror.h"
#include "ha/send.h"
#include "ha/track.h"
#include "netbuf/netbuf.h"

#define LOAD_EVERY_NS	   (25 * NS_PER_MS)
#define THROTTLE_PERIOD_NS (50 * NS_PER_MS)
#define LOOK_AT_STOP_NS	   (100 * NS_PER_MS) /* when its notice is lost, too */

static void fail(struct engine *e, const char *what, int err)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_LOCAL_ERROR };
	const char *trouble = p->platform.trouble.text;

	engine_event(e, "failed", "%s: %s", what, trouble[0] ? trouble : strerror(-err));
	p->platform.trouble.text[0] = 0;
	if (primary_look_at_vm(e))
		engine_feed(e, &ev);
}

static void checkpoint(struct engine *e, const struct epoch_actions *a)
{
	struct primary *p = e->side;
	struct stage_slot *slot = &p->stage.slot[a->slot];
	struct capture_steps steps = { 0 };
	struct epoch_event ev = { .kind = EPOCH_EV_CAPTURED, .epoch = a->epoch };
	uint64_t boundary_ns;
	int r;

	assert(p->sender && a->slot < p->stage.nr_slots);
	sender_cut(p->sender);
	p->capture.stay = a->set & EPOCH_DO_STAY;
	r = capture_epoch(&p->capture, a->epoch, &p->stage, slot, &steps);
	blackbox_record("capture", a->epoch, steps.pause);
	blackbox_record(".dirty", steps.stop, steps.dirty);
	blackbox_record(".copy", steps.state, steps.copy);
	if (!r) {
		p->position[a->epoch % EPOCH_MAX_IN_FLIGHT] = slot->disk_limit.at[0];
		sender_epoch(p->sender, slot);
		stats_pause(&e->stats, &steps);
		boundary_ns = slot->captured_ns;
	} else {
		sender_uncut(p->sender);
		e->stats.too_large += r == -E2BIG;
		ev.kind = EPOCH_EV_TOO_LARGE;
		boundary_ns = clock_now_ns();
	}
	if (r && r != -E2BIG) {
		fail(e,
		     r == -ESTALE ? "somebody else let the guest run within a checkpoint"
				  : "the checkpoint failed",
		     r);
		return;
	}
	ev.dirty = steps.nr_dirty;
	primary_epoch_feed(e, &ev, boundary_ns);
	if (!r && a->set & EPOCH_DO_STAY && p->epoch.still)
		primary_switch_still(e, a->epoch, boundary_ns - steps.stop, boundary_ns);
}

static void live_round(struct engine *e, uint64_t epoch)
{
	struct primary *p = e->side;
	uint64_t pages;
	int r = capture_round(&p->capture, &pages);

	if (r) {
		fail(e, "the dirty set cannot be taken", r);
		return;
	}
	blackbox_record("round", epoch, pages);
	p->round_pending = true;
	e->stats.live_rounds++;
	sender_round(p->sender, epoch);
}

/* Without a sender the round's answer is that nothing was sent. */
void primary_round_sent(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event ev = { .kind = EPOCH_EV_ROUND_DONE };

	if (!p->round_pending)
		return;
	p->round_pending = false;
	if (p->copying) {
		engine_wake_at(e, 0);
		return;
	}
	if (p->link && capture_peek(&p->capture, &ev.dirty))
		ev.dirty = 0;
	primary_epoch_feed(e, &ev, clock_now_ns());
}

/* At once: the engine may not live to the end of the period. */
static void end_throttle(struct primary *p)
{
	if (p->throttled)
		platform_unpause(&p->platform);
	p->throttled = false;
}

static void run_on(struct platform *p)
{
	platform_resume(p);
	platform_resumed(p);
}

int primary_epoch_feed(struct engine *e, const struct epoch_event *ev, uint64_t now_ns)
{
	struct primary *p = e->side;
	struct epoch_actions a;
	int r = epoch_step(&p->epoch, ev, now_ns, &a);

	p->epoch_next_ns = a.deadline_ns;
	if (a.set & EPOCH_DO_PAUSE)
		platform_pause(&p->platform);
	if (a.set & EPOCH_DO_RESUME)
		platform_unpause(&p->platform);
	if (a.set & EPOCH_DO_RUN_ON && !p->ended)
		run_on(&p->platform);
	if (a.set & EPOCH_DO_THROTTLE) {
		p->throttle_ns = now_ns;
		if (!a.throttle)
			end_throttle(p);
	}
	if (a.set & EPOCH_DO_CHECKPOINT) {
		p->due = a;
		engine_wake_at(e, 0);
	} else if (a.set & EPOCH_DO_ROUND) {
		live_round(e, a.epoch);
	}
	engine_wake_at(e, p->epoch_next_ns);
	return r;
}

/* The guest stands still, or does not: -EINPROGRESS, not yet. */
static int await_stop(struct engine *e, uint64_t epoch)
{
	struct primary *p = e->side;
	int r = 0;

	if (!p->platform.stopping) {
		if (p->track)
			track_cut(p->track, epoch);
		r = platform_ask_stop(&p->platform);
	}
	return r || !p->platform.stopping ? r : platform_stop(&p->platform);
}

/* What was asked for before epochs ended or stalled is void. */
void primary_checkpoint_due(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_actions a = p->due;
	int r;

	p->due = (struct epoch_actions){ 0 };
	if (!a.set || !p->sender || !p->epoch.busy || p->epoch.stalled ||
	    a.epoch != p->epoch.current)
		return;
	r = await_stop(e, a.epoch);
	if (!r)
		checkpoint(e, &a);
	else if (r == -EINPROGRESS)
		p->due = a;
	else
		fail(e, r == -ETIMEDOUT ? "the guest does not suspend" : "the guest is not stopped",
		     r);
}

/*
 * A guest that brings itself to a stop has done so. When no checkpoint waits for it any more, or
 * somebody else wanted it, it runs on.
 */
static void let_run_on(struct engine *e)
{
	struct primary *p = e->side;
	bool asked = p->platform.stopping;

	if (p->due.set || p->epoch.still || p->ended || platform_stop(&p->platform))
		return;
	if (!asked)
		engine_event(e, "suspended", "somebody else has suspended the guest: it runs on");
	run_on(&p->platform);
}

static int stop_ready(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	(void)source;
	(void)fd;
	(void)revents;
	primary_checkpoint_due(opaque);
	let_run_on(opaque);
	return 0;
}

int primary_acked(struct engine *e, uint64_t epoch, uint64_t digest)
{
	struct primary *p = e->side;
	uint64_t now = clock_now_ns(), before = p->epoch.acked;
	uint64_t before_ns = p->epoch.boundary_ns[before % EPOCH_MAX_IN_FLIGHT];
	struct epoch_event ev = { .kind = EPOCH_EV_ACK, .epoch = epoch };
	struct role_event acked = { .kind = ROLE_EV_ACK, .epoch = epoch };
	int r;

	blackbox_record("acked", epoch, 0);
	p->acked_ns = now;
	if (digest != p->digest[epoch % EPOCH_MAX_IN_FLIGHT])
		return -EPROTO;
	acked.captured_ns = p->epoch.boundary_ns[epoch % EPOCH_MAX_IN_FLIGHT];
	r = primary_epoch_feed(e, &ev, now);
	if (r)
		return r;
	e->stats.epochs_committed += epoch - before;
	if (before)
		hist_add(&e->stats.lag, now - before_ns);
	r = engine_feed(e, &acked);
	if (!r)
		primary_drbd_acked(e, epoch);
	return r == -ESTALE ? 0 : r;
}

/* Of the ring, or of what the present epoch may take of the backup's log. */
static uint32_t disk_percent(const struct engine *e)
{
	const struct primary *p = e->side;
	uint64_t ring = mirror_used(p->mirror) * 100 / mirror_size(p->mirror), log = 0;
	struct sender_progress now;

	if (p->sender) {
		sender_progress(p->sender, &now);
		if (now.open_epoch == p->epoch.current)
			log = now.log_bytes * 100 / DISK_LOG_OPEN(e->settings.disk_ring_bytes);
	}
	return (uint32_t)MAX(ring, log);
}

static void feed_load(struct engine *e, uint32_t hold_percent)
{
	struct primary *p = e->side;
	struct epoch_event ev = { .kind = EPOCH_EV_LOAD,
				  .hold_percent = hold_percent,
				  .dirty = p->epoch.dirty };

	if (p->mirror)
		ev.disk_percent = disk_percent(e);
	/* Only a guest that waits for a slot may outgrow it unseen. */
	if (p->epoch.blocked_ns)
		capture_peek(&p->capture, &ev.dirty);
	primary_epoch_feed(e, &ev, clock_now_ns());
}

void primary_output_waits(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event ev = { .kind = EPOCH_EV_OUTPUT };
	struct netbuf_stats s;

	if (!p->epoch.running)
		return;
	primary_epoch_feed(e, &ev, clock_now_ns());
	if (!netbuf_stats(p->netbuf, &s))
		feed_load(e, (uint32_t)MIN(s.held_bytes * 100 / p->held.limit_bytes, 100));
}

/* What was lost of the VM's output, and why it might not have been held, is never silent. */
void primary_look_at_output(struct engine *e)
{
	struct primary *p = e->side;
	struct netbuf_stats now;

	if (p->ended || netbuf_stats(p->netbuf, &now))
		return;
	if (now.dropped_frames > p->drops_told)
		engine_event(e, "output-dropped",
			     "%llu frames of the VM were dropped: more than %llu bytes waited",
			     (unsigned long long)(now.dropped_frames - p->drops_told),
			     (unsigned long long)p->held.limit_bytes);
	if (now.faults > p->faults_told)
		engine_event(e, "netbuf-repaired",
			     "what holds the VM's output had been removed or set down");
	p->drops_told = now.dropped_frames;
	p->faults_told = now.faults;
}

/* Takes `throttle` percent of the guest's time away, by stopping it in each period. */
static uint64_t throttle_tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;
	uint64_t stopped = THROTTLE_PERIOD_NS * p->epoch.throttle / 100;

	if (!p->epoch.throttle)
		return UINT64_MAX;
	if (now_ns < p->throttle_ns)
		return p->throttle_ns;
	if (p->throttled) {
		end_throttle(p);
		p->throttle_ns = now_ns + THROTTLE_PERIOD_NS - stopped;
	} else {
		p->throttled = !platform_pause(&p->platform);
		p->throttle_ns = now_ns + stopped;
	}
	return p->throttle_ns;
}

uint64_t primary_epoch_tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;
	struct epoch_event ev = { .kind = EPOCH_EV_TICK };
	uint64_t next;

	primary_checkpoint_due(e);
	if (p->platform.stopping)
		let_run_on(e);
	next = throttle_tick(e, now_ns);
	if (p->platform.stopping)
		next = MIN(next, now_ns + LOOK_AT_STOP_NS);
	if (!p->epoch.running)
		return next;
	if (now_ns >= p->checked_ns + LOAD_EVERY_NS) {
		p->checked_ns = now_ns;
		feed_load(e, p->epoch.hold_percent);
	} else if (now_ns >= p->epoch_next_ns) {
		primary_epoch_feed(e, &ev, now_ns);
	}
	primary_checkpoint_due(e);
	if (p->due.set && !p->platform.stopping)
		return now_ns;
	return MIN(next, MIN(p->epoch_next_ns, p->checked_ns + LOAD_EVERY_NS));
}

int primary_epoch_open(struct engine *e)
{
	struct primary *p = e->side;
	const struct settings *s = &e->settings;
	struct epoch_config config = {
		.mode = s->mode,
		.interval_ns = s->interval_ns,
		.min_interval_ns = s->min_interval_ns,
		.max_in_flight = s->max_in_flight,
		.arena_pages = p->stage.slot_pages,
		.queue_high = 50,
		.queue_full = 90,
	};

	p->epoch_next_ns = UINT64_MAX;
	if (p->platform.stop_fd >= 0) {
		int r = sd_event_add_io(e->loop, &p->stopped, p->platform.stop_fd, EPOLLIN,
					stop_ready, e);

		if (r < 0)
			return r;
	}
	return epoch_open(&p->epoch, &config);
}
