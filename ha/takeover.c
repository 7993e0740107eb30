/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takeover: the generation is raised on disk already (role.h), so from here on this host
 * alone may run the VM. The last whole epoch is committed, the partial one dropped (P2),
 * the disks let go, the state loaded; the VM's addresses are announced; it runs.
 */
#include "ha/backup.h"

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "disk-replica/apply.h"
#include "disk-replica/log.h"
#include "ha/assemble.h"
#include "ha/commit.h"
#include "ha/durable.h"
#include "ha/pending.h"
#include "ha/resync.h"
#include "hypervisor/control/control.h"
#include "netbuf/announce.h"

/* The VM's writes are counted from its first one on. A host that cannot runs it all the same. */
static void count_writes(struct engine *e)
{
	struct backup *b = e->side;
	struct reason why = { 0 };

	if (!b->nr_disks || !e->settings.disk_token[0])
		return;
	if (resync_count_here(b->control, e->settings.record_dir, &why))
		engine_event(e, "track-failed",
			     "writes are not counted, the next copy of the disks is a full one: %s",
			     why.text);
}

/* The disks are the VM's from here on. apply_finish() lets go of them in any case; what it may
 * have left is the marker. */
static int let_disks_go(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	struct apply *apply = b->apply;
	int r = 0;

	b->apply = NULL;
	durable_close(b->durable);
	b->durable = NULL;
	if (apply)
		r = apply_finish(apply, why);
	else if (b->marker_left)
		r = apply_marker_remove(e->settings.record_dir);
	b->marker_left = r != 0;
	return r;
}

/* There is no other copy to run instead. */
static void tell_lost(struct engine *e)
{
	struct backup *b = e->side;

	if (b->apply && apply_has_lost(b->apply))
		engine_event(e, "disks-doubtful",
			     "a flush of the standby's disks has failed here: something of what "
			     "was written to them may be missing; check the file systems");
}

/* Every epoch that was acknowledged, and nothing else. May be called again after an error. */
static int settle(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	struct reason sub = { "" };
	int r;

	if (b->settled)
		return 0;
	pending_drop_unsealed(b->pending);
	r = commit_finish(b->commit, &sub);
	if (r)
		return reason_set(why, -r, "an acknowledged epoch could not be committed: %.200s",
				  sub.text[0] ? sub.text : strerror(-r));
	if (b->log)
		disk_log_drop_partial(b->log);
	r = backup_drbd_take(e, why);
	tell_lost(e);
	if (!r)
		r = let_disks_go(e, why);
	b->settled = !r;
	return r;
}

/* Best effort: a neighbour that misses it learns from the guest's own frames. */
static void announce(struct backup *b, uint64_t now_ns)
{
	unsigned int frames = 0;
	int err = netbuf_announce(b->control, b->nr_nics, &frames);

	if (err)
		log_warning("event=announce frames=%u reason=\"%s\"", frames, strerror(-err));
	blackbox_record("announced", b->announced, frames);
	b->announced++;
	b->announced_ns = now_ns;
}

uint64_t backup_announce_tick(struct engine *e, uint64_t now_ns)
{
	struct backup *b = e->side;

	if (!b->announced || b->announced >= ANNOUNCE_NUM || e->role.state != ROLE_ACTIVE)
		return UINT64_MAX;
	if (now_ns >= b->announced_ns + ANNOUNCE_INTERVAL_NS)
		announce(b, now_ns);
	return b->announced_ns + ANNOUNCE_INTERVAL_NS;
}

void backup_announce_rest(struct engine *e)
{
	struct backup *b = e->side;

	if (b->announced && b->announced < ANNOUNCE_NUM && e->role.state == ROLE_ACTIVE)
		announce(b, clock_now_ns());
}

static int bring_to_life(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	int r = settle(e, why);

	blackbox_record("settled", (uint64_t)-r, 0);
	if (!r && fault_at("takeover.load"))
		r = reason_set(why, EIO, "fault point takeover.load");
	if (!r)
		r = b->platform.ops->standby_load(&b->platform, why);
	blackbox_record("loaded", (uint64_t)-r, 0);
	if (r)
		return r;
	count_writes(e);
	announce(b, clock_now_ns());
	return b->platform.ops->standby_run(&b->platform, why);
}

/* How long the guest stood still, from both hosts' spans (docs/protocol.md, YIELD). */
static void tell_pause(struct engine *e, uint64_t runs_ns)
{
	struct backup *b = e->side;

	if (!b->yield_acked_ns)
		return;
	e->stats.pause_max_ns = b->yield_acked_ns + runs_ns - b->acked_ns;
	e->stats.pause_min_ns = b->yield_still_ns + runs_ns - b->yield_ns;
	engine_event(e, "switchover", "the VM stood still for %.1f to %.1f ms",
		     (double)e->stats.pause_min_ns / 1e6, (double)e->stats.pause_max_ns / 1e6);
}

void backup_take_over(struct engine *e)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_TAKEN_OVER };
	struct reason why = { 0 };
	uint64_t decided = clock_now_ns();
	int r;

	e->stats.detect_ns = decided - e->role.heard_ns;
	backup_drop_link(e);
	r = bring_to_life(e, &why);
	e->stats.takeover_ns = clock_now_ns() - decided;
	e->stats.taken_over = !r;
	if (r) {
		ev.kind = ROLE_EV_LOCAL_FAILURE;
		ev.why = ROLE_WHY_LOCAL_ERROR;
		engine_event(e, "takeover-failed", "%s", why.text);
	} else {
		b->standby_gone = true;
		tell_pause(e, decided + e->stats.takeover_ns);
		engine_event(e, "takeover",
			     "epoch %llu runs here; silence of %llu ms, takeover in %llu ms",
			     (unsigned long long)e->role.acked,
			     (unsigned long long)(e->stats.detect_ns / NS_PER_MS),
			     (unsigned long long)(e->stats.takeover_ns / NS_PER_MS));
	}
	engine_feed(e, &ev);
	if (!r)
		backup_drbd_connect(e);
}
