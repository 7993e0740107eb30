/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may run the VM: one host's part, for one VM (docs/failure-model.md). Pure: no clock, socket,
 * allocation or thread inside. The caller feeds events with the time it read from
 * clock_now_ns(), one at a time, and does what the returned actions say.
 *
 * The invariant behind P3. Of the two hosts exactly one holds the *solo right*: only it may
 * emit without an acknowledgement. The primary has it until it arms the backup; from the
 * moment it may send the end of the first epoch, the backup has it; a hand-over gives it back.
 * Each move is on the disk of the giver (or has destroyed what the giver would run: the
 * standby) before the taker hears of it. So:
 *  - a primary without the right emits only what the backup acknowledged (P1);
 *  - a backup persists {generation + 1, active} before its takeover, and from that decision on
 *    acknowledges nothing and answers no heartbeat;
 *  - a host that meets a higher generation that runs the VM stops its own for good.
 *
 * The lease is a second line, by timing: a primary releases only while `release_before_ns`,
 * counted from the send time of the youngest heartbeat that the backup answered, has not
 * passed; the backup cannot have timed out by then. A primary that was frozen and wakes after
 * a takeover therefore releases nothing, not even what was acknowledged before.
 */
#ifndef POLLUX_HA_ROLE_H
#define POLLUX_HA_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "ha/record.h"

/* A generation rises by one or two at a time; a peer that claims a leap beyond this would
 * use up the numbers, and is refused. */
#define ROLE_GENERATION_LEAP (UINT64_C(1) << 32)

enum role_side { ROLE_PRIMARY, ROLE_BACKUP };

enum role_state {
	ROLE_STARTING, /* no START yet, or its record is being written */
	/* primary */
	ROLE_SOLO,	/* has the solo right, no backup: output flows, unprotected */
	ROLE_COPYING,	/* has the solo right, the first copy runs: output flows, unprotected */
	ROLE_ARMING,	/* gives the right away: output held until the first epoch is acked */
	ROLE_PROTECTED, /* emits what is acknowledged */
	ROLE_STALLED,	/* as PROTECTED, but no acknowledgement comes: emits nothing */
	ROLE_SWITCHING, /* as PROTECTED; the guest's last epoch here is on its way */
	ROLE_FENCED,	/* stopped for good: the VM runs elsewhere */
	/* backup */
	ROLE_WAITING,	  /* no standby yet */
	ROLE_FILLING,	  /* the first copy arrives; nothing whole yet */
	ROLE_ARMED,	  /* holds a whole epoch and the solo right */
	ROLE_TAKING_OVER, /* decided; acknowledges nothing more */
	ROLE_ACTIVE,	  /* took over: runs the VM, has the right */
	ROLE_HANDED_OVER, /* gave the right back; its standby is gone */
	ROLE_GONE,	  /* nothing left to do here: the process may end */
	ROLE_NR_STATES,
};

/* Why a VM is not protected, a host stopped, or a backup left. Stable: status, events and
 * the wire carry role_why_name(). */
enum role_why {
	ROLE_WHY_NONE,
	ROLE_WHY_NO_BACKUP,	  /* never protected, or since the start of this process */
	ROLE_WHY_RESTARTED,	  /* started with a record that says the backup has the right */
	ROLE_WHY_BACKUP_LOST,	  /* the link or the backup went away */
	ROLE_WHY_BACKUP_RETURNED, /* the backup came (back) with nothing, all is copied again */
	ROLE_WHY_DISK_ERROR,	  /* the backup's disk */
	ROLE_WHY_NO_SPACE,
	ROLE_WHY_LOCAL_ERROR, /* this host's engine cannot go on */
	ROLE_WHY_RECORD,      /* the record cannot be written */
	ROLE_WHY_OPERATOR,    /* told so */
	ROLE_WHY_FORCED,      /* unprotect --force */
	ROLE_WHY_FAILOVER,    /* told to fail over */
	ROLE_WHY_SILENCE,     /* the primary was silent for the timeout */
	ROLE_WHY_SUPERSEDED,  /* a higher generation runs the VM */
	ROLE_WHY_SWITCHOVER,  /* told to move the VM, with all that it has done */
	ROLE_NR_WHYS,
};

