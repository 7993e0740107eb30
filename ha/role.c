/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides of role.h share: the table of legal changes, records that are awaited, and
 * what is said to people. Pure; one caller at a time. Source: docs/failure-model.md.
 */
#include "ha/role_impl.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"

#define S(name) (1u << ROLE_##name)

/* From each state, what may follow. FENCED and GONE are for good. */
static const uint32_t legal[ROLE_NR_STATES] = {
	[ROLE_STARTING] = S(SOLO) | S(STALLED) | S(FENCED) | S(WAITING) | S(ACTIVE),
	[ROLE_SOLO] = S(SOLO) | S(COPYING) | S(FENCED),
	[ROLE_COPYING] = S(SOLO) | S(ARMING) | S(FENCED),
	[ROLE_ARMING] = S(SOLO) | S(PROTECTED) | S(STALLED) | S(FENCED),
	[ROLE_PROTECTED] = S(SOLO) | S(STALLED) | S(SWITCHING) | S(FENCED),
	[ROLE_STALLED] = S(SOLO) | S(PROTECTED) | S(STALLED) | S(FENCED),
	[ROLE_SWITCHING] = S(SOLO) | S(PROTECTED) | S(STALLED) | S(FENCED),
	[ROLE_FENCED] = 0,
	[ROLE_WAITING] = S(FILLING) | S(HANDED_OVER) | S(GONE),
	[ROLE_FILLING] = S(ARMED) | S(HANDED_OVER) | S(GONE),
	[ROLE_ARMED] = S(TAKING_OVER) | S(HANDED_OVER) | S(GONE),
	[ROLE_TAKING_OVER] = S(TAKING_OVER) | S(ACTIVE) | S(HANDED_OVER) | S(FENCED),
	[ROLE_ACTIVE] = S(FENCED),
	[ROLE_HANDED_OVER] = S(HANDED_OVER) | S(FILLING) | S(GONE),
	[ROLE_GONE] = 0,
};

void role_enter(struct role *role, enum role_state state, enum role_why why,
		struct role_actions *ret)
{
	if (role->state == state && role->why == why)
		return;
	assert(legal[role->state] & (1u << state));
	role->state = state;
	role->why = why;
	ret->set |= ROLE_DO_LOUD;
	ret->why = why;
}

static void request(const struct role *role, struct role_actions *ret)
{
	ret->set |= ROLE_DO_PERSIST;
	ret->record = role->own;
}

void role_ask(struct role *role, uint64_t generation, enum record_role as,
	      const struct role_then *then, struct role_actions *ret)
{
	assert(generation >= role->own.generation);
	role->own.generation = generation;
	role->own.role = as;
	role->own.epoch = role->acked;
	role->pending = true;
	role->pending_state = then->state;
	role->pending_why = then->why;
	role->pending_actions = then->actions;
	role->pending_tolerant = then->tolerant;
	role->retry_ns = 0;
	request(role, ret);
}

/* The output stops now; the disk is asked after. What the record said before cannot let this
 * host run again either: it gave the right away, or the higher generation will be met again. */
void role_fence(struct role *role, uint64_t generation, enum role_why why, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_FENCED, .why = why };

	ret->set |= ROLE_DO_DROP_AND_STOP | ROLE_DO_END_EPOCHS | ROLE_DO_DISCONNECT;
	role->connected = false;
	role_enter(role, ROLE_FENCED, why, ret);
	role_ask(role, MAX(generation, role->own.generation), RECORD_STOPPED, &then, ret);
}

static void resume_pending(struct role *role, struct role_actions *ret)
{
	role->pending = false;
	role->retry_ns = 0;
	role_enter(role, role->pending_state, role->pending_why, ret);
	ret->set |= role->pending_actions;
	if (role->pending_actions & ROLE_DO_BEGIN_EPOCHS)
		role->epochs_begun = true;
	ret->epoch = role->acked;
	ret->generation = role->own.generation;
	ret->why = role->why;
}

/* An answer counts only for the record that is awaited now: an older request may have been
 * replaced while the disk was busy. */
static int persisted(struct role *role, const struct role_event *ev, uint64_t now_ns,
		     struct role_actions *ret)
{
	if (!role->pending || ev->record.generation != role->own.generation ||
	    ev->record.role != role->own.role)
		return -ESTALE;
	if (ev->kind == ROLE_EV_PERSISTED || role->pending_tolerant)
		resume_pending(role, ret);
	else if (!role_primary_persist_failed(role, ret))
		role->retry_ns = now_ns + role->config.heartbeat_ns;
	return 0;
}

