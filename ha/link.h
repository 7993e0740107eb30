/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two connections of a pair, and a thread for each that turns what the peer says into
 * letters for the main thread. Either end.
 *
 * The main thread alone sends on `heart`. On `bulk` the primary's sender sends, and on the
 * backup the main thread. What is not a letter (the primary's data) is given to a sink on
 * the receiving thread.
 */
#ifndef POLLUX_HA_LINK_H
#define POLLUX_HA_LINK_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"
#include "ha/role.h"
#include "ha/transport.h"

struct mailbox;

/* What to do with a frame of the bulk connection that is data; a negative return ends the
 * link, with `why`. NULL: none is expected. */
typedef int (*link_sink)(void *opaque, const struct message *m, struct refusal *why);

struct link_config {
	struct transport *bulk, *heart; /* the link's from here on */
	struct mailbox *mailbox;
	uint64_t session; /* for letters: see mailbox_bury() */
	uint64_t generation;
	link_sink sink;
	void *opaque;
};

struct link {
	struct link_config config;
	pthread_t bulk_thread, heart_thread;
	bool heart_ended; /* atomic: all that came on it has been posted */
	bool broken;	  /* main thread: LETTER_BROKEN was seen, or a send failed */
};

int link_open(const struct link_config *config, struct link **ret);
/* Ends the connections; threads that wait in them return. Then link_close() joins. */
void link_shutdown(struct link *l);
void link_close(struct link *l);

/* Sends one message now, on the connection it belongs to (heartbeats: heart). Does not wait
 * long: a peer that does not read is as good as gone. */
int link_send(struct link *l, struct message *m);
/* LEAVE, YIELD, HANDOVER and the like: a reason by its stable name. */
int link_say(struct link *l, enum proto_type type, uint64_t generation, enum role_why why);

#endif
