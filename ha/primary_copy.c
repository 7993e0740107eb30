/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a new link to the first epoch: mirror and first copy of the disks, all memory in
 * live rounds while the guest runs, until what is left fits a checkpoint. And the way
 * back: what is undone when the link goes.
 */
#include "ha/primary.h"

#include "base/clock.h"
#include "disk-replica/copy.h"
#include "disk-replica/log.h"
#include "disk-replica/mirror.h"
#include "ha/dial.h"
#include "ha/link.h"
#include "ha/offer.h"
#include "ha/send.h"
#include "ha/track.h"
#include "ha/verify.h"
#include "netbuf/netbuf.h"

/* After so many rounds the rest is epoch.h's, which slows the guest until it fits. */
#define ROUNDS_MAX   10u
#define COPY_LOOK_NS (50 * NS_PER_MS)

/* Anew: a server of a disk may have come back since. The VM has the disks that it had. */
static int find_sources(struct primary *p, struct reason *why)
{
	struct sources *now = calloc(1, sizeof(*now));
	int r = now ? sources_open(p->control, now, why) : -ENOMEM;

	if (!r) {
		sources_close(&p->sources);
		p->sources = *now;
	}
	free(now);
	return r;
}

/* A full copy of disks takes long: why it must be is said aloud. */
void primary_say_resync(struct engine *e)
{
	struct primary *p = e->side;
	const struct resync *r = &p->resync;

	if (!p->sources.nr_disks)
		return;
	if (r->partial)
		engine_event(e, "resync", "the disks are copied in part: what may differ");
	else
		engine_event(e, "full-resync", "the disks are copied in full: %s", r->reason);
}

/* Only what may differ. Rotated first: what is marked from here on was written after. */
static int choose_regions(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	struct region_sets sets;
	int r;

	e->stats.resync = (struct stats_resync){ .known = true, .partial = p->resync.partial };
	e->stats.resync.total_bytes = copy_total_bytes(p->copy);
	e->stats.resync.bytes = e->stats.resync.total_bytes;
	snprintf(e->stats.resync.reason, sizeof(e->stats.resync.reason), "%s", p->resync.reason);
	if (!p->resync.tracked)
		return 0;
	resync_rotate(&p->sources);
	r = resync_read_sets(&p->sources, &sets);
	if (r)
		return reason_set(why, -r, "the regions that may differ cannot be read: %s",
				  strerror(-r));
	copy_only(p->copy, &sets);
	e->stats.resync.bytes = copy_total_bytes(p->copy);
	return 0;
}

/* The mirror is on before anything of a disk is read: copy.h. */
static int open_disks(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	struct mirror_config config = { .sources = &p->sources,
					.ring_bytes = e->settings.disk_ring_bytes };
	int r;

	if (!primary_drbd_passes(e))
		return reason_set(why, EAGAIN, "changes of a disk on DRBD still wait");
	mirror_close(p->mirror);
	p->mirror = NULL;
	p->logging = true;
	if (!p->sources.nr_disks)
		return 0;
	r = find_sources(p, why);
	if (!r)
		r = mirror_open(&config, &p->mirror, why);
	if (!r)
		r = copy_open(p->sources.disks, p->sources.nr_disks, &p->copy, why);
	return r ? r : choose_regions(e, why);
}

/* Of its memory first, when that is offered; of either, when it is verified. */
static int answered(void *opaque, const struct message *m, struct refusal *why)
{
	struct primary *p = opaque;

	if (p->offer && (!p->verify || !verify_asks(p->verify)))
		return offer_answered(p->offer, m, why);
	if (p->verify && (m->type == PROTO_PAGES_LACKED || m->type == PROTO_DISK_DIFFERS))
		return verify_answered(p->verify, m, why);
	return refusal_set(why, PROTO_UNEXPECTED, "%s is not for this side",
			   proto_type_name(m->type));
}

static int open_link(struct engine *e, const struct dial_connected *c, struct reason *why)
{
	struct primary *p = e->side;
	struct sender_config sender = {
		.bulk = c->bulk,
		.mailbox = e->mailbox,
		.capture = &p->capture,
		.mirror = p->mirror,
		.copy = p->copy,
		.session = p->session,
		.generation = e->role.own.generation,
		.codec = (enum codec_id)c->welcome.codec,
		.delta = c->welcome.features & PROTO_FEATURE_DELTA,
		.cache_bytes = e->settings.delta_cache_bytes,
		.zeroed = c->welcome.features & PROTO_FEATURE_ZEROED,
		.copy_cap = e->settings.resync_cap,
		/* Who stops itself cannot while it waits for a disk: it is only asked sooner. */
		.log_limit_bytes =
			p->platform.stop_fd < 0 ? DISK_LOG_OPEN(e->settings.disk_ring_bytes) : 0,
	};
	struct link_config link = {
		.bulk = c->bulk,
		.heart = c->heart,
		.mailbox = e->mailbox,
		.session = p->session,
		.generation = e->role.own.generation,
	};
	int r = 0;

	p->durable_epoch = p->durable_ops = 0;
	p->track_failed = false;
	if (p->resync.tracked && p->sources.nr_disks && c->welcome.features & PROTO_FEATURE_DURABLE)
		r = track_open(e->settings.run_dir, &p->track);
	e->stats.memory_kept = c->welcome.features & PROTO_FEATURE_KEPT;
	if (!r && e->stats.memory_kept)
		r = offer_open(&p->platform, transport_session(c->bulk), p->capture.round,
			       &p->offer);
	if (!r && c->welcome.features & PROTO_FEATURE_VERIFY)
		r = primary_verify_open(e, transport_session(c->bulk));
	sender.offer = p->offer;
	sender.verify = p->verify;
	link.sink = answered;
	link.opaque = p;
	if (!r)
		r = link_open(&link, &p->link);
	if (!r)
		r = sender_open(&sender, &p->sender);
	return r ? reason_set(why, -r, "the link's threads: %s", strerror(-r)) : 0;
}

