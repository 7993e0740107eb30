/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: messages. A connection has two lanes, each in order, as TCP keeps it; a link that is
 * down delays them, and they arrive late when it is up again. Control messages (each its own
 * short connection) may overtake one another and get lost.
 */
#include "tests/sim/sim.h"

static uint64_t delay(struct world *w)
{
	uint64_t ns = 50 * NS_PER_US + world_random(w, 2 * NS_PER_MS);

	if (w->now < w->slow_until)
		ns += world_random(w, 150 * NS_PER_MS);
	return ns;
}

void net_send(struct world *w, struct host *h, struct message m)
{
	struct sim_event ev = { .fn = net_receive, .host = 1 - h->id };
	uint64_t *lane_free = &w->lane_free[h->id][m.lane];
	uint64_t ns = delay(w);

	m.from = h->id;
	if (m.lane == LANE_CONTROL) {
		if (w->now < w->down_until[h->id] && world_chance(w, 2))
			return;
		if (world_chance(w, 20))
			ns += world_random(w, 2 * NS_PER_S);
	} else {
		m.conn = m.conn ? m.conn : h->conn;
		ev.keeps_lane = true;
		ns = MAX(w->now + ns, *lane_free + 1) - w->now;
		*lane_free = w->now + ns;
	}
	ev.m = m;
	world_after(w, ns, &ev);
}

void net_close(struct world *w, struct host *h)
{
	if (!h->conn)
		return;
	net_send(w, h, (struct message){ .kind = MSG_FIN, .lane = LANE_BULK });
	h->conn = 0;
}

static void disconnected(struct world *w, struct host *h)
{
	struct role_event ev = { .kind = ROLE_EV_DISCONNECTED };

	h->conn = 0;
	engine_role(w, h, &ev);
}

/* A peer that may not say what it says, or whose connection we no longer know. */
static void checked(struct world *w, struct host *h, int r)
{
	if (r != -EPROTO)
		return;
	net_close(w, h);
	disconnected(w, h);
}

static void hello(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_CONNECTED };

	if (h->process != PROC_BACKUP || h->role.own.generation != m->generation || h->conn)
		return;
	if (engine_role(w, h, &ev))
		return;
	h->conn = m->conn;
	h->served = MAX(h->served, m->n); /* no request from before this connection counts */
	backup_drop(h);
	net_send(w, h, (struct message){ .kind = MSG_WELCOME, .lane = LANE_BULK });
}

static void welcome(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_CONNECTED };

	if (h->process != PROC_PRIMARY || m->conn != h->conn)
		return;
	checked(w, h, engine_role(w, h, &ev));
}

static void acknowledged(struct world *w, struct host *h, const struct message *m)
{
	struct epoch_event ev = { .kind = EPOCH_EV_ACK, .epoch = m->epoch };

	checked(w, h, engine_epoch(w, h, &ev));
}

static void from_control(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .generation = m->generation, .why = m->why };

	switch (m->kind) {
	case MSG_PREPARE:
		control_prepare(w, h, m);
		return;
	case MSG_HELLO:
		hello(w, h, m);
		return;
	case MSG_HANDOVER:
		ev.kind = ROLE_EV_HANDOVER;
		if (w->mutation == MUTATE_LOWER_GENERATION)
			ev.generation = MAX(ev.generation, h->role.own.generation + 1);
		else if (h->conn)
			return; /* an answer to a question that is no longer asked */
		break;
	case MSG_REFUSE:
		ev.kind = ROLE_EV_REFUSED;
		break;
	case MSG_WELCOME:
	case MSG_FIN:
	case MSG_HEARTBEAT:
	case MSG_ECHO:
	case MSG_PART:
	case MSG_ACK:
	case MSG_LEAVE:
	case MSG_YIELD:
	case MSG_YIELD_REQUEST:
		return;
	}
	if (h->process == PROC_PRIMARY)
		engine_role(w, h, &ev);
}

static void from_connection(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .generation = m->generation,
				 .why = m->why,
				 .active = m->active,
				 .echo_ns = m->echo_ns };

	switch (m->kind) {
	case MSG_WELCOME:
		welcome(w, h, m);
		return;
	case MSG_FIN:
		disconnected(w, h);
		return;
	case MSG_PART:
		checked(w, h, backup_part(w, h, m));
		return;
	case MSG_ACK:
		acknowledged(w, h, m);
		return;
	case MSG_HEARTBEAT:
		ev.kind = ROLE_EV_HEARTBEAT;
		if (engine_role(w, h, &ev) && w->mutation == MUTATE_ECHO_ALWAYS)
			net_send(w, h,
				 (struct message){ .kind = MSG_ECHO,
						   .lane = LANE_HEART,
						   .generation = m->generation,
						   .echo_ns = m->echo_ns });
		return;
	case MSG_ECHO:
		ev.kind = ROLE_EV_ECHO;
		break;
	case MSG_HANDOVER:
		ev.kind = ROLE_EV_HANDOVER;
		break;
	case MSG_REFUSE:
		ev.kind = ROLE_EV_REFUSED;
		break;
	case MSG_LEAVE:
		ev.kind = ROLE_EV_LEAVE;
		break;
	case MSG_YIELD:
		ev.kind = ROLE_EV_YIELD;
		break;
	case MSG_YIELD_REQUEST:
		ev.kind = ROLE_EV_YIELD_REQUEST;
		break;
	case MSG_PREPARE:
	case MSG_HELLO:
		return;
	}
	checked(w, h, engine_role(w, h, &ev));
}

void net_receive(struct world *w, struct host *h, const struct message *m)
{
	if (m->lane == LANE_CONTROL) {
		from_control(w, h, m);
		return;
	}
	if (h->process != PROC_NONE && m->conn == h->conn) {
		from_connection(w, h, m);
		return;
	}
	/* Nobody knows this connection: a reset, unless it is one itself. */
	if (m->kind != MSG_FIN)
		net_send(w, h,
			 (struct message){ .kind = MSG_FIN, .lane = LANE_BULK, .conn = m->conn });
}
