/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's half of role.h: from solo through the copy to protected, and what it does when
 * the backup falls silent (hold, P1), hands over (go on alone) or runs the VM itself (stop for
 * good, P3). Nothing here that depends on time gives the primary a right. Pure.
 */
#include "ha/role_impl.h"

#include "base/err.h"

/* The backup may hold a whole epoch of ours, and with it the solo right. */
static bool right_is_away(const struct role *role)
{
	return role->state == ROLE_PROTECTED || role->state == ROLE_STALLED ||
	       role->state == ROLE_SWITCHING || (role->state == ROLE_ARMING && role->epochs_begun);
}

static bool is_running(const struct role *role)
{
	return role->state != ROLE_FENCED && role->state != ROLE_STARTING;
}

/* The right was never given: no first epoch left. If the disk refuses, the record says less
 * than we may, which is safe: a restart would only stall. */
static void keep_right(struct role *role, enum role_why why, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_SOLO,
				  .why = why,
				  .actions = role->held ? 0 : ROLE_DO_RELEASE_ALL,
				  .tolerant = true };

	role->connected = false;
	ret->set |= ROLE_DO_DISCONNECT;
	role_ask(role, role->own.generation, RECORD_ACTIVE, &then, ret);
}

bool role_primary_persist_failed(struct role *role, struct role_actions *ret)
{
	if (role->side != ROLE_PRIMARY || role->state != ROLE_ARMING ||
	    role->own.role != RECORD_PRIMARY)
		return false;
	keep_right(role, ROLE_WHY_RECORD, ret);
	return true;
}

static int connected(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	if (role->state != ROLE_SOLO || role->pending)
		return -EPROTO;
	role->connected = true;
	role->leaving = false;
	role->epochs_begun = false;
	role->acked = 0;
	role->echo_ns = 0;
	role->heard_ns = now_ns;
	role->next_heartbeat_ns = now_ns;
	role_enter(role, ROLE_COPYING, ROLE_WHY_NONE, ret);
	ret->set |= ROLE_DO_BEGIN_COPY;
	return 0;
}

/* The connection is gone. Without the right, the VM stalls until the backup speaks. */
static void lose_peer(struct role *role, enum role_why why, struct role_actions *ret)
{
	role->connected = false;
	if (role->state == ROLE_COPYING) {
		role_enter(role, ROLE_SOLO, why, ret);
	} else if (right_is_away(role)) {
		ret->set |= ROLE_DO_END_EPOCHS;
		role_enter(role, ROLE_STALLED, why, ret);
	} else if (role->state == ROLE_ARMING) {
		keep_right(role, why, ret);
	}
}

static int copy_done(struct role *role, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_ARMING,
				  .why = ROLE_WHY_NONE,
				  .actions = ROLE_DO_BEGIN_EPOCHS };

	if (role->state != ROLE_COPYING)
		return -EPERM;
	/* Held from before the first boundary: what the guest emits after it is not covered
	 * until the epoch that holds it is acknowledged (P1). */
	ret->set |= ROLE_DO_HOLD;
	role_enter(role, ROLE_ARMING, ROLE_WHY_NONE, ret);
	role_ask(role, role->own.generation, RECORD_PRIMARY, &then, ret);
	return 0;
}

static void release(const struct role *role, struct role_actions *ret)
{
	if (!role->connected || !role->acked || !right_is_away(role))
		return;
	ret->set |= ROLE_DO_RELEASE;
	ret->release_epoch = role->acked;
	ret->release_before_ns = role_release_deadline(role);
}

/* Everything the guest has done here is acknowledged, and it does no more. The backup hears of
 * it once our disk says that this host will not run the VM again; until then, and if that
 * never comes, our silence tells it the same. What the last epoch sent has been released in
 * the step before: dropped, the guest would have to send it again, and from the new host it
 * does not know that it should (P1 allows it: it is acknowledged). */
static void yield(struct role *role, struct role_actions *ret)
{
	struct role_then then = {
		.state = ROLE_FENCED,
		.why = ROLE_WHY_SWITCHOVER,
		.actions = ROLE_DO_SEND_YIELD | ROLE_DO_BURY,
	};

	if (!role->last_epoch || role->acked < role->last_epoch)
		return;
	role_enter(role, ROLE_FENCED, ROLE_WHY_SWITCHOVER, ret);
	role_ask(role, role->own.generation, RECORD_STOPPED, &then, ret);
}

static int switch_over(struct role *role, const struct role_event *ev, struct role_actions *ret)
{
	if (!role->connected)
		return -ENOTCONN;
	if (role->state != ROLE_PROTECTED || role->pending)
		return -EPERM;
	role->last_epoch = 0;
	role->until_ns = ev->until_ns;
	role_enter(role, ROLE_SWITCHING, ROLE_WHY_SWITCHOVER, ret);
	ret->set |= ROLE_DO_LAST_EPOCH;
	return 0;
}

/* The right was never given away: the VM goes on here as if nothing had been asked. */
static void undo_switchover(struct role *role, struct role_actions *ret)
{
	if (role->state != ROLE_SWITCHING)
		return;
	role_enter(role, ROLE_PROTECTED, ROLE_WHY_NONE, ret);
	ret->set |= ROLE_DO_RUN_ON;
}