enum role_event_kind {
	/* First of all, once. Primary without a record: generation 1 is written. */
	ROLE_EV_START,
	/* The record asked for by ROLE_DO_PERSIST is on disk / could not be written. `record`
	 * is the one that was asked for. One answer to each PERSIST, in order. */
	ROLE_EV_PERSISTED,
	ROLE_EV_PERSIST_FAILED,
	/* Both connections to the peer stand and speak our generation / one of them broke.
	 * CONNECTED on a primary only after ROLE_DO_CONNECT; DISCONNECTED may come twice. */
	ROLE_EV_CONNECTED,
	ROLE_EV_DISCONNECTED,
	/* Time passes. Call at least at `next_ns`. Feed what the sockets hold BEFORE the tick:
	 * a tick looks for silence. */
	ROLE_EV_TICK,

	/* Primary: the live copy has converged; the next thing is the first checkpoint. */
	ROLE_EV_COPY_DONE,
	/* Primary: the backup acknowledged `epoch` (checked by epoch_step() first), whose
	 * boundary was at `captured_ns`. */
	ROLE_EV_ACK,
	/* Primary: the backup answered our heartbeat that we sent at `echo_ns`.
	 * `generation`, `active`: the backup's, `active` meaning it runs the VM. */
	ROLE_EV_ECHO,
	/* Primary: the backup gave the right to us in `generation`, because of `why`. It comes as
	 * the answer to "prepare" (ROLE_DO_CONNECT follows), or as a message while connected. */
	ROLE_EV_HANDOVER,
	/* Either: the peer says that `generation` runs the VM, and it is not ours. */
	ROLE_EV_REFUSED,
	/* Primary: the backup's operator asks for a failover. Same as ROLE_EV_OP_FAILOVER. */
	ROLE_EV_YIELD_REQUEST,

	/* Primary: the guest stands still after its last checkpoint, that of `epoch`
	 * (ROLE_DO_LAST_EPOCH). */
	ROLE_EV_LAST_EPOCH,

	/* Backup: a heartbeat of the primary at `generation`; `active` as above: it holds the
	 * solo right. Any other authenticated frame of the primary may be reported so too. */
	ROLE_EV_HEARTBEAT,
	/* Backup: all frames of `epoch` at `generation` are here and checked. */
	ROLE_EV_EPOCH_WHOLE,
	/* Backup: the primary connects anew, from the start, at `generation` ("prepare"). Only
	 * while the one who asked still waits for the answer, and in the order of asking: the
	 * standby is dropped, so an old request must not be served after a new connection. */
	ROLE_EV_RETURNED,
	/* Backup: the primary asks us to hand over (unprotect, or it cannot go on: `why`). */
	ROLE_EV_LEAVE,
	/* Backup: the primary has stopped its VM and yields to us, because of `why`. */
	ROLE_EV_YIELD,
	/* Backup: ROLE_DO_TAKEOVER is done: the guest runs here. */
	ROLE_EV_TAKEN_OVER,

	/* This host cannot go on with protection (disk error, no space...): `why`. A backup hands
	 * over, but not to silence: its disk may get well, and what it holds may be the last
	 * there is. On one that takes over: the guest has NOT run, and will not before the next
	 * ROLE_DO_TAKEOVER, which comes unless the primary is heard of before. */
	ROLE_EV_LOCAL_FAILURE,
	/* Commands; refused with a negative errno. */
	ROLE_EV_OP_FAILOVER,   /* primary: stop here, run there; backup: ask for that */
	ROLE_EV_OP_SWITCHOVER, /* primary: the same, after a last epoch; undone at `until_ns` */
	ROLE_EV_OP_UNPROTECT,  /* primary, connected: ask for the right back */
	ROLE_EV_OP_UNPROTECT_FORCE, /* primary: the operator made sure the backup is dead */
	ROLE_NR_EVENTS,
};

struct role_event {
	enum role_event_kind kind;
	uint64_t generation;
	uint64_t epoch;
	uint64_t captured_ns;
	uint64_t echo_ns;
	uint64_t until_ns;
	bool active;
	enum role_why why;
	struct record record;
};

