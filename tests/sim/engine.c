/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: what pollux-ha does with the actions of role.c and epoch.c. One event at a time;
 * what an action leads to comes back as a later event, never from within a step.
 */
#include "tests/sim/sim.h"

static void after(struct world *w, struct host *h, uint64_t delay, sim_fn *fn, struct message m)
{
	struct sim_event ev = { .fn = fn, .host = h->id, .of_process = true, .m = m };

	world_after(w, delay, &ev);
}

/* --- timers --------------------------------------------------------------------------- */

static void tick(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_TICK };

	if (h->process != PROC_NONE && m->n == h->tick_nr)
		engine_role(w, h, &ev);
}

static void timer(struct world *w, struct host *h, const struct message *m)
{
	struct epoch_event ev = { .kind = EPOCH_EV_TICK };

	if (h->process == PROC_PRIMARY && m->n == h->timer_nr)
		engine_epoch(w, h, &ev);
}

/* --- epochs --------------------------------------------------------------------------- */

/* Frames of the epoch, then its end. The release waits for the acknowledgement (P1). */
static void send_epoch(struct world *w, struct host *h, const struct snapshot *s)
{
	for (unsigned int part = 0; part < SIM_PARTS; part++)
		net_send(w, h,
			 (struct message){ .kind = MSG_PART,
					   .lane = LANE_BULK,
					   .generation = h->role.own.generation,
					   .epoch = s->epoch,
					   .part = part,
					   .n = s->n,
					   .state = s->state,
					   .instance = s->instance });
}

static void last_epoch(struct world *w, struct host *h, uint64_t epoch)
{
	struct role_event ev = { .kind = ROLE_EV_LAST_EPOCH, .epoch = epoch };

	if (w->mutation == MUTATE_LAST_IN_FLIGHT)
		ev.epoch--;
	engine_role(w, h, &ev);
}

static void captured(struct world *w, struct host *h, const struct message *m)
{
	struct epoch_event cap = { .kind = EPOCH_EV_CAPTURED, .dirty = m->n };
	struct epoch_event sent = { .kind = EPOCH_EV_SENT, .epoch = m->epoch };
	struct snapshot s;

	if (m->generation != h->session || !h->guest.exists)
		return;
	guest_mark(w, h, m->epoch, &s);
	h->guest.still = m->active && w->mutation != MUTATE_LAST_RUNS_ON;
	engine_epoch(w, h, &cap);
	if (m->active && h->epoch.still)
		last_epoch(w, h, m->epoch);
	send_epoch(w, h, &s);
	engine_epoch(w, h, &sent);
	if (w->mutation == MUTATE_RELEASE_AT_SEND)
		guest_release(w, h, m->epoch);
}

static void round_done(struct world *w, struct host *h, const struct message *m)
{
	struct epoch_event ev = { .kind = EPOCH_EV_ROUND_DONE, .dirty = m->n / 2 };

	if (m->generation == h->session)
		engine_epoch(w, h, &ev);
}

int engine_epoch(struct world *w, struct host *h, const struct epoch_event *ev)
{
	struct epoch_actions act;
	struct message m;
	int r = epoch_step(&h->epoch, ev, host_now(w, h), &act);

	m = (struct message){ .epoch = act.epoch,
			      .generation = h->session,
			      .active = act.set & EPOCH_DO_STAY };
	if (act.set & EPOCH_DO_RUN_ON)
		h->guest.still = false;
	if (act.set & EPOCH_DO_CHECKPOINT)
		after(w, h, NS_PER_MS / 4 + world_random(w, NS_PER_MS), captured, m);
	m.n = h->epoch.round_dirty;
	if (act.set & EPOCH_DO_ROUND)
		after(w, h, NS_PER_MS + world_random(w, 5 * NS_PER_MS), round_done, m);
	if (act.set & EPOCH_DO_PAUSE)
		h->guest.paused = true;
	if (act.set & EPOCH_DO_RESUME)
		h->guest.paused = false;
	h->timer_nr++;
	if (act.deadline_ns != UINT64_MAX)
		after(w, h, MAX(act.deadline_ns, host_now(w, h) + 1) - host_now(w, h), timer,
		      (struct message){ .n = h->timer_nr });
	if (act.set & EPOCH_DO_FREE) {
		struct role_event ack = { .kind = ROLE_EV_ACK,
					  .epoch = act.acked,
					  .captured_ns = act.acked_captured_ns };

		return engine_role(w, h, &ack);
	}
	return r;
}

