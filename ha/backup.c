/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/backup.h"

#include <json-c/json.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/apply.h"
#include "disk-replica/log.h"
#include "ha/accept.h"
#include "ha/assemble.h"
#include "ha/backup_disks.h"
#include "ha/check.h"
#include "ha/commit.h"
#include "ha/durable.h"
#include "ha/harden.h"
#include "ha/link.h"
#include "ha/local.h"
#include "ha/pending.h"
#include "hypervisor/control/control.h"

#define LOOK_AT_VM_NS (500 * NS_PER_MS)
/* All rounds of one epoch, its checkpoint, and what records and blocks add to their pages: what
 * does not fit the memory that is set apart for it goes to a file. */
#define PENDING_MEMORIES (EPOCH_MAX_ROUNDS + 2u)
#define PENDING_SPARE	 (UINT64_C(128) << 20)

/* --- actions ------------------------------------------------------------------------ */

void backup_drop_link(struct engine *e)
{
	struct backup *b = e->side;

	if (b->pending)
		pending_drop_unsealed(b->pending);
	link_close(b->link);
	b->link = NULL;
	accept_close(b->acceptor);
	b->acceptor = NULL;
}

/* Nothing that could take over is left when this returns; the link lives on to say so. */
static void drop_standby(struct engine *e)
{
	struct backup *b = e->side;

	if (b->standby_gone)
		return;
	b->standby_gone = true;
	pending_drop_all(b->pending);
	if (b->assembler)
		assemble_end(b->assembler);
	harden_close(b->harden);
	b->harden = NULL;
	commit_abandon(b->commit);
	durable_close(b->durable);
	b->durable = NULL;
	apply_close(b->apply);
	b->apply = NULL;
	b->platform.ops->destroy(&b->platform);
	platform_unmap(&b->platform);
}

static void acknowledge(struct engine *e, uint64_t epoch)
{
	struct backup *b = e->side;
	struct message m = {
		.type = PROTO_ACK,
		.generation = e->role.own.generation,
		.ack = { .epoch = epoch, .digest = b->whole_digest },
	};

	if (!pending_seal(b->pending, epoch))
		return;
	m.ack.digest ^= fault_at("ack.digest");
	e->stats.epoch = epoch;
	b->acked_ns = clock_now_ns();
	if (b->link)
		link_send(b->link, &m);
}

static void echo(struct engine *e)
{
	struct backup *b = e->side;
	uint64_t arrived = 0, last = b->commit ? commit_last(b->commit, &arrived) : 0;
	struct message m = {
		.type = PROTO_HEARTBEAT_REPLY,
		.generation = e->role.own.generation,
		.reply = { .echo_ns = b->beat_ns,
			   .committed_epoch = last ? last : PROTO_NO_EPOCH,
			   .age_ns = last ? clock_now_ns() - arrived : 0,
			   .active = e->role.state == ROLE_ACTIVE },
	};

	if (b->link)
		link_send(b->link, &m);
}

static void say(struct engine *e, enum proto_type type, const struct role_actions *a)
{
	struct backup *b = e->side;

	if (b->link)
		link_say(b->link, type, e->role.own.generation, a->why);
}

static void act(struct engine *e, enum role_action action, const struct role_actions *a)
{
	struct backup *b = e->side;

	switch (action) {
	case ROLE_DO_DROP_AND_STOP:
		b->platform.ops->destroy(&b->platform);
		break;
	case ROLE_DO_DROP_STANDBY:
		drop_standby(e);
		break;
	case ROLE_DO_ACK:
		acknowledge(e, a->epoch);
		break;
	case ROLE_DO_TAKEOVER:
		backup_take_over(e);
		break;
	case ROLE_DO_SEND_ECHO:
		echo(e);
		break;
	case ROLE_DO_SEND_HANDOVER:
		say(e, PROTO_HANDOVER, a);
		break;
	case ROLE_DO_SEND_REFUSE:
		say(e, PROTO_REFUSE, a);
		break;
	case ROLE_DO_SEND_YIELD_REQUEST:
		say(e, PROTO_YIELD_REQUEST, a);
		break;
	case ROLE_DO_DISCONNECT:
		backup_drop_link(e);
		break;
	case ROLE_DO_END_EPOCHS:
		break; /* it has none of its own */
	case ROLE_DO_HOLD:
	case ROLE_DO_RELEASE:
	case ROLE_DO_RELEASE_ALL:
	case ROLE_DO_BEGIN_EPOCHS:
	case ROLE_DO_SEND_HEARTBEAT:
	case ROLE_DO_SEND_LEAVE:
	case ROLE_DO_SEND_YIELD:
	case ROLE_DO_CONNECT:
	case ROLE_DO_BEGIN_COPY:
	case ROLE_DO_LAST_EPOCH:
	case ROLE_DO_RUN_ON:
	case ROLE_DO_BURY:
		assert(!"an action of a primary");
		break;
	case ROLE_DO_PERSIST:
	case ROLE_DO_LOUD:
		break; /* the engine's own */
	}
}

