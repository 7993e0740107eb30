/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: what polluxd does. It answers "prepare" (by the record, or through the process that
 * lives), starts the process a host should have, and stands for the record's disk.
 */
#include "tests/sim/sim.h"

#include <stdio.h>

static const char *name_of(const struct host *h)
{
	return h->id ? "b" : "a";
}

/* --- the record ----------------------------------------------------------------------- */

static void written(struct world *w, struct host *h, const struct message *m)
{
	struct role_event ev = { .kind = ROLE_EV_PERSISTED };
	bool fails = w->now < h->disk_fails_until;

	ev.record.generation = m->generation;
	ev.record.role = (enum record_role)m->part;
	/* A write that fails may still have happened. */
	if ((!fails || world_chance(w, 2)) && w->mutation != MUTATE_NO_PERSIST) {
		if (h->has_record && m->generation < h->disk.generation) {
			check_fail(w, "P3: %c writes generation %lu over %lu", 'A' + h->id,
				   (unsigned long)m->generation, (unsigned long)h->disk.generation);
			return;
		}
		h->has_record = true;
		h->disk = ev.record;
		snprintf(h->disk.peer, sizeof(h->disk.peer), "%s", name_of(host_peer(w, h)));
	}
	if (fails)
		ev.kind = ROLE_EV_PERSIST_FAILED;
	engine_role(w, h, &ev);
}

void control_persist(struct world *w, struct host *h, const struct record *rec)
{
	struct sim_event ev = { .fn = written, .host = h->id, .of_process = true };

	ev.m.generation = rec->generation;
	ev.m.part = rec->role;
	h->disk_busy_until = MAX(w->now, h->disk_busy_until) + 100 * NS_PER_US +
			     world_random(w, (world_chance(w, 10) ? 80 : 4) * NS_PER_MS);
	world_after(w, h->disk_busy_until - w->now, &ev);
}

/* --- prepare -------------------------------------------------------------------------- */

static void answer(struct world *w, struct host *h, enum message_kind kind, uint64_t generation)
{
	net_send(w, h,
		 (struct message){ .kind = kind,
				   .lane = LANE_CONTROL,
				   .generation = generation,
				   .why = ROLE_WHY_BACKUP_RETURNED });
}

/* By the record alone. A host that cannot write answers nothing: the peer asks again. */
static void admit(struct world *w, struct host *h, const struct message *m)
{
	struct role_event outdated = { .kind = ROLE_EV_REFUSED, .generation = m->generation };
	const char *peer = name_of(host_peer(w, h));
	struct record rec;
	enum role_verdict verdict;

	verdict = role_admit(h->has_record ? &h->disk : NULL, m->generation, peer, &rec);
	if (w->mutation == MUTATE_ADMIT_WHEN_ACTIVE && verdict == ROLE_REFUSE) {
		verdict = ROLE_ADMIT;
		rec.generation++;
	}
	switch (verdict) {
	case ROLE_REFUSE:
		answer(w, h, MSG_REFUSE, rec.generation);
		return;
	case ROLE_STOP_FIRST:
		if (h->process == PROC_PRIMARY) {
			engine_role(w, h, &outdated);
			return; /* and when its record says so, the next "prepare" is admitted */
		}
		guest_drop(h);
		break;
	case ROLE_ADMIT:
		if (w->now < h->disk_fails_until)
			return;
		break;
	}
	h->has_record = true;
	h->disk = rec;
	if (w->mutation != MUTATE_ADMIT_WHEN_ACTIVE)
		guest_drop(h);
	engine_start(w, h, PROC_BACKUP, peer);
	answer(w, h, MSG_HANDOVER, rec.generation);
}

void control_prepare(struct world *w, struct host *h, const struct message *m)
{
	struct role_event returned = { .kind = ROLE_EV_RETURNED, .generation = m->generation };

	if (m->n <= h->served)
		return; /* whoever asked this has given up waiting, and asked again */
	h->served = m->n;
	if (h->process == PROC_BACKUP && w->mutation != MUTATE_ADMIT_WHEN_ACTIVE) {
		net_close(w, h);
		engine_role(w, h, &returned);
		return;
	}
	/* A stopped primary's process has nothing more to do once its record is written. */
	if (h->process == PROC_PRIMARY && h->role.state == ROLE_FENCED && !h->role.pending)
		engine_end(w, h);
	admit(w, h, m);
}

/* --- processes ------------------------------------------------------------------------ */

static void watch(struct world *w, struct host *h, const struct message *m)
{
	(void)m;
	control_watch(w, h);
}

static void watch_primary(struct world *w, struct host *h)
{
	if (h->role.leaving && role_may_run_solo(&h->role) && !h->role.pending) {
		h->left_ns = h->left_ns ? h->left_ns : w->now;
		if (w->now - h->left_ns > 300 * NS_PER_MS) {
			engine_end(w, h); /* protect it again */
			engine_start(w, h, PROC_PRIMARY, name_of(host_peer(w, h)));
		}
	}
	if (role_wants_backup(&h->role)) {
		net_close(w, h);
		net_send(w, h,
			 (struct message){ .kind = MSG_PREPARE,
					   .lane = LANE_CONTROL,
					   .generation = h->role.own.generation,
					   .n = ++h->asked });
	}
}

static void watch_backup(struct world *w, struct host *h)
{
	if (h->role.state == ROLE_GONE && !h->role.pending)
		engine_end(w, h);
	else if (h->role.state == ROLE_FENCED && !h->role.pending)
		engine_end(w, h);
	else if (h->role.state == ROLE_ACTIVE && h->guest.exists &&
		 (w->faults_end || world_chance(w, 10))) {
		engine_end(w, h); /* the VM that moved here is protected the other way round */
		engine_start(w, h, PROC_PRIMARY, name_of(host_peer(w, h)));
	}
}

/* Every now and then polluxd looks what should run here. A VM without its engine, and a
 * backup whose record says so, get one. */
void control_watch(struct world *w, struct host *h)
{
	struct sim_event ev = { .fn = watch, .host = h->id };
	const char *peer = name_of(host_peer(w, h));

	world_after(w, 40 * NS_PER_MS + world_random(w, 20 * NS_PER_MS), &ev);
	if (h->process == PROC_PRIMARY)
		watch_primary(w, h);
	else if (h->process == PROC_BACKUP)
		watch_backup(w, h);
	else if (h->guest.exists && h->has_record && h->disk.role == RECORD_BACKUP)
		check_fail(w, "P3: %c runs a VM and its record says backup", 'A' + h->id);
	else if (h->guest.exists)
		engine_start(w, h, PROC_PRIMARY, peer);
}
