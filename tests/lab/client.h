/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lab-client: the client that a takeover must not disturb. It writes numbered
 * keys over one TCP connection to Redis and says what became of every one, or talks to
 * the guest with four counters.
 *
 * Each write is `SET k:N N` followed by `ECHO N`, so that every answer names its
 * request: an answer that comes twice, or never, is seen for what it is.
 */
#ifndef POLLUX_LAB_CLIENT_H
#define POLLUX_LAB_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_VALUE_MAX 64 /* longer values are not ours: garbled */

struct client_options {
	const char *host;
	const char *port;
	const char *status_file; /* NULL: none */
	const char *file;	 /* modes aof and ring */
	uint64_t window;	 /* writes sent and not answered */
	uint64_t rate;		 /* writes a second, 0: as fast as it goes */
	uint64_t seconds;	 /* 0: until count, or a signal */
	uint64_t count;		 /* 0: no end; check and aof: keys 1..count; ring: the disk */
	uint64_t drain_ns;	 /* how long the last answers may take */
	bool plain;		 /* without ECHO, for throughput */
	bool progress;
};

/* Set by SIGTERM and SIGINT. */
extern volatile sig_atomic_t client_stop;

/* Raised by SIGUSR1: how often mode counters is still to ask for the values. */
extern volatile sig_atomic_t client_asks;

enum resp_type { RESP_STATUS = '+', RESP_ERROR = '-', RESP_NUMBER = ':', RESP_BULK = '$' };

struct resp_reply {
	enum resp_type type;
	bool nil;
	size_t len;
	char value[RESP_VALUE_MAX + 1];
};

/*
 * Takes one whole reply from the front of `buf`. Returns the bytes it took, 0 when
 * more are needed, -EPROTO when this is no reply we could have asked for.
 */
long resp_parse(const char *buf, size_t len, struct resp_reply *ret);

/* A decimal number that is all of `text`, or 0. */
uint64_t resp_number(const char *text, size_t len);

/* Connected socket, or -errno; waits at most `limit_ns`, less when told to stop. */
int client_connect(const struct client_options *opt, uint64_t limit_ns);

/* The modes; each prints its JSON on standard output and returns the exit status. */
int client_load(const struct client_options *opt);
int client_check(const struct client_options *opt);
int client_aof(const struct client_options *opt);
int client_counters(const struct client_options *opt);
int client_ring(const struct client_options *opt);

#endif
