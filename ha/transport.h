/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection that carries frames: ha/tls.h beneath, ha/frame.h and ha/message.h
 * on top, byte counters beside.
 *
 * Threads: at any time one thread sends and one thread receives; the two directions
 * share nothing but the TLS lock. transport_shutdown() and the counters: any thread.
 * Nothing is allocated after opening.
 *
 * Every refusal ends the connection: after a negative return other than -ETIMEDOUT or
 * -ECANCELED from transport_recv() only shutdown and close are left. Those two lose
 * nothing: the next transport_recv() goes on where the bytes stopped.
 */
#ifndef POLLUX_HA_TRANSPORT_H
#define POLLUX_HA_TRANSPORT_H

#include "ha/frame.h"
#include "ha/message.h"
#include "ha/socket.h"
#include "ha/tls.h"

#include <stdbool.h>
#include <stdint.h>

struct transport;

struct transport_counters {
	uint64_t frames_sent;
	uint64_t bytes_sent; /* headers and payloads, before TLS */
	uint64_t frames_received;
	uint64_t bytes_received;
};

struct transport_dial {
	struct socket_address to;
	const char *peer_name; /* SAN expected of the peer; NULL: to.host */
	uint64_t deadline_ns;
	int interrupt_fd; /* -1: none; kept for the life of the connection */
};

int transport_connect(struct transport **ret, struct tls_context *ctx,
		      const struct transport_dial *d, struct refusal *why);
/* The other end: takes `fd` from socket_accept() also when it fails; o->side is server.
 * o->interrupt_fd serves for the life of the connection. */
int transport_accept(struct transport **ret, struct tls_context *ctx, int fd,
		     const struct tls_open_options *o, struct refusal *why);
/* NULL is fine. No other thread may be inside. */
void transport_close(struct transport *t);
/* Ends the connection now, from any thread; blocked calls return PROTO_CLOSED. */
void transport_shutdown(struct transport *t);

/* After a last message (REFUSE, HANDOVER, BYE): flushes, and waits at most until the
 * deadline for the peer to end too, so that the message is not overtaken by the end.
 * Only transport_close() may follow. No other thread may be inside. */
void transport_finish(struct transport *t, uint64_t deadline_ns);

/*
 * Queues one message; it leaves when enough waits or with transport_flush(). The bytes
 * of a tail are not needed after the call. For EPOCH_END `frames` and `digest` are
 * filled in from what was sent. Blocks up to the deadline; a refusal breaks the stream.
 */
int transport_send(struct transport *t, const struct message *m, uint64_t deadline_ns,
		   struct refusal *why);
int transport_flush(struct transport *t, uint64_t deadline_ns, struct refusal *why);

/*
 * The next whole, checked frame as a message; its tail stays valid until the next call.
 * EPOCH_END has been compared with what arrived: frames and digest are right.
 */
int transport_recv(struct transport *t, uint64_t deadline_ns, struct message *ret,
		   struct refusal *why);

/* Once HELLO and WELCOME have passed, in both ends, before anything else is sent. */
void transport_set_session(struct transport *t, uint64_t session);
uint64_t transport_session(const struct transport *t);
/* From now on received frames must carry it: lower is STALE, higher NEWER_GENERATION.
 * REFUSE and HANDOVER may carry a higher one. Called by the receiving thread. */
void transport_expect_generation(struct transport *t, uint64_t generation);
/* Sending thread: the digest that EPOCH_END of `epoch` will carry, once all else of it is sent. */
uint64_t transport_epoch_digest(const struct transport *t, uint64_t epoch);
/* Both directions: the epoch that comes next on this connection; 0 unless set. */
void transport_start_epochs(struct transport *t, uint64_t epoch);

/* Two of the calls above in one, for the frames that open a connection:
 * a primary's HELLO until WELCOME; sets session and generation. -EPROTO on REFUSE, with
 * `ret` holding it (type PROTO_REFUSE). */
int transport_greet(struct transport *t, const struct proto_hello *hello, struct message *ret,
		    struct refusal *why);
/* A backup's answer to the HELLO it received: WELCOME or REFUSE; sets session and
 * generation on WELCOME. */
int transport_answer(struct transport *t, const struct message *answer, struct refusal *why);

void transport_counters(const struct transport *t, struct transport_counters *ret);
bool transport_encrypted(const struct transport *t);
const char *transport_peer_name(const struct transport *t);
bool transport_peer_is(const struct transport *t, const char *name);
/* For poll(2): readable may mean a frame; see transport_pending() first. */
int transport_fd(const struct transport *t);
/* Bytes are held here that poll(2) does not see. Receiving thread. */
bool transport_pending(const struct transport *t);

#endif