/* Do them in this order (lowest bit first). What must wait for the disk is not in the set
 * that holds PERSIST: it comes out of the step that is told ROLE_EV_PERSISTED. */
enum role_action {
	/* Drop the held output and stop the VM for good. */
	ROLE_DO_DROP_AND_STOP = 1 << 0,
	/* Hold all output from now on. */
	ROLE_DO_HOLD = 1 << 1,
	/* Drop the standby VM and everything uncommitted; before anybody is told. */
	ROLE_DO_DROP_STANDBY = 1 << 2,
	/* Write `record` with record_write(); answer PERSISTED or PERSIST_FAILED. */
	ROLE_DO_PERSIST = 1 << 3,
	/* Release epochs up to `release_epoch`, if clock_now_ns() < `release_before_ns` when
	 * it is done; else skip it: the next echo asks again. Idempotent. One that is not done
	 * yet is void after HOLD, END_EPOCHS and RELEASE_ALL: epochs are numbered anew. */
	ROLE_DO_RELEASE = 1 << 4,
	/* Release everything held and let output flow: epoch_step(EPOCH_EV_STOP). */
	ROLE_DO_RELEASE_ALL = 1 << 5,
	/* Begin epochs: epoch_step(EPOCH_EV_START), the first checkpoint. */
	ROLE_DO_BEGIN_EPOCHS = 1 << 6,
	/* End epochs: epoch_step(EPOCH_EV_STALL); drop the stage. */
	ROLE_DO_END_EPOCHS = 1 << 7,
	/* Acknowledge `epoch`. From here on a takeover includes it. */
	ROLE_DO_ACK = 1 << 8,
	/* Commit up to `epoch`, drop what is partial, load, announce, run; then TAKEN_OVER. */
	ROLE_DO_TAKEOVER = 1 << 9,
	/* Messages to the peer, where it is connected. They carry `generation` and `why`. */
	ROLE_DO_SEND_HEARTBEAT = 1 << 10, /* with our send time, on every path */
	ROLE_DO_SEND_ECHO = 1 << 11,	  /* the answer to the heartbeat just fed */
	ROLE_DO_SEND_HANDOVER = 1 << 12,
	ROLE_DO_SEND_REFUSE = 1 << 13,
	ROLE_DO_SEND_LEAVE = 1 << 14,
	ROLE_DO_SEND_YIELD = 1 << 15,
	ROLE_DO_SEND_YIELD_REQUEST = 1 << 16,
	/* Close the connections, after what is to be sent, and with them a copy that runs. No
	 * DISCONNECTED need follow. */
	ROLE_DO_DISCONNECT = 1 << 17,
	/* The state or its reason changed: log it, publish role_word(). */
	ROLE_DO_LOUD = 1 << 18,
	/* Primary: the generation given to us is on disk: connect to the backup's port. */
	ROLE_DO_CONNECT = 1 << 19,
	/* Primary: connected: begin the live copy; then ROLE_EV_COPY_DONE. */
	ROLE_DO_BEGIN_COPY = 1 << 20,
	/* Primary: epoch_step(EPOCH_EV_LAST); then ROLE_EV_LAST_EPOCH. */
	ROLE_DO_LAST_EPOCH = 1 << 21,
	/* Primary: nothing has changed: epoch_step(EPOCH_EV_RUN_ON). */
	ROLE_DO_RUN_ON = 1 << 22,
	/* Primary: as DROP_AND_STOP, of a VM that stands still and whose record says so for good:
	 * it can wait until the peer knows that it may run. */
	ROLE_DO_BURY = 1 << 23,
};

struct role_actions {
	uint32_t set; /* of enum role_action */
	struct record record;
	uint64_t release_epoch;
	uint64_t release_before_ns;
	uint64_t epoch;
	uint64_t generation;
	enum role_why why;
	uint64_t next_ns; /* when the next TICK is due; always set */
};