/* --- letters ------------------------------------------------------------------------ */

static int open_link(struct engine *e, const struct accepted *in)
{
	struct backup *b = e->side;
	struct assemble_config assemble = {
		.platform = &b->platform,
		.pending = b->pending,
		.log = b->log,
		.apply = b->apply,
		.harden = b->harden,
		.disks = b->disks,
		.nr_disks = b->nr_disks,
		.mailbox = e->mailbox,
		.session = ++b->session,
		.generation = e->role.own.generation,
		.delta = in->welcome.features & PROTO_FEATURE_DELTA,
		.codecs = 1u << CODEC_NONE | 1u << in->welcome.codec,
		.answer_on = in->welcome.features & PROTO_FEATURE_KEPT ? in->bulk : NULL,
	};
	struct link_config link = {
		.bulk = in->bulk,
		.heart = in->heart,
		.mailbox = e->mailbox,
		.session = b->session,
		.generation = e->role.own.generation,
		.sink = assemble_frame,
	};
	int r;

	if (in->welcome.features & PROTO_FEATURE_VERIFY) {
		assemble.check = b->check;
		check_begin(b->check, in->welcome.session);
	}
	r = assemble_open(&assemble, &b->assembler);
	if (r)
		return r;
	link.opaque = b->assembler;
	return link_open(&link, &b->link);
}

/* The role knows of the link before its threads can post anything about it. */
static void connected(struct engine *e)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_CONNECTED };
	struct accepted in;
	int r;

	accept_take(b->acceptor, &in);
	b->tells_durable = in.welcome.features & PROTO_FEATURE_DURABLE;
	r = engine_feed(e, &ev);
	if (!r)
		r = open_link(e, &in);
	if (!r)
		return;
	if (!b->link) {
		transport_close(in.bulk);
		transport_close(in.heart);
	}
	engine_event(e, "connect-failed", "%s", strerror(-r));
	ev.kind = ROLE_EV_LOCAL_FAILURE;
	ev.why = ROLE_WHY_LOCAL_ERROR;
	engine_feed(e, &ev);
}

static void link_broke(struct engine *e, const char *text)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_DISCONNECTED };

	if (b->link)
		engine_event(e, "disconnected", "%s", text);
	backup_drop_link(e);
	engine_feed(e, &ev);
}

static void heartbeat(struct engine *e, const struct letter *l)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_HEARTBEAT,
				 .generation = l->generation,
				 .active = l->active };

	b->beat_ns = l->echo_ns;
	engine_feed(e, &ev);
	backup_say_durable(e);
}

static void epoch_whole(struct engine *e, const struct letter *l)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_EPOCH_WHOLE,
				 .generation = l->generation,
				 .epoch = l->epoch };
	uint64_t now = clock_now_ns();

	b->whole_digest = l->value;
	if (b->harden)
		hist_add(&e->stats.sync, l->age_ns);
	if (b->last_arrived_ns)
		hist_add(&e->stats.lag, now - b->last_arrived_ns);
	b->last_arrived_ns = now;
	if (engine_feed(e, &ev) == -EPROTO)
		link_broke(e, "an epoch out of order");
}

static void committed(struct engine *e, const struct letter *l)
{
	struct backup *b = e->side;
	struct message answer;

	e->stats.epochs_committed++;
	e->stats.oracle_checked += l->active;
	e->stats.oracle_failed += l->value;
	if (l->value)
		engine_event(e, "oracle-failed", "memory differs after epoch %llu",
			     (unsigned long long)l->epoch);
	if (b->link && b->check && check_answer(b->check, &answer)) {
		answer.generation = e->role.own.generation;
		link_send(b->link, &answer);
	}
}

static void failed(struct engine *e, const struct letter *l)
{
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = l->reason_why };

	engine_event(e, "failed", "%s", l->why.text);
	engine_feed(e, &ev);
}

static void yielded(struct engine *e, const struct letter *l)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_YIELD,
				 .generation = l->generation,
				 .why = l->reason_why };

	b->yield_ns = clock_now_ns();
	b->yield_acked_ns = l->echo_ns;
	b->yield_still_ns = l->age_ns;
	engine_feed(e, &ev);
}