static int last_epoch(struct role *role, const struct role_event *ev, struct role_actions *ret)
{
	if (role->state != ROLE_SWITCHING)
		return -ESTALE;
	role->last_epoch = ev->epoch;
	yield(role, ret);
	return 0;
}

static int acknowledged(struct role *role, const struct role_event *ev, uint64_t now_ns,
			struct role_actions *ret)
{
	if (!role->connected || role->state == ROLE_FENCED)
		return -ESTALE;
	if (!role->epochs_begun || ev->epoch <= role->acked || ev->captured_ns > now_ns)
		return -EPROTO;
	role->heard_ns = now_ns;
	role->acked = ev->epoch;
	role->acked_captured_ns = ev->captured_ns;
	release(role, ret);
	if (role->state == ROLE_SWITCHING)
		yield(role, ret);
	else if (now_ns - ev->captured_ns <= role->config.evidence_ns)
		role_enter(role, ROLE_PROTECTED, ROLE_WHY_NONE, ret);
	role->held = false;
	return 0;
}

/* An answer that names another generation is none: the lease stays as it is. A higher one
 * that does not run the VM is a hand-over whose message is still on its way. */
static int echoed(struct role *role, const struct role_event *ev, uint64_t now_ns,
		  struct role_actions *ret)
{
	if (ev->active && ev->generation > role->own.generation) {
		role_fence(role, ev->generation, ROLE_WHY_SUPERSEDED, ret);
		return 0;
	}
	if (!role->connected || ev->generation != role->own.generation)
		return -ESTALE;
	if (ev->echo_ns > now_ns)
		return -EPROTO;
	role->heard_ns = now_ns;
	role->echo_ns = MAX(role->echo_ns, ev->echo_ns);
	release(role, ret);
	return 0;
}

/* The only message that lets a primary go on alone. */
static int handed_over(struct role *role, const struct role_event *ev, struct role_actions *ret)
{
	/* Asked anew and answered, a backup has nothing to say about why it had gone. */
	bool again = role->state == ROLE_SOLO && !role->leaving;
	struct role_then then = { .state = ROLE_SOLO, .why = again ? role->why : ev->why };

	if (ev->generation <= role->own.generation)
		return -ESTALE;
	if (ev->generation - role->own.generation > ROLE_GENERATION_LEAP)
		return -EPROTO;
	if (role->connected || role->leaving)
		ret->set |= ROLE_DO_END_EPOCHS | ROLE_DO_DISCONNECT;
	else
		then.actions |= ROLE_DO_CONNECT;
	role->connected = false;
	role->held |= role->config.stall_alone && right_is_away(role);
	role->held &= !role->leaving;
	if (!role->held)
		then.actions |= ROLE_DO_RELEASE_ALL;
	if (role->state == ROLE_COPYING)
		role_enter(role, ROLE_SOLO, ev->why, ret);
	role_ask(role, ev->generation, RECORD_ACTIVE, &then, ret);
	return 0;
}

/* Stop here so that the backup may run at once. The record is first: once YIELD is out this
 * host must not run the VM again, whatever happens to it. The backup ends the connections: the
 * end of one could overtake the word on the other. */
static int failover(struct role *role, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_FENCED,
				  .why = ROLE_WHY_FAILOVER,
				  .actions = ROLE_DO_SEND_YIELD };

	if (!role->connected)
		return -ENOTCONN;
	if ((role->state != ROLE_PROTECTED && role->state != ROLE_SWITCHING) || role->pending)
		return -EPERM;
	ret->set |= ROLE_DO_DROP_AND_STOP | ROLE_DO_END_EPOCHS;
	role_enter(role, ROLE_FENCED, ROLE_WHY_FAILOVER, ret);
	role_ask(role, role->own.generation, RECORD_STOPPED, &then, ret);
	return 0;
}

/* End protection, keep the VM: without the right, only the backup can give it back. */
static int leave(struct role *role, enum role_why why, struct role_actions *ret)
{
	if (right_is_away(role) && !role->connected)
		return -ENOTCONN;
	undo_switchover(role, ret);
	role->leaving = true;
	if (role_may_run_solo(role)) {
		if (role->held)
			ret->set |= ROLE_DO_RELEASE_ALL;
		role->held = false;
		role->connected = false;
		role->pending_actions &= ~(uint32_t)ROLE_DO_CONNECT;
		role->pending_why = why;
		ret->set |= ROLE_DO_DISCONNECT;
		role_enter(role, ROLE_SOLO, why, ret);
		return 0;
	}
	if (!right_is_away(role)) {
		role->held = false;
		keep_right(role, why, ret);
		return 0;
	}
	ret->set |= ROLE_DO_SEND_LEAVE;
	ret->why = why;
	return 0;
}

/* The operator's word outranks a takeover from the same generation: two up, where the backup
 * goes one up. If the backup did take over, it stops when the two meet. */