struct role_config {
	uint64_t timeout_ns;   /* silence after which the backup takes over */
	uint64_t heartbeat_ns; /* between heartbeats; at most a quarter of the timeout */
	uint64_t margin_ns;    /* the lease ends that much before the timeout */
	uint64_t evidence_ns;  /* an older acknowledged epoch is no evidence (P5): STALLED */
	/* Once protected, a primary to which the right comes back emits nothing until it is
	 * protected again (on_peer_loss = stall). */
	bool stall_alone;
};

struct role {
	struct role_config config;
	enum role_side side;
	enum role_state state;
	enum role_why why;
	struct record own; /* as we last asked it to be on disk */
	bool has_record;   /* `own` was read at the start, not made up */

	bool connected;
	bool leaving;	   /* LEAVE was sent: what comes back is no reconnect */
	bool epochs_begun; /* the peer may hold a whole epoch of this connection */
	uint64_t acked;	   /* primary: last acknowledged; backup: last whole epoch */
	uint64_t acked_captured_ns;
	uint64_t echo_ns;  /* primary: youngest answered heartbeat's send time; 0: none */
	uint64_t heard_ns; /* start of the peer's present silence */
	uint64_t tick_ns;  /* last tick */
	uint64_t next_heartbeat_ns;
	bool held;    /* primary: has the right and emits nothing: `stall_alone` */
	bool failing; /* backup: cannot go on, and hands over if the primary is heard */
	enum role_why failing_why;
	uint64_t again_ns;   /* TAKING_OVER and failing: when to try once more */
	uint64_t last_epoch; /* SWITCHING: the one to be acknowledged; 0: not taken yet */
	uint64_t until_ns;   /* SWITCHING: when the guest runs on here if it is not */

	/* What waits for PERSISTED. */
	bool pending;
	bool pending_tolerant; /* goes on even if the disk refuses */
	enum role_state pending_state;
	enum role_why pending_why;
	uint32_t pending_actions;
	uint64_t retry_ns; /* 0, or when to ask for the same record again */
};

/* `own` is NULL where record_read() said -ENOENT. Any other error of it: do not start.
 * -EPERM: the record forbids this side (a backup's record on a primary; a primary whose right
 * lies with another host than `peer`); -EINVAL: configuration, or a backup without a record. */
int role_open(struct role *ret, enum role_side side, const struct role_config *config,
	      const struct record *own, const char *peer);

/* One event. 0, or -EPERM (a command that may not be done now), -ENOTCONN (a command that
 * needs the peer), -EPROTO (the peer may not say this now: end the connection, then feed
 * DISCONNECTED), -ESTALE (a generation that is not ours: dropped). `ret` is always valid. */
int role_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
	      struct role_actions *ret);

/* Until when output may be released: UINT64_MAX with the solo right, 0 for never. */
uint64_t role_release_deadline(const struct role *role);
/* Whether output flows without waiting for acknowledgements. */
bool role_may_run_solo(const struct role *role);
/* Primary: whether the engine should ask the backup host to prepare, with the generation
 * `role->own.generation`, now and again until it answers. */
bool role_wants_backup(const struct role *role);

/* P5: the one word. `text` is "protected" or "not protected: REASON". */
struct role_word {
	bool protected;
	uint64_t age_ns; /* of the last committed epoch; UINT64_MAX: none */
	char text[120];
};
void role_word(const struct role *role, uint64_t now_ns, struct role_word *ret);

const char *role_state_name(enum role_state state);
const char *role_why_name(enum role_why why);
/* The inverse of role_why_name(), for messages; ROLE_WHY_NONE for what it does not know. */
enum role_why role_why_parse(const char *name);

/* What a host answers to a primary at `peer_generation`, named `peer`, that asks it to be the
 * backup ("prepare"), from its record alone (NULL: none). Where a backup process for the VM
 * still lives, it must be fed ROLE_EV_RETURNED instead, since it may be taking over. */
enum role_verdict {
	ROLE_ADMIT,	 /* write `ret`, answer HANDOVER with its generation, await the copy */
	ROLE_STOP_FIRST, /* our own VM is outdated: stop it for good, then as ROLE_ADMIT */
	ROLE_REFUSE,	 /* answer REFUSED with `ret->generation` */
};
enum role_verdict role_admit(const struct record *own, uint64_t peer_generation, const char *peer,
			     struct record *ret);

#endif