static void simple_epoch(struct world *w, struct host *h, enum epoch_event_kind kind)
{
	struct epoch_event ev = { .kind = kind };

	engine_epoch(w, h, &ev);
}

/* --- actions of role.c ---------------------------------------------------------------- */

/* Done by another thread, a little later: the lease is looked at when it happens. */
static void release(struct world *w, struct host *h, const struct message *m)
{
	bool stale = m->generation != h->session;

	if (stale && w->mutation != MUTATE_STALE_RELEASE)
		return;
	if (host_now(w, h) < m->n || stale || w->mutation == MUTATE_NO_LEASE)
		guest_release(w, h, m->epoch);
}

static void copy_done(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_COPY_DONE };

	if (m->conn == h->conn)
		engine_role(w, h, &ev);
}

static void send_to_peer(struct world *w, struct host *h, struct message m)
{
	if (h->conn)
		net_send(w, h, m);
	else if (m.kind == MSG_HANDOVER || m.kind == MSG_REFUSE) {
		m.lane = LANE_CONTROL;
		net_send(w, h, m);
	}
}

static void send_messages(struct world *w, struct host *h, const struct role_event *ev,
			  const struct role_actions *act)
{
	static const struct {
		uint32_t action;
		enum message_kind kind;
		enum lane lane;
	} kinds[] = {
		{ ROLE_DO_SEND_HEARTBEAT, MSG_HEARTBEAT, LANE_HEART },
		{ ROLE_DO_SEND_ECHO, MSG_ECHO, LANE_HEART },
		{ ROLE_DO_SEND_HANDOVER, MSG_HANDOVER, LANE_BULK },
		{ ROLE_DO_SEND_REFUSE, MSG_REFUSE, LANE_BULK },
		{ ROLE_DO_SEND_LEAVE, MSG_LEAVE, LANE_BULK },
		{ ROLE_DO_SEND_YIELD, MSG_YIELD, LANE_BULK },
		{ ROLE_DO_SEND_YIELD_REQUEST, MSG_YIELD_REQUEST, LANE_BULK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct message m = { .kind = kinds[i].kind,
				     .lane = kinds[i].lane,
				     .generation = act->generation,
				     .why = act->why,
				     .active = role_may_run_solo(&h->role) };

		if (!(act->set & kinds[i].action))
			continue;
		m.echo_ns = m.kind == MSG_ECHO ? ev->echo_ns : host_now(w, h);
		if (m.kind == MSG_HANDOVER)
			w->nr_handovers++;
		send_to_peer(w, h, m);
	}
}

static void change_output(struct world *w, struct host *h, const struct role_actions *act)
{
	if (act->set & ROLE_DO_DROP_AND_STOP)
		guest_drop(h);
	if (act->set & ROLE_DO_BURY) {
		w->left_instance = h->guest.instance;
		w->left_n = h->guest.n;
		w->nr_switchovers++;
		guest_drop(h);
	}
	if (act->set & ROLE_DO_HOLD) {
		h->session++;
		guest_forget_marks(h);
		h->guest.hold = w->mutation != MUTATE_FORGET_HOLD;
	}
	if (act->set & ROLE_DO_DROP_STANDBY)
		backup_drop(h);
	if (act->set & ROLE_DO_PERSIST)
		control_persist(w, h, &act->record);
	if (act->set & ROLE_DO_RELEASE) {
		struct message m = { .epoch = act->release_epoch,
				     .n = act->release_before_ns,
				     .generation = h->session };

		after(w, h, world_random(w, world_chance(w, 50) ? 400 * NS_PER_MS : NS_PER_MS),
		      release, m);
	}
	if (act->set & ROLE_DO_RELEASE_ALL) {
		h->session++;
		simple_epoch(w, h, EPOCH_EV_STOP);
		guest_release_all(w, h);
	}
}

static void change_link(struct world *w, struct host *h, const struct role_actions *act)
{
	if (act->set & ROLE_DO_BEGIN_EPOCHS)
		simple_epoch(w, h, EPOCH_EV_START);
	if (act->set & ROLE_DO_LAST_EPOCH)
		simple_epoch(w, h, EPOCH_EV_LAST);
	if (act->set & ROLE_DO_RUN_ON)
		simple_epoch(w, h, EPOCH_EV_RUN_ON);
	if (act->set & ROLE_DO_END_EPOCHS) {
		h->session++;
		simple_epoch(w, h, EPOCH_EV_STALL);
	}
	if (act->set & ROLE_DO_ACK) {
		memcpy(h->whole, h->parts, sizeof(h->whole));
		net_send(w, h,
			 (struct message){
				 .kind = MSG_ACK, .lane = LANE_BULK, .epoch = act->epoch });
	}
	if (act->set & ROLE_DO_TAKEOVER)
		backup_take_over(w, h);
}

static void connect_or_close(struct world *w, struct host *h, const struct role_actions *act)
{
	if (act->set & ROLE_DO_DISCONNECT)
		net_close(w, h);
	if (act->set & ROLE_DO_CONNECT) {
		h->conn = ++w->next_conn;
		net_send(w, h,
			 (struct message){ .kind = MSG_HELLO,
					   .lane = LANE_CONTROL,
					   .conn = h->conn,
					   .n = h->asked,
					   .generation = h->role.own.generation });
	}
	if (act->set & ROLE_DO_BEGIN_COPY)
		after(w, h, world_random(w, 200 * NS_PER_MS), copy_done,
		      (struct message){ .conn = h->conn });
}

int engine_role(struct world *w, struct host *h, const struct role_event *ev)
{
	struct role_actions act;
	enum role_state old = h->role.state;
	uint64_t now = host_now(w, h);
	int r;

	if (h->process == PROC_NONE)
		return -ESTALE;
	r = role_step(&h->role, ev, now, &act);
	if (old != h->role.state)
		world_trace(w, "%c %s -> %s (%s), generation %lu", 'A' + h->id,
			    role_state_name(old), role_state_name(h->role.state),
			    role_why_name(h->role.why), (unsigned long)h->role.own.generation);
	if (old != h->role.state && h->role.state == ROLE_PROTECTED)
		w->nr_protected++;
	change_output(w, h, &act);
	change_link(w, h, &act);
	send_messages(w, h, ev, &act);
	connect_or_close(w, h, &act);
	h->tick_nr++;
	if (act.next_ns != UINT64_MAX)
		after(w, h, act.next_ns - now + world_random(w, NS_PER_MS), tick,
		      (struct message){ .n = h->tick_nr });
	return r;
}

/* --- the process ---------------------------------------------------------------------- */

void engine_start(struct world *w, struct host *h, enum process process, const char *peer)
{
	struct role_config rc = { .timeout_ns = SIM_TIMEOUT,
				  .heartbeat_ns = SIM_HEARTBEAT,
				  .margin_ns = SIM_MARGIN,
				  .evidence_ns = SIM_TIMEOUT,
				  .stall_alone = w->seed / 4 % 2 };
	struct epoch_config ec = { .mode = w->seed % 2 ? EPOCH_KEMARI : EPOCH_REMUS,
				   .interval_ns = 10 * NS_PER_MS,
				   .min_interval_ns = 3 * NS_PER_MS,
				   .max_in_flight = 1 + (uint32_t)(w->seed % 4),
				   .dirty_high = 800,
				   .arena_pages = 1000,
				   .queue_high = 60,
				   .queue_full = 95 };
	struct role_event start = { .kind = ROLE_EV_START };
	struct record own = h->disk;
	enum role_side side = process == PROC_PRIMARY ? ROLE_PRIMARY : ROLE_BACKUP;
	int r;

	if (w->mutation == MUTATE_FORGET_RIGHT && own.role == RECORD_PRIMARY)
		own.role = RECORD_ACTIVE;
	r = role_open(&h->role, side, &rc, h->has_record ? &own : NULL, peer);
	assert(!epoch_open(&h->epoch, &ec));
	if (r) {
		check_fail(w, "%c: role_open: %d (record %s)", 'A' + h->id, r,
			   record_role_name(own.role));
		return;
	}
	if (own.role != RECORD_STOPPED) /* a crash has left it so */
		h->guest.still = h->guest.paused = false;
	h->process = process;
	h->incarnation++;
	h->session++;
	h->conn = 0;
	h->left_ns = 0;
	h->disk_busy_until = 0;
	backup_drop(h);
	world_trace(w, "%c starts as %s", 'A' + h->id, side == ROLE_PRIMARY ? "primary" : "backup");
	engine_role(w, h, &start);
}

void engine_end(struct world *w, struct host *h)
{
	net_close(w, h);
	h->process = PROC_NONE;
	h->incarnation++;
	h->session++;
	backup_drop(h);
}
