/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's half of role.h: from the first whole epoch on it holds the solo right, and ends
 * in one of two ways: it takes over (silence, or the primary yields) or it hands the right
 * back. Both are decided in memory first, in one step, and exclude each other; what the other
 * host hears comes after. Pure.
 */
#include "ha/role_impl.h"

#include "base/err.h"

/* The standby goes before the primary is told: nothing is left that could take over, so even
 * a record that cannot be written (this disk may be the reason) endangers nothing. Only after
 * a takeover was decided the record must say otherwise first: on disk we may be active. */
static void hand_over(struct role *role, uint64_t generation, enum role_why why,
		      struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_HANDED_OVER,
				  .why = why,
				  .actions = ROLE_DO_SEND_HANDOVER,
				  .tolerant = role->state != ROLE_TAKING_OVER };

	role->failing = false;
	if (role->state == ROLE_HANDED_OVER && role->pending)
		then.tolerant = role->pending_tolerant;
	role->acked = 0;
	ret->set |= ROLE_DO_DROP_STANDBY;
	role_enter(role, ROLE_HANDED_OVER, why, ret);
	role_ask(role, generation, RECORD_BACKUP, &then, ret);
}

static void leave_for_good(struct role *role, enum role_why why, struct role_actions *ret)
{
	role->connected = false;
	role->acked = 0;
	ret->set |= ROLE_DO_DROP_STANDBY | ROLE_DO_DISCONNECT;
	role_enter(role, ROLE_GONE, why, ret);
}

/* Runs somewhere else at a higher generation: what we hold is outdated. */
static void supersede(struct role *role, uint64_t generation, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_GONE,
				  .why = ROLE_WHY_SUPERSEDED,
				  .tolerant = true };

	if (role->state == ROLE_TAKING_OVER || role->state == ROLE_ACTIVE) {
		role_fence(role, generation, ROLE_WHY_SUPERSEDED, ret);
		return;
	}
	if (role->state == ROLE_GONE)
		return;
	leave_for_good(role, ROLE_WHY_SUPERSEDED, ret);
	role_ask(role, generation, RECORD_BACKUP, &then, ret);
}

/* From here on nothing is acknowledged and no heartbeat answered, so that the primary's lease
 * runs out while the record is written. There is no way back to ARMED: the record may be on
 * disk although the write failed, so it is asked for again until it is there. */
static void take_over(struct role *role, enum role_why why, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_TAKING_OVER,
				  .why = why,
				  .actions = ROLE_DO_TAKEOVER };

	role->failing = false;
	role_enter(role, ROLE_TAKING_OVER, why, ret);
	role_ask(role, role->own.generation + 1, RECORD_ACTIVE, &then, ret);
}

static int connected(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	if ((role->state != ROLE_WAITING && role->state != ROLE_HANDED_OVER) || role->pending)
		return -EPROTO;
	role->connected = true;
	role->heard_ns = now_ns;
	role->acked = 0;
	role_enter(role, ROLE_FILLING, ROLE_WHY_NONE, ret);
	return 0;
}

static void disconnected(struct role *role, struct role_actions *ret)
{
	if (!role->connected)
		return;
	role->connected = false;
	if (role->state == ROLE_FILLING)
		leave_for_good(role, ROLE_WHY_BACKUP_LOST, ret);
	else if (role->state == ROLE_HANDED_OVER && !role->pending)
		role_enter(role, ROLE_GONE, role->why, ret);
}

static int heartbeat(struct role *role, const struct role_event *ev, uint64_t now_ns,
		     struct role_actions *ret)
{
	if (ev->generation > role->own.generation) {
		if (!ev->active)
			return -ESTALE;
		supersede(role, ev->generation, ret);
		return 0;
	}
	if (ev->generation < role->own.generation) {
		/* Said only once the guest runs here: until then the takeover may still fail,
		 * and the primary, stalled, is the only one left. */
		if (role->state == ROLE_ACTIVE)
			ret->set |= ROLE_DO_SEND_REFUSE;
		return -ESTALE;
	}
	if (!role->connected || (role->state != ROLE_FILLING && role->state != ROLE_ARMED))
		return -ESTALE;
	if (role->failing) {
		hand_over(role, role->own.generation + 1, role->failing_why, ret);
		return 0;
	}
	/* An echo is a promise: no takeover before the timeout from now. */
	role->heard_ns = now_ns;
	ret->set |= ROLE_DO_SEND_ECHO;
	return 0;
}

