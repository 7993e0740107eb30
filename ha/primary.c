/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/primary.h"

#include <json-c/json.h>
#include <sys/epoll.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "disk-replica/mirror.h"
#include "ha/dial.h"
#include "ha/link.h"
#include "ha/local.h"
#include "ha/send.h"
#include "hypervisor/control/control.h"
#include "netbuf/netbuf.h"

#define DIAL_DELAY_MIN_NS NS_PER_S
#define DIAL_DELAY_MAX_NS (5 * NS_PER_S)
#define LOOK_AT_VM_NS	  (500 * NS_PER_MS)
#define SWITCHOVER_NS_MAX (60 * NS_PER_S)

/* --- actions ------------------------------------------------------------------------ */

static void release(struct engine *e, const struct role_actions *a)
{
	struct primary *p = e->side;
	struct netbuf_released done;
	int r;

	if (clock_now_ns() >= a->release_before_ns)
		return; /* the next echo asks again */
	r = netbuf_release(p->netbuf, a->release_epoch, a->release_before_ns, &done);
	blackbox_record("release", a->release_epoch, r ? 0 : done.frames);
	if (r && r != -ETIME)
		engine_event(e, "release-failed", "output of epoch %llu stays held: %s",
			     (unsigned long long)a->release_epoch, strerror(-r));
}

static int output_ready(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct engine *e = opaque;
	struct primary *p = e->side;

	(void)source;
	(void)fd;
	(void)revents;
	if (netbuf_output_waits(p->netbuf)) {
		primary_output_waits(e);
		primary_checkpoint_due(e);
	}
	return 0;
}

static void ignore_output(struct primary *p)
{
	p->output = sd_event_source_disable_unref(p->output);
}

static void release_all(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event stop = { .kind = EPOCH_EV_STOP };

	primary_epoch_feed(e, &stop, clock_now_ns());
	ignore_output(p);
	netbuf_stop(p->netbuf);
	primary_go_plain(e);
}

static void hold(struct engine *e)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_LOCAL_ERROR };
	int r;

	ignore_output(p);
	r = netbuf_start(p->netbuf, p->held.limit_bytes);
	if (!r)
		r = MIN(0, sd_event_add_io(e->loop, &p->output, netbuf_output_fd(p->netbuf),
					   EPOLLIN, output_ready, e));
	if (!r)
		return;
	engine_event(e, "hold-failed", "output cannot be held: %s", strerror(-r));
	engine_feed(e, &ev);
}

void primary_send_heartbeat(struct engine *e)
{
	struct primary *p = e->side;
	uint64_t now = clock_now_ns();
	struct message m = {
		.type = PROTO_HEARTBEAT,
		.generation = e->role.own.generation,
		.heartbeat = { .sent_ns = now,
			       .committed_epoch = e->role.acked ? e->role.acked : PROTO_NO_EPOCH,
			       .age_ns = e->role.acked ? now - e->role.acked_captured_ns : 0,
			       .active = role_may_run_solo(&e->role) },
	};

	if (p->link)
		link_send(p->link, &m);
}

static void sign_of_life(void *engine)
{
	primary_send_heartbeat(engine);
}

static void say(struct engine *e, enum proto_type type, const struct role_actions *a)
{
	struct primary *p = e->side;

	if (p->link)
		link_say(p->link, type, e->role.own.generation, a->why);
}