static int force(struct role *role, struct role_actions *ret)
{
	struct role_then then = { .state = ROLE_SOLO,
				  .why = ROLE_WHY_FORCED,
				  .actions = ROLE_DO_RELEASE_ALL };

	if (role_may_run_solo(role))
		return leave(role, ROLE_WHY_FORCED, ret);
	if (role->state == ROLE_PROTECTED || role->state == ROLE_SWITCHING)
		return -EPERM;
	role->connected = role->held = false;
	role->leaving = true;
	ret->set |= ROLE_DO_END_EPOCHS | ROLE_DO_DISCONNECT;
	role_ask(role, role->own.generation + 2, RECORD_ACTIVE, &then, ret);
	return 0;
}

static void ticked(struct role *role, uint64_t now_ns, struct role_actions *ret)
{
	if (role->state == ROLE_SWITCHING && now_ns >= role->until_ns)
		undo_switchover(role, ret);
	if (role->state == ROLE_PROTECTED &&
	    now_ns - role->acked_captured_ns > role->config.evidence_ns)
		role_enter(role, ROLE_STALLED, ROLE_WHY_NONE, ret);
	if (!role->connected || !is_running(role))
		return;
	/* Longer than the backup's own patience: it has decided before we give up on it. */
	if (now_ns - role->heard_ns > 2 * role->config.timeout_ns) {
		ret->set |= ROLE_DO_DISCONNECT;
		lose_peer(role, ROLE_WHY_BACKUP_LOST, ret);
		return;
	}
	if (now_ns >= role->next_heartbeat_ns) {
		role->next_heartbeat_ns = now_ns + role->config.heartbeat_ns;
		ret->set |= ROLE_DO_SEND_HEARTBEAT;
	}
}

static int refused(struct role *role, const struct role_event *ev, struct role_actions *ret)
{
	if (ev->generation <= role->own.generation)
		return -ESTALE;
	role_fence(role, ev->generation, ROLE_WHY_SUPERSEDED, ret);
	return 0;
}

/* A stopped primary hears nothing any more; it only waits for its record. */
int role_primary_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
		      struct role_actions *ret)
{
	if (!is_running(role))
		return ev->kind == ROLE_EV_TICK || ev->kind == ROLE_EV_DISCONNECTED ? 0 : -ESTALE;
	switch (ev->kind) {
	case ROLE_EV_CONNECTED:
		return connected(role, now_ns, ret);
	case ROLE_EV_DISCONNECTED:
		if (role->connected)
			lose_peer(role, ROLE_WHY_BACKUP_LOST, ret);
		return 0;
	case ROLE_EV_TICK:
		ticked(role, now_ns, ret);
		return 0;
	case ROLE_EV_COPY_DONE:
		return copy_done(role, ret);
	case ROLE_EV_ACK:
		return acknowledged(role, ev, now_ns, ret);
	case ROLE_EV_ECHO:
		return echoed(role, ev, now_ns, ret);
	case ROLE_EV_HANDOVER:
		return handed_over(role, ev, ret);
	case ROLE_EV_REFUSED:
		return refused(role, ev, ret);
	case ROLE_EV_YIELD_REQUEST:
	case ROLE_EV_OP_FAILOVER:
		return failover(role, ret);
	case ROLE_EV_OP_SWITCHOVER:
		return switch_over(role, ev, ret);
	case ROLE_EV_LAST_EPOCH:
		return last_epoch(role, ev, ret);
	case ROLE_EV_OP_UNPROTECT:
		return leave(role, ROLE_WHY_OPERATOR, ret);
	case ROLE_EV_LOCAL_FAILURE:
		return leave(role, ev->why, ret);
	case ROLE_EV_OP_UNPROTECT_FORCE:
		return force(role, ret);
	case ROLE_EV_START:
	case ROLE_EV_PERSISTED:
	case ROLE_EV_PERSIST_FAILED:
	case ROLE_EV_HEARTBEAT:
	case ROLE_EV_EPOCH_WHOLE:
	case ROLE_EV_RETURNED:
	case ROLE_EV_LEAVE:
	case ROLE_EV_YIELD:
	case ROLE_EV_TAKEN_OVER:
	case ROLE_NR_EVENTS:
		break;
	}
	return -EPROTO;
}

bool role_may_run_solo(const struct role *role)
{
	return role->state == ROLE_SOLO || role->state == ROLE_COPYING ||
	       role->state == ROLE_ACTIVE;
}

bool role_wants_backup(const struct role *role)
{
	if (role->connected || role->pending)
		return false;
	/* Told to leave, a stalled primary still needs the backup: to get the right back. */
	return role->state == ROLE_STALLED || (role->state == ROLE_SOLO && !role->leaving);
}

/* The backup counts its silence from when it received the heartbeat, which was not before we
 * sent it: until echo + timeout it cannot have taken over. */
uint64_t role_release_deadline(const struct role *role)
{
	if (role_may_run_solo(role))
		return UINT64_MAX;
	if (!right_is_away(role) || !role->connected || !role->echo_ns)
		return 0;
	return role->echo_ns + role->config.timeout_ns - role->config.margin_ns;
}