static int epoch_whole(struct role *role, const struct role_event *ev, uint64_t now_ns,
		       struct role_actions *ret)
{
	if (!role->connected || ev->generation != role->own.generation ||
	    (role->state != ROLE_FILLING && role->state != ROLE_ARMED))
		return -ESTALE;
	if (ev->epoch != role->acked + 1)
		return -EPROTO;
	if (role->failing) {
		hand_over(role, role->own.generation + 1, role->failing_why, ret);
		return 0;
	}
	role->acked = ev->epoch;
	role->acked_captured_ns = now_ns;
	role->heard_ns = now_ns;
	if (role->state == ROLE_FILLING)
		role_enter(role, ROLE_ARMED, ROLE_WHY_NONE, ret);
	ret->set |= ROLE_DO_ACK;
	ret->epoch = ev->epoch;
	return 0;
}

/* The primary comes anew: what we hold of it is worth nothing to it. */
static int returned(struct role *role, const struct role_event *ev, uint64_t now_ns,
		    struct role_actions *ret)
{
	uint64_t highest = MAX(ev->generation, role->own.generation);

	if (highest >= UINT64_MAX - 2)
		return -EPROTO;
	switch (role->state) {
	case ROLE_FILLING:
	case ROLE_ARMED:
		/* It has connected at our generation since: this is an old request, and what
		 * we hold may be the last there is. */
		if (ev->generation < role->own.generation)
			return -ESTALE;
		__attribute__((fallthrough));
	case ROLE_WAITING:
	case ROLE_HANDED_OVER:
		role->connected = false;
		role->heard_ns = now_ns;
		hand_over(role, highest + 1, ROLE_WHY_BACKUP_RETURNED, ret);
		return 0;
	case ROLE_ACTIVE:
		if (ev->generation > role->own.generation)
			supersede(role, ev->generation, ret);
		else
			ret->set |= ROLE_DO_SEND_REFUSE;
		return 0;
	case ROLE_TAKING_OVER:
		if (role->failing && !role->pending) {
			role->heard_ns = now_ns;
			hand_over(role, highest + 1, ROLE_WHY_BACKUP_RETURNED, ret);
			return 0;
		}
		if (ev->generation <= role->own.generation)
			return -EPERM;
		supersede(role, ev->generation, ret);
		return 0;
	case ROLE_STARTING:
	case ROLE_SOLO:
	case ROLE_COPYING:
	case ROLE_ARMING:
	case ROLE_PROTECTED:
	case ROLE_STALLED:
	case ROLE_SWITCHING:
	case ROLE_FENCED:
	case ROLE_GONE:
	case ROLE_NR_STATES:
		break;
	}
	return -EPERM;
}

/* A takeover that failed, and a disk that fails while the primary is silent: whom should the
 * right go to? The standby stays, and the primary gets it as soon as it is heard of. */
static bool is_silent(const struct role *role, uint64_t now_ns)
{
	return !role->connected || now_ns - role->heard_ns >= role->config.timeout_ns / 2;
}

static void fail(struct role *role, enum role_why why, uint64_t now_ns, struct role_actions *ret)
{
	role->failing = true;
	role->failing_why = why;
	role->again_ns = now_ns + role->config.timeout_ns;
	ret->set |= ROLE_DO_LOUD;
}

static int local_failure(struct role *role, enum role_why why, uint64_t now_ns,
			 struct role_actions *ret)
{
	bool mends = why == ROLE_WHY_DISK_ERROR || why == ROLE_WHY_NO_SPACE;

	if (role->state == ROLE_ACTIVE || role->state == ROLE_HANDED_OVER ||
	    role->state == ROLE_GONE || role->state == ROLE_FENCED)
		return 0;
	if (role->state == ROLE_TAKING_OVER) {
		if (!role->pending)
			fail(role, why, now_ns, ret);
		return 0;
	}
	if (role->state == ROLE_ARMED && mends && is_silent(role, now_ns)) {
		fail(role, why, now_ns, ret);
		return 0;
	}
	role->heard_ns = now_ns;
	hand_over(role, role->own.generation + 1, why, ret);
	return 0;
}

