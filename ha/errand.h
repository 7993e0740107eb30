/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange between hosts that comes before frames: one JSON request, one JSON
 * reply, each ended by a NUL byte, over TLS. With it a primary's pollux-ha asks the
 * other host's polluxd to prepare a standby. Blocking, with a deadline; threads: each
 * call is its own. What the JSON says is for the callers to check.
 */
#ifndef POLLUX_HA_ERRAND_H
#define POLLUX_HA_ERRAND_H

#include "ha/socket.h"
#include "ha/tls.h"

#include <stdint.h>

struct errand_peer {
	struct socket_address to;
	const char *peer_name; /* SAN expected; NULL: to.host */
	uint64_t deadline_ns;
	int interrupt_fd; /* -1: none */
};

/* `ret_reply` is allocated, to be freed; at most PROTO_REQUEST_MAX bytes. */
int errand_call(struct tls_context *ctx, const struct errand_peer *peer, const char *request,
		char **ret_reply, struct refusal *why);

/* The other side, on a socket from socket_accept(), in a thread or child of its own. */
struct errand;

/* Handshake and request. Takes `fd`, also when it fails. The request belongs to `ret`. */
int errand_receive(struct errand **ret, struct tls_context *ctx, int fd, uint64_t deadline_ns,
		   struct refusal *why);
const char *errand_request(const struct errand *s);
/* The authenticated name of the caller. */
const char *errand_peer_name(const struct errand *s);
bool errand_peer_is(const struct errand *s, const char *name);
int errand_reply(struct errand *s, const char *reply, uint64_t deadline_ns, struct refusal *why);
void errand_close(struct errand *s);

#endif