static void act(struct engine *e, enum role_action action, const struct role_actions *a)
{
	struct primary *p = e->side;
	struct epoch_event begin = { .kind = EPOCH_EV_START }, stall = { .kind = EPOCH_EV_STALL };

	switch (action) {
	case ROLE_DO_DROP_AND_STOP:
	case ROLE_DO_BURY:
		primary_bury(p);
		break;
	case ROLE_DO_HOLD:
		hold(e);
		break;
	case ROLE_DO_RELEASE:
		release(e, a);
		break;
	case ROLE_DO_RELEASE_ALL:
		release_all(e);
		break;
	case ROLE_DO_BEGIN_EPOCHS:
		primary_epoch_feed(e, &begin, clock_now_ns());
		break;
	case ROLE_DO_END_EPOCHS:
		primary_epoch_feed(e, &stall, clock_now_ns());
		break;
	case ROLE_DO_BEGIN_COPY:
		primary_begin_copy(e);
		break;
	case ROLE_DO_CONNECT:
		dial_connect(p->dial, e->role.own.generation, p->port);
		break;
	case ROLE_DO_DISCONNECT:
		primary_drop_link(e);
		break;
	case ROLE_DO_SEND_HEARTBEAT:
		primary_send_heartbeat(e);
		break;
	case ROLE_DO_SEND_LEAVE:
		say(e, PROTO_LEAVE, a);
		break;
	case ROLE_DO_SEND_YIELD:
		primary_drbd_let_go(e);
		primary_switch_yield(e, a->why);
		break;
	case ROLE_DO_LAST_EPOCH:
		primary_switch_begin(e);
		break;
	case ROLE_DO_RUN_ON:
		primary_switch_undo(e);
		break;
	case ROLE_DO_DROP_STANDBY:
	case ROLE_DO_ACK:
	case ROLE_DO_TAKEOVER:
	case ROLE_DO_SEND_ECHO:
	case ROLE_DO_SEND_HANDOVER:
	case ROLE_DO_SEND_REFUSE:
	case ROLE_DO_SEND_YIELD_REQUEST:
		assert(!"an action of a backup");
		break;
	case ROLE_DO_PERSIST:
	case ROLE_DO_LOUD:
		break; /* the engine's own */
	}
}

/* --- letters ------------------------------------------------------------------------ */

static void link_broke(struct engine *e, const char *text)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_DISCONNECTED };

	if (p->link && text)
		engine_event(e, "disconnected", "%s", text);
	engine_feed(e, &ev); /* epochs end before what would carry them is gone */
	primary_drop_link(e);
	p->next_dial_ns = 0;
	p->dial_delay_ns = DIAL_DELAY_MIN_NS;
}

/*
 * The server of a disk has gone, and what came after it may have changed the disk untold. The
 * backup has the disk of the last whole epoch and a server of its own: it goes on from there; told
 * twice, the link must still carry that. Without a backup the VM waits for the server.
 */
static void disk_lost(struct engine *e, const char *text)
{
	struct role_event ev = { .kind = ROLE_EV_OP_FAILOVER };

	engine_event(e, "disk-lost", "%s", text);
	if (e->role.state != ROLE_FENCED && (role_may_run_solo(&e->role) || engine_feed(e, &ev)))
		link_broke(e, NULL);
}

/* A guest that waits for such a disk may not come to a stop, and so no epoch would tell. */
static void look_at_disks(struct engine *e, const struct mirror *m)
{
	struct reason why;

	if (e->role.state == ROLE_PROTECTED && m && mirror_check(m, &why))
		disk_lost(e, why.text);
}

static void prepared(struct engine *e, const struct letter *l)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_HANDOVER,
				 .generation = l->generation,
				 .why = ROLE_WHY_BACKUP_RETURNED };

	p->resync = *dial_resync(p->dial);
	primary_say_resync(e);
	p->port = (uint16_t)l->value;
	if (engine_feed(e, &ev))
		p->next_dial_ns = clock_now_ns() + p->dial_delay_ns;
}

static void dial_later(struct primary *p)
{
	p->next_dial_ns = clock_now_ns() + p->dial_delay_ns;
	p->dial_delay_ns = MIN(p->dial_delay_ns * 2, DIAL_DELAY_MAX_NS);
}

static void dial_failed(struct engine *e, const struct letter *l)
{
	engine_event(e, "no-backup", "%s", l->why.text);
	dial_later(e->side);
}

