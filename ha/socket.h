/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP with deadlines: dial, listen, accept, wait. Descriptors are non-blocking and
 * close-on-exec. A deadline is an instant of clock_now_ns(); 0 means none.
 */
#ifndef POLLUX_HA_SOCKET_H
#define POLLUX_HA_SOCKET_H

#include "ha/protocol.h"

#include <stdint.h>

struct socket_address {
	const char *host; /* name or address; NULL when listening: every address */
	uint16_t port;	  /* 0 when listening: the kernel chooses */
};

/* Tries every address of the name until the deadline. */
int socket_dial(const struct socket_address *to, uint64_t deadline_ns, int *ret_fd,
		struct refusal *why);
int socket_listen(const struct socket_address *at, int *ret_fd, struct refusal *why);
int socket_port(int fd, uint16_t *ret);
/* -ETIMEDOUT (PROTO_TIMED_OUT) at the deadline, -ECANCELED (PROTO_INTERRUPTED) when
 * `interrupt_fd` (-1: none) becomes readable. */
int socket_accept(int listen_fd, int interrupt_fd, uint64_t deadline_ns, int *ret_fd,
		  struct refusal *why);
/* Waits until `fd` is ready for `events` of poll(2). Errors as socket_accept(). */
int socket_wait(int fd, short events, int interrupt_fd, uint64_t deadline_ns, struct refusal *why);
/* No delay, keepalive, user timeout, buffers for one epoch in flight. Best effort. */
void socket_tune(int fd);

#endif