static int start(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	struct role_then solo = { .state = ROLE_SOLO,
				  .why = ROLE_WHY_NO_BACKUP,
				  .actions = ROLE_DO_RELEASE_ALL };

	if (role->state != ROLE_STARTING || role->pending)
		return -EPERM;
	role->tick_ns = now_ns;
	switch (role->own.role) {
	case RECORD_NONE:
		role_ask(role, 1, RECORD_ACTIVE, &solo, ret);
		break;
	case RECORD_ACTIVE:
		if (role->side == ROLE_PRIMARY) {
			role_enter(role, ROLE_SOLO, ROLE_WHY_NO_BACKUP, ret);
			ret->set |= ROLE_DO_RELEASE_ALL;
		} else {
			role_enter(role, ROLE_ACTIVE, ROLE_WHY_RESTARTED, ret);
		}
		break;
	case RECORD_PRIMARY:
		/* The backup may hold a whole epoch: only what it says counts. */
		role_enter(role, ROLE_STALLED, ROLE_WHY_RESTARTED, ret);
		ret->set |= ROLE_DO_HOLD;
		break;
	case RECORD_STOPPED:
		role_enter(role, ROLE_FENCED, ROLE_WHY_SUPERSEDED, ret);
		ret->set |= ROLE_DO_DROP_AND_STOP;
		break;
	case RECORD_BACKUP:
		role_enter(role, ROLE_WAITING, ROLE_WHY_NONE, ret);
		break;
	}
	return 0;
}

int role_open(struct role *ret, enum role_side side, const struct role_config *config,
	      const struct record *own, const char *peer)
{
	struct role role = { .config = *config, .side = side, .why = ROLE_WHY_NO_BACKUP };

	if (!config->timeout_ns || !config->heartbeat_ns ||
	    config->heartbeat_ns > config->timeout_ns / 4 || !config->evidence_ns ||
	    config->margin_ns >= config->timeout_ns || strlen(peer) > RECORD_PEER_MAX)
		return -EINVAL;
	if (side == ROLE_BACKUP) {
		if (!own)
			return -EINVAL;
		if (own->role != RECORD_BACKUP && own->role != RECORD_ACTIVE)
			return -EPERM;
	} else if (own) {
		if (own->role == RECORD_BACKUP)
			return -EPERM;
		/* Only the host that has the right can give it back (P3). */
		if (own->role == RECORD_PRIMARY && strcmp(own->peer, peer))
			return -EPERM;
	}
	if (own)
		role.own = *own;
	role.has_record = own != NULL;
	snprintf(role.own.peer, sizeof(role.own.peer), "%s", peer);
	*ret = role;
	return 0;
}

static uint64_t next_tick(const struct role *role, uint64_t now_ns)
{
	uint64_t next = now_ns + role->config.heartbeat_ns;

	if ((role->state == ROLE_FENCED || role->state == ROLE_GONE) && !role->pending)
		return UINT64_MAX;
	if (role->state == ROLE_ARMED)
		next = MIN(next, role->heard_ns + role->config.timeout_ns);
	if (role->connected && role->side == ROLE_PRIMARY)
		next = MIN(next, role->next_heartbeat_ns);
	if (role->state == ROLE_SWITCHING)
		next = MIN(next, role->until_ns);
	return MAX(next, now_ns + NS_PER_MS);
}

/* Silence is measured by a host that was there to listen: after a gap in our own ticks
 * (the host was frozen, or starved) the measurement starts anew. */
static void tick(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	if (now_ns - role->tick_ns > role->config.timeout_ns / 2)
		role->heard_ns = now_ns;
	role->tick_ns = now_ns;
	if (role->retry_ns && now_ns >= role->retry_ns) {
		role->retry_ns = 0;
		request(role, ret);
	}
}

int role_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
	      struct role_actions *ret)
{
	int r;

	*ret = (struct role_actions){ .generation = role->own.generation, .why = role->why };
	if (ev->kind == ROLE_EV_START)
		r = start(role, now_ns, ret);
	else if (ev->kind == ROLE_EV_PERSISTED || ev->kind == ROLE_EV_PERSIST_FAILED)
		r = persisted(role, ev, now_ns, ret);
	else if (role->state == ROLE_STARTING && ev->kind != ROLE_EV_TICK)
		r = -EPERM;
	else {
		if (ev->kind == ROLE_EV_TICK)
			tick(role, now_ns, ret);
		r = role->side == ROLE_PRIMARY ? role_primary_step(role, ev, now_ns, ret)
					       : role_backup_step(role, ev, now_ns, ret);
	}
	ret->next_ns = next_tick(role, now_ns);
	return r;
}

enum role_verdict role_admit(const struct record *own, uint64_t peer_generation, const char *peer,
			     struct record *ret)
{
	uint64_t mine = own ? own->generation : 0;
	uint64_t highest = MAX(mine, peer_generation);
	enum record_role as = own ? own->role : RECORD_NONE;
	bool runs = as == RECORD_ACTIVE || as == RECORD_PRIMARY;
	bool outdated = mine > peer_generation;
	struct record rec = { .generation = highest + 1, .role = RECORD_BACKUP };

	snprintf(rec.peer, sizeof(rec.peer), "%s", peer);
	/* A backup's higher generation was given to `peer` and got lost on the way, or it was
	 * given to another host, and `peer` is the outdated one. */
	if (as == RECORD_BACKUP && !strcmp(own->peer, peer))
		outdated = false;
	if (highest >= UINT64_MAX - 2 || outdated || (runs && mine == peer_generation)) {
		*ret = own ? *own : rec;
		return ROLE_REFUSE;
	}
	*ret = rec;
	return runs ? ROLE_STOP_FIRST : ROLE_ADMIT;
}