static void echoed(struct engine *e, const struct letter *l)
{
	struct role_event ev = { .kind = ROLE_EV_ECHO,
				 .generation = l->generation,
				 .echo_ns = l->echo_ns,
				 .active = l->active };

	if (l->epoch != PROTO_NO_EPOCH) {
		e->stats.backup_epoch = l->epoch;
		e->stats.backup_age_ns = l->age_ns;
		e->stats.backup_heard_ns = clock_now_ns();
	}
	engine_feed(e, &ev);
}

static void sending_end(struct engine *e, const struct letter *l)
{
	struct primary *p = e->side;
	struct epoch_event ev = { .kind = EPOCH_EV_SENT, .epoch = l->epoch };

	p->digest[l->epoch % EPOCH_MAX_IN_FLIGHT] = l->value;
	primary_epoch_feed(e, &ev, clock_now_ns());
}

/* What the peer or its host says about who may run. */
static void spoken(struct engine *e, const struct letter *l)
{
	struct role_event ev = { .generation = l->generation, .why = l->reason_why };

	if (l->kind == LETTER_HANDOVER)
		ev.kind = ROLE_EV_HANDOVER;
	else if (l->kind == LETTER_REFUSED)
		ev.kind = ROLE_EV_REFUSED;
	else
		ev.kind = ROLE_EV_YIELD_REQUEST;
	if (engine_feed(e, &ev) == -EPROTO)
		link_broke(e, "the peer said what it may not say now");
}

static void letter(struct engine *e, const struct letter *l)
{
	struct primary *p = e->side;

	switch (l->kind) {
	case LETTER_PREPARED:
	case LETTER_CONNECTED:
	case LETTER_DIAL_FAILED:
		dial_finish(p->dial);
		if (l->kind == LETTER_PREPARED)
			prepared(e, l);
		else if (l->kind == LETTER_DIAL_FAILED)
			dial_failed(e, l);
		else if (primary_connected(e))
			dial_later(p);
		else
			p->dial_delay_ns = DIAL_DELAY_MIN_NS;
		break;
	case LETTER_ACK:
		if (primary_acked(e, l->epoch, l->value))
			link_broke(e, "an acknowledgement of what was not sent, or out of order");
		break;
	case LETTER_DURABLE:
		if (primary_durable(e, l->epoch, l->value))
			link_broke(e, "an epoch called durable that was not sent");
		break;
	case LETTER_ECHO:
		echoed(e, l);
		break;
	case LETTER_SENDING_END:
		sending_end(e, l);
		break;
	case LETTER_ROUND_SENT:
		primary_round_sent(e);
		break;
	case LETTER_REFUSED:
		if (!l->session)
			dial_finish(p->dial);
		spoken(e, l);
		break;
	case LETTER_HANDOVER:
	case LETTER_YIELD_REQUEST:
		spoken(e, l);
		break;
	case LETTER_BROKEN:
		link_broke(e, l->why.text);
		break;
	case LETTER_HEARTBEAT:
	case LETTER_EPOCH_WHOLE:
	case LETTER_COMMITTED:
	case LETTER_SETTLED:
	case LETTER_LEAVE:
	case LETTER_YIELD:
		link_broke(e, "the peer speaks as if it were the primary");
		break;
	case LETTER_FAILED:
		disk_lost(e, l->why.text);
		break;
	}
}

/* --- time --------------------------------------------------------------------------- */

static uint64_t look_at_vm(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;

	if (p->ended)
		return UINT64_MAX;
	if (now_ns >= p->looked_ns + LOOK_AT_VM_NS) {
		p->looked_ns = now_ns;
		primary_look_at_vm(e);
		primary_look_at_output(e);
		look_at_disks(e, p->mirror);
	}
	return p->looked_ns + LOOK_AT_VM_NS;
}

static uint64_t dial_tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;

	if (!role_wants_backup(&e->role) || dial_is_busy(p->dial) || p->ended)
		return UINT64_MAX;
	if (now_ns < p->next_dial_ns)
		return p->next_dial_ns;
	dial_prepare(p->dial, e->role.own.generation);
	return UINT64_MAX;
}