static void letter(struct engine *e, const struct letter *l)
{
	struct backup *b = e->side;
	struct role_event ev = { .generation = l->generation, .why = l->reason_why };

	switch (l->kind) {
	case LETTER_CONNECTED:
		connected(e);
		break;
	case LETTER_HEARTBEAT:
		heartbeat(e, l);
		break;
	case LETTER_EPOCH_WHOLE:
		epoch_whole(e, l);
		break;
	case LETTER_COMMITTED:
		committed(e, l);
		break;
	case LETTER_SETTLED:
		if (l->epoch > e->role.acked)
			link_broke(e, "the peer settles what was not acknowledged");
		else if (b->apply)
			apply_settled(b->apply, b->log, l->epoch);
		break;
	case LETTER_FAILED:
		failed(e, l);
		break;
	case LETTER_LEAVE:
		ev.kind = ROLE_EV_LEAVE;
		ev.why = ev.why ? ev.why : ROLE_WHY_OPERATOR;
		engine_feed(e, &ev);
		break;
	case LETTER_YIELD:
		yielded(e, l);
		break;
	case LETTER_BROKEN:
		link_broke(e, l->why.text);
		break;
	case LETTER_PREPARED:
	case LETTER_DIAL_FAILED:
	case LETTER_ACK:
	case LETTER_DURABLE:
	case LETTER_ECHO:
	case LETTER_SENDING_END:
	case LETTER_ROUND_SENT:
	case LETTER_HANDOVER:
	case LETTER_REFUSED:
	case LETTER_YIELD_REQUEST:
		link_broke(e, "the peer speaks as if it were the backup");
		break;
	}
}

/* --- time --------------------------------------------------------------------------- */

/* Its memory is mapped here and goes on taking epochs, but nothing could run them (P5). */
static void vm_ended(struct engine *e)
{
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_LOCAL_ERROR };

	if (e->role.state == ROLE_ACTIVE) {
		engine_finish(e);
		return;
	}
	engine_event(e, "failed", "the standby's process is gone");
	engine_feed(e, &ev);
}

static uint64_t tick(struct engine *e, uint64_t now_ns)
{
	struct backup *b = e->side;

	if (b->link && b->link->broken)
		link_broke(e, "the peer does not read");
	if (e->role.state == ROLE_GONE && !e->role.pending) {
		engine_finish(e);
		return UINT64_MAX;
	}
	if (b->standby_gone && e->role.state != ROLE_ACTIVE)
		return UINT64_MAX;
	if (now_ns >= b->looked_ns + LOOK_AT_VM_NS) {
		b->looked_ns = now_ns;
		if (b->platform.ops->look(&b->platform) != PLATFORM_RUNS)
			vm_ended(e);
	}
	return MIN(b->looked_ns + LOOK_AT_VM_NS, backup_announce_tick(e, now_ns));
}

/* --- commands and counters ---------------------------------------------------------- */

/* The primary comes anew, by its polluxd's word to ours. */
static struct json_object *rejoin(struct engine *e, struct json_object *request)
{
	struct role_event ev = { .kind = ROLE_EV_RETURNED };
	struct json_object *v, *reply;

	if (json_object_object_get_ex(request, "generation", &v))
		ev.generation = json_object_get_uint64(v);
	if (engine_feed(e, &ev) || e->role.state == ROLE_ACTIVE) {
		reply = local_refusal("active", "the VM runs here, or is about to");
	} else {
		reply = local_ok();
		sd_event_exit(e->loop, 0);
	}
	json_object_object_add(reply, "generation", json_object_new_uint64(e->role.own.generation));
	return reply;
}

static struct json_object *command(struct engine *e, const char *verb, struct json_object *request)
{
	struct role_event ev = { .kind = ROLE_EV_OP_FAILOVER };
	int r;

	if (!strcmp(verb, "rejoin"))
		return rejoin(e, request);
	if (!strcmp(verb, "unprotect") && e->role.state == ROLE_ACTIVE) {
		engine_finish(e); /* it runs unprotected already */
		return local_ok();
	}
	if (strcmp(verb, "failover"))
		return NULL;
	engine_event(e, "failover", "asked by the operator");
	r = engine_feed(e, &ev);
	if (r == -ENOTCONN)
		return local_refusal("not-now",
				     "the primary is silent: the takeover comes by itself "
				     "after the timeout");
	return r ? local_refusal("not-now", "no whole epoch is here, or the VM already runs here")
		 : local_ok();
}

