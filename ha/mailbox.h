/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the threads of pollux-ha tell the one that decides what has happened: letters in
 * the order of posting. Deciding (role.h, epoch.h) stays in one thread, so that the pure
 * machines need no lock and an epoch can be followed in one place.
 */
#ifndef POLLUX_HA_MAILBOX_H
#define POLLUX_HA_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ha/role.h"

enum letter_kind {
	/* To the primary's main thread. */
	LETTER_PREPARED,    /* the other host is ready: generation, value: its port */
	LETTER_CONNECTED,   /* dial_take_connected() has the connections */
	LETTER_DIAL_FAILED, /* `why`: the peer cannot be reached or will not now */
	LETTER_ACK,	    /* epoch, value: the digest acknowledged */
	LETTER_DURABLE,	    /* epoch, value: disk records of the first copy */
	LETTER_ECHO,	    /* generation, echo_ns, epoch (committed), age_ns, active */
	LETTER_SENDING_END, /* epoch, value: its digest; its last frame is about to leave */
	LETTER_ROUND_SENT,  /* a live round is sent */
	/* To the backup's. */
	LETTER_HEARTBEAT,   /* generation, echo_ns: the peer's send time */
	LETTER_EPOCH_WHOLE, /* generation, epoch, value: digest to acknowledge */
	LETTER_COMMITTED,   /* epoch: applied */
	LETTER_SETTLED,	    /* epoch: in DRBD */
	/* To both. */
	LETTER_HANDOVER, /* generation, reason_why */
	LETTER_REFUSED,	 /* generation, why */
	LETTER_LEAVE,	 /* reason_why */
	LETTER_YIELD,	 /* reason_why; echo_ns, age_ns: YIELD's two spans */
	LETTER_YIELD_REQUEST,
	LETTER_BROKEN, /* the link broke; why */
	LETTER_FAILED, /* this host cannot go on: why; a backup's: reason_why */
};

struct letter {
	enum letter_kind kind;
	uint64_t session; /* of the link that it is about; letters of dead links are dropped */
	uint64_t generation;
	uint64_t epoch;
	uint64_t echo_ns;
	uint64_t age_ns;
	uint64_t value;
	bool active;
	enum role_why reason_why;
	struct reason why;
};

#define MAILBOX_LETTERS 256u

struct mailbox;

int mailbox_open(struct mailbox **ret);
void mailbox_close(struct mailbox *m);
/* Any thread; the reader never posts. Waits while the box is full, which it is for what peers
 * say (acknowledgements, heartbeats, words) at the half: a peer cannot stop our own threads,
 * which the reader may be about to join, and which never have that much to tell. */
void mailbox_post(struct mailbox *m, const struct letter *l);
/* From now on letters of links up to `session` are dropped, and nobody waits to post one: the
 * main thread may join that link's threads. Letters with session 0 belong to no link. */
void mailbox_bury(struct mailbox *m, uint64_t session);
/* False: empty. The eventfd is readable while letters wait. */
bool mailbox_take(struct mailbox *m, struct letter *ret);
int mailbox_fd(const struct mailbox *m);

#endif