static int asked_to_leave(struct role *role, enum role_why why, uint64_t now_ns,
			  struct role_actions *ret)
{
	if (!role->connected || (role->state != ROLE_FILLING && role->state != ROLE_ARMED))
		return -ESTALE;
	role->heard_ns = now_ns;
	hand_over(role, role->own.generation + 1, why, ret);
	return 0;
}

static void ticked(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	if (role->state == ROLE_TAKING_OVER && role->failing && now_ns >= role->again_ns) {
		role->failing = false;
		ret->set |= ROLE_DO_TAKEOVER;
		ret->epoch = role->acked;
	}
	if (now_ns - role->heard_ns < role->config.timeout_ns)
		return;
	if (role->state == ROLE_ARMED)
		take_over(role, ROLE_WHY_SILENCE, ret);
	else if (role->state == ROLE_FILLING)
		leave_for_good(role, ROLE_WHY_BACKUP_LOST, ret);
	else if (role->state == ROLE_HANDED_OVER && !role->pending)
		leave_for_good(role, role->why, ret);
}

static int yielded(struct role *role, const struct role_event *ev, struct role_actions *ret)
{
	if (role->state != ROLE_ARMED || ev->generation != role->own.generation)
		return -ESTALE;
	take_over(role, ev->why == ROLE_WHY_SWITCHOVER ? ev->why : ROLE_WHY_FAILOVER, ret);
	return 0;
}

static int taken_over(struct role *role, struct role_actions *ret)
{
	if (role->state != ROLE_TAKING_OVER || role->pending)
		return -EPERM;
	role_enter(role, ROLE_ACTIVE, role->why, ret);
	ret->set |= ROLE_DO_SEND_REFUSE;
	return 0;
}

static int failover(struct role *role, struct role_actions *ret)
{
	if (role->state != ROLE_ARMED)
		return -EPERM;
	if (!role->connected)
		return -ENOTCONN;
	ret->set |= ROLE_DO_SEND_YIELD_REQUEST;
	return 0;
}

int role_backup_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
		     struct role_actions *ret)
{
	switch (ev->kind) {
	case ROLE_EV_CONNECTED:
		return connected(role, now_ns, ret);
	case ROLE_EV_DISCONNECTED:
		disconnected(role, ret);
		return 0;
	case ROLE_EV_TICK:
		ticked(role, now_ns, ret);
		return 0;
	case ROLE_EV_REFUSED:
		if (ev->generation <= role->own.generation)
			return -ESTALE;
		supersede(role, ev->generation, ret);
		return 0;
	case ROLE_EV_HEARTBEAT:
		return heartbeat(role, ev, now_ns, ret);
	case ROLE_EV_EPOCH_WHOLE:
		return epoch_whole(role, ev, now_ns, ret);
	case ROLE_EV_RETURNED:
		return returned(role, ev, now_ns, ret);
	case ROLE_EV_LEAVE:
		return asked_to_leave(role, ev->why, now_ns, ret);
	case ROLE_EV_YIELD:
		return yielded(role, ev, ret);
	case ROLE_EV_TAKEN_OVER:
		return taken_over(role, ret);
	case ROLE_EV_LOCAL_FAILURE:
		return local_failure(role, ev->why, now_ns, ret);
	case ROLE_EV_OP_FAILOVER:
		return failover(role, ret);
	case ROLE_EV_OP_SWITCHOVER:
	case ROLE_EV_OP_UNPROTECT:
	case ROLE_EV_OP_UNPROTECT_FORCE:
		return -EPERM;
	case ROLE_EV_START:
	case ROLE_EV_PERSISTED:
	case ROLE_EV_PERSIST_FAILED:
	case ROLE_EV_COPY_DONE:
	case ROLE_EV_ACK:
	case ROLE_EV_ECHO:
	case ROLE_EV_HANDOVER:
	case ROLE_EV_YIELD_REQUEST:
	case ROLE_EV_LAST_EPOCH:
	case ROLE_NR_EVENTS:
		break;
	}
	return -EPROTO;
}