static void count(struct engine *e)
{
	struct backup *b = e->side;

	if (b->assembler)
		e->stats.bytes_raw = assemble_bytes_raw(b->assembler);
	if (b->link) {
		struct transport_counters c;

		transport_counters(b->link->config.bulk, &c);
		e->stats.bytes_wire = c.bytes_received;
	}
	if (b->pending)
		e->stats.lag_bytes = pending_bytes(b->pending);
}

/* --- life --------------------------------------------------------------------------- */

static uint64_t largest_epoch(const struct backup *b)
{
	return PENDING_MEMORIES * b->platform.memory_bytes + PENDING_SPARE;
}

/* A page that is not what it was, for the test that its hash gives it away. */
static void damage_a_page(struct engine *e)
{
	struct platform *p = &((struct backup *)e->side)->platform;
	struct page_record r = { .gfn = p->nr_gfns / 2, .kind = PROTO_PAGE_WHOLE };
	const void *page = p->ops->page(p, r.gfn);
	uint8_t bytes[PLATFORM_PAGE_BYTES];

	if (!page)
		return;
	memcpy(bytes, page, sizeof(bytes));
	bytes[1] ^= 0x80;
	r.bytes = bytes;
	r.len = sizeof(bytes);
	platform_apply(p, &r);
	engine_event(e, "fault", "page %llu is damaged", (unsigned long long)r.gfn);
}

static int open_check(struct backup *b)
{
	struct check_config config = { .platform = &b->platform,
				       .apply = b->apply,
				       .disks = b->disks,
				       .nr_disks = b->nr_disks };

	return check_open(&config, &b->check);
}

static int open_standby(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	struct commit_config commit = { .platform = &b->platform, .mailbox = e->mailbox };
	struct pending_config pending = { .memory_bytes = e->settings.backlog_bytes,
					  .dir = e->settings.record_dir };
	struct platform_config domain = { .domid = e->settings.domid,
					  .run_dir = e->settings.run_dir,
					  .use = PLATFORM_STANDBY };
	int r = platform_open(&b->platform, &domain, why);

	if (r)
		return r;
	if (e->settings.memory_kept && fault_at("memory.damage"))
		damage_a_page(e);
	r = control_connect(e->settings.run_dir, &b->control);
	if (r)
		return reason_set(why, -r, "%s: the VM's process does not answer: %s",
				  e->settings.run_dir, strerror(-r));
	r = backup_open_disks(e, why);
	if (r)
		return r;
	pending.file_bytes = largest_epoch(b);
	r = pending_open(&pending, &b->pending);
	commit.pending = b->pending;
	commit.log = b->log;
	commit.apply = b->apply;
	if (!r)
		r = open_check(b);
	commit.check = b->check;
	if (!r)
		r = commit_open(&commit, &b->commit);
	return r ? reason_set(why, -r, "the standby's buffers: %s", strerror(-r)) : 0;
}

static int open_door(struct engine *e)
{
	struct backup *b = e->side;
	struct accept_config config = {
		.settings = &e->settings,
		.tls = e->tls,
		.mailbox = e->mailbox,
		.generation = e->role.own.generation,
		.memory_bytes = b->platform.memory_bytes,
		.zeroed = b->platform.ops->zeroed,
		.nr_disks = b->nr_disks,
		.epoch_limit = largest_epoch(b),
	};

	return accept_open(&config, &b->acceptor);
}

static void backup_close(struct engine *e)
{
	struct backup *b = e->side;

	backup_drop_link(e);
	backup_announce_rest(e);
	if (b->pending)
		pending_drop_all(b->pending);
	harden_close(b->harden);
	commit_close(b->commit);
	assemble_close(b->assembler);
	check_close(b->check);
	pending_close(b->pending);
	disk_log_close(b->log);
	durable_close(b->durable);
	apply_close(b->apply);
	backup_drbd_close(e);
	control_close(b->control);
	platform_close(&b->platform);
	free(b);
}

/* After its own restart an engine whose record says `active` only watches the VM. */
static int backup_open(struct engine *e, struct reason *why)
{
	struct platform_config domain = { .domid = e->settings.domid,
					  .run_dir = e->settings.run_dir,
					  .use = PLATFORM_WATCH };
	struct backup *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	e->side = b;
	b->nr_nics = settings_nr_nics(&e->settings);
	if (e->role.own.role == RECORD_ACTIVE) {
		b->standby_gone = true;
		r = platform_open(&b->platform, &domain, why);
	} else {
		r = open_standby(e, why);
		if (!r)
			r = open_door(e);
	}
	if (r)
		backup_close(e);
	return r;
}

const struct engine_ops backup_ops = {
	.open = backup_open,
	.close = backup_close,
	.act = act,
	.letter = letter,
	.tick = tick,
	.count = count,
	.command = command,
};