static uint64_t tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;
	struct reason why = { 0 };
	uint64_t next;

	if (p->link && p->link->broken)
		link_broke(e, "the peer does not read");
	if (e->role.state == ROLE_SOLO && (e->role.leaving || p->ended)) {
		engine_finish(e);
		return UINT64_MAX;
	}
	primary_go_plain(e);
	primary_drbd_go_plain(e);
	if (primary_drbd_tick(e, &why))
		disk_lost(e, why.text);
	if (p->ended && !p->sender)
		platform_unmap(&p->platform);
	next = MIN(look_at_vm(e, now_ns), dial_tick(e, now_ns));
	next = MIN(next, primary_copy_tick(e, now_ns));
	next = MIN(next, primary_verify_tick(e, now_ns));
	return MIN(next, primary_epoch_tick(e, now_ns));
}

/* --- commands and counters ---------------------------------------------------------- */

static struct json_object *verdict(int r)
{
	switch (r) {
	case 0:
		return local_ok();
	case -EPERM:
		return local_refusal("not-now", "not in this state: see pollux status");
	case -ENOTCONN:
		return local_refusal("unsafe",
				     "the backup cannot be asked, and may run the VM: make "
				     "sure it is off, then use --force --reason TEXT");
	default:
		return local_refusal("failed", strerror(-r));
	}
}

static struct json_object *command(struct engine *e, const char *verb, struct json_object *request)
{
	struct json_object *force, *reason, *timeout;
	struct role_event ev = { .kind = ROLE_EV_OP_UNPROTECT };
	bool forced = json_object_object_get_ex(request, "force", &force) &&
		      json_object_get_boolean(force);

	if (!strcmp(verb, "verify"))
		return primary_verify(e, request);
	if (!strcmp(verb, "failover"))
		ev.kind = ROLE_EV_OP_FAILOVER;
	else if (!strcmp(verb, "switchover"))
		ev.kind = ROLE_EV_OP_SWITCHOVER;
	else if (strcmp(verb, "unprotect"))
		return NULL;
	else if (forced)
		ev.kind = ROLE_EV_OP_UNPROTECT_FORCE;
	if (ev.kind == ROLE_EV_OP_SWITCHOVER) {
		if (!json_object_object_get_ex(request, "timeout_ns", &timeout) ||
		    json_object_get_uint64(timeout) > SWITCHOVER_NS_MAX)
			return local_refusal("bad-request", "timeout_ns is not within 60 s");
		ev.until_ns = clock_now_ns() + json_object_get_uint64(timeout);
	}
	engine_event(e, verb, "asked%s: %s", forced ? " with force" : "",
		     json_object_object_get_ex(request, "reason", &reason)
			     ? json_object_get_string(reason)
			     : "no reason given");
	return verdict(engine_feed(e, &ev));
}

static void count(struct engine *e)
{
	struct primary *p = e->side;
	struct stats *s = &e->stats;
	struct netbuf_stats held;

	s->bytes_raw = p->raw_before;
	s->bytes_wire = p->wire_before;
	s->epoch = p->epoch.current;
	s->lag_epochs = p->epoch.running ? p->epoch.current - p->epoch.acked : 0;
	s->lag_bytes = 0;
	if (p->sender) {
		struct sender_progress now;

		sender_progress(p->sender, &now);
		s->bytes_raw += now.bytes_raw;
		s->bytes_wire += now.bytes_wire;
		s->kept_pages = now.kept_pages;
		s->copy_done_bytes = now.copied_bytes + now.round_done * PLATFORM_PAGE_BYTES;
		s->copy_total_bytes = now.total_bytes + now.round_pages * PLATFORM_PAGE_BYTES;
		for (uint64_t n = p->epoch.acked + 1; n <= p->epoch.captured; n++)
			s->lag_bytes +=
				p->stage.slot[n % p->stage.nr_slots].nr_pages * PLATFORM_PAGE_BYTES;
	}
	s->netbuf = p->held.name;
	s->verified = &p->verified;
	if (!p->ended && !netbuf_stats(p->netbuf, &held)) {
		s->hold = held.hold_ns;
		s->held_bytes = held.held_bytes;
		s->held_limit_bytes = p->held.limit_bytes;
		s->dropped_frames = held.dropped_frames;
	}
}