int primary_connected(struct engine *e)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_CONNECTED };
	struct dial_connected c;
	struct reason why = { 0 };
	int r;

	dial_take_connected(p->dial, &c);
	p->session++;
	e->settings.codec = (enum codec_id)c.welcome.codec;
	r = open_disks(e, &why);
	p->capture.mirror = p->mirror;
	if (!r)
		r = open_link(e, &c, &why);
	if (r && !p->link) {
		transport_close(c.bulk);
		transport_close(c.heart);
	}
	if (!r)
		r = engine_feed(e, &ev);
	if (r) {
		engine_event(e, "connect-failed", "%s", why.text[0] ? why.text : strerror(-r));
		primary_drop_link(e);
	}
	return r;
}

void primary_begin_copy(struct engine *e)
{
	struct primary *p = e->side;
	int r = capture_begin(&p->capture);

	if (r) {
		struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE,
					 .why = ROLE_WHY_LOCAL_ERROR };

		engine_event(e, "failed", "log-dirty cannot be enabled: %s", strerror(-r));
		engine_feed(e, &ev);
		return;
	}
	p->copying = true;
	p->rounds = 0;
	engine_wake_at(e, 0);
}

static void next_round(struct engine *e)
{
	struct primary *p = e->side;
	uint64_t pages;

	if (capture_round(&p->capture, &pages))
		return; /* tried again at the next look */
	p->rounds++;
	p->round_pending = true;
	e->stats.live_rounds++;
	sender_round(p->sender, 1);
}

/* How far the copy is, too. */
static void tell_track(struct engine *e)
{
	struct primary *p = e->side;
	struct track_news news = { .durable_epoch = p->durable_epoch,
				   .durable_ops = p->durable_ops };
	struct sender_position at;

	if (!p->track || !p->sender || p->track_failed)
		return;
	sender_position(p->sender, &at);
	news.copied = (struct track_copied){ at.ops, at.disk, at.offset };
	track_tell(p->track, &news);
	if (!track_error(p->track))
		return;
	engine_event(e, "track-failed", "what the backup holds is not forgotten any more: %s",
		     strerror(-track_error(p->track)));
	p->track_failed = true;
}

int primary_durable(struct engine *e, uint64_t epoch, uint64_t disk_ops)
{
	struct primary *p = e->side;

	if (epoch > p->epoch.captured)
		return -EPROTO;
	p->durable_epoch = epoch;
	p->durable_ops = disk_ops;
	tell_track(e);
	return 0;
}

uint64_t primary_copy_tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;
	struct role_event done = { .kind = ROLE_EV_COPY_DONE };
	uint64_t pages = UINT64_MAX;

	if (!p->copying || p->round_pending || !p->sender)
		return UINT64_MAX;
	tell_track(e);
	if (p->rounds && capture_peek(&p->capture, &pages))
		return now_ns + COPY_LOOK_NS;
	if (p->rounds && sender_disks_copied(p->sender) &&
	    (pages <= p->stage.slot_pages / 2 || p->rounds >= ROUNDS_MAX)) {
		if (!primary_drbd_hold(e))
			return now_ns + COPY_LOOK_NS;
		p->copying = false;
		engine_feed(e, &done);
		return UINT64_MAX;
	}
	/* A round for little, while the disks take long, would only keep the link busy. */
	if (!p->rounds || pages > p->stage.slot_pages / 2)
		next_round(e);
	return now_ns + COPY_LOOK_NS;
}

static void keep_counts(struct engine *e)
{
	struct primary *p = e->side;
	struct sender_progress now;

	sender_progress(p->sender, &now);
	p->raw_before += now.bytes_raw;
	p->wire_before += now.bytes_wire;
}

/*
 * The mirror stays on: without the solo right the disk stops once the ring is full, as the
 * guest's output does. Both are undone by primary_go_plain() or the next link.
 */
void primary_drop_link(struct engine *e)
{
	struct primary *p = e->side;

	if (p->link)
		link_shutdown(p->link);
	if (p->sender) {
		keep_counts(e);
		sender_close(p->sender);
		p->sender = NULL;
	}
	link_close(p->link);
	p->link = NULL;
	offer_close(p->offer);
	p->offer = NULL;
	primary_verify_close(e);
	copy_close(p->copy);
	p->copy = NULL;
	track_close(p->track);
	p->track = NULL;
	p->copying = false;
	primary_round_sent(e); /* never to be sent: what asked for it must not wait */
}

void primary_go_plain(struct engine *e)
{
	struct primary *p = e->side;

	if (p->link || !p->logging || !role_may_run_solo(&e->role))
		return;
	p->logging = false;
	mirror_close(p->mirror);
	p->mirror = NULL;
	p->capture.mirror = NULL;
	capture_end(&p->capture);
}