/* --- life --------------------------------------------------------------------------- */

/*
 * An engine that died between a pause and its end has left the VM stopped. Held output and a
 * mirrored disk bind it as before (P1); one that was stopped for good stays so (P3).
 */
static void undo_left_pauses(struct engine *e)
{
	struct primary *p = e->side;
	unsigned int n;

	if (e->role.own.role == RECORD_STOPPED)
		return;
	n = p->platform.ops->revive(&p->platform);
	if (n)
		engine_event(e, "resumed", "the VM had been left paused %u times", n);
}

static int open_domain(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	const struct settings *s = &e->settings;
	struct platform_config domain = { .domid = s->domid,
					  .run_dir = s->run_dir,
					  .use = PLATFORM_PRIMARY,
					  .idle = sign_of_life,
					  .opaque = e };
	uint32_t state_room;
	int r = platform_open(&p->platform, &domain, why);

	if (r)
		return r;
	r = control_connect(s->run_dir, &p->control);
	if (r)
		return reason_set(why, -r, "%s: the VM's process does not answer: %s", s->run_dir,
				  strerror(-r));
	r = sources_open(p->control, &p->sources, why);
	if (r)
		return r;
	r = primary_drbd_open(e, why);
	if (r)
		return r;
	r = output_open(s, &p->platform, &p->held, why);
	if (r)
		return r;
	p->netbuf = p->held.netbuf;
	r = capture_open(&p->capture, &p->platform, p->netbuf);
	if (!r)
		r = p->platform.ops->state_room(&p->platform, &state_room);
	if (!r)
		r = stage_open(&p->stage, s->max_in_flight, s->stage_bytes, state_room);
	p->capture.oracle = s->oracle;
	return r ? reason_set(why, -r, "the engine's buffers: %s", strerror(-r)) : 0;
}

static void primary_close(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event stop = { .kind = EPOCH_EV_STOP };

	dial_close(p->dial);
	ignore_output(p);
	p->stopped = sd_event_source_disable_unref(p->stopped);
	/* What it has stopped to slow it down runs on; its output stays held as it is (P1). */
	primary_epoch_feed(e, &stop, clock_now_ns());
	primary_drop_link(e);
	/* A held VM stays held, a mirrored disk mirrored: the next engine takes them up. */
	if (!p->ended)
		primary_go_plain(e);
	primary_drbd_close(e);
	stage_close(&p->stage);
	capture_close(&p->capture);
	netbuf_close(p->netbuf);
	sources_close(&p->sources);
	control_close(p->control);
	platform_close(&p->platform);
	free(p);
}

static int primary_open(struct engine *e, struct reason *why)
{
	struct primary *p = calloc(1, sizeof(*p));
	struct dial_config dial = { .settings = &e->settings,
				    .tls = e->tls,
				    .mailbox = e->mailbox };
	int r;

	if (!p)
		return -ENOMEM;
	e->side = p;
	p->dial_delay_ns = DIAL_DELAY_MIN_NS;
	r = open_domain(e, why);
	if (r)
		goto err_close;
	dial.memory_bytes = p->platform.memory_bytes;
	dial.disks = p->sources.named;
	dial.nr_disks = p->sources.nr_disks;
	r = dial_open(&dial, &p->dial);
	if (!r)
		r = primary_epoch_open(e);
	if (r)
		goto err_close;
	undo_left_pauses(e);
	return 0;
err_close:
	p->ended = true;
	primary_close(e);
	return r;
}

const struct engine_ops primary_ops = {
	.open = primary_open,
	.close = primary_close,
	.act = act,
	.letter = letter,
	.tick = tick,
	.count = count,
	.command = command,
};
