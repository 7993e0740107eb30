/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One byte stream between two hosts: TLS 1.3 with both sides authenticated, or, where
 * the configuration says `encryption = off`, the bare socket behind the same calls.
 *
 * Threads: one reader and one writer at a time. OpenSSL allows one call at a time into
 * a connection, so a lock covers each call, never a wait: the socket is non-blocking.
 * tls_shutdown() may come from any thread. Deadlines are instants of clock_now_ns(),
 * 0 means none.
 */
#ifndef POLLUX_HA_TLS_H
#define POLLUX_HA_TLS_H

#include "ha/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_PSK_BYTES 32u

/* PEM files. The CA signs both hosts; a host's certificate carries its name as SAN. */
struct tls_settings {
	bool encryption; /* false: nothing below is read */
	const char *ca;
	const char *cert;
	const char *key;
};

struct tls_context; /* read-only once open: any number of threads and connections */
struct tls_conn;

int tls_context_open(struct tls_context **ret, const struct tls_settings *s, struct refusal *why);
/* Of two that share a secret and have no certificates (tls_psk.h): peer names are not looked at. */
int tls_context_open_psk(struct tls_context **ret, const uint8_t key[TLS_PSK_BYTES],
			 struct refusal *why);
void tls_context_close(struct tls_context *ctx);

enum tls_side {
	TLS_CLIENT,
	TLS_SERVER,
};

struct tls_open_options {
	enum tls_side side;
	/* The SAN that the peer's certificate must carry. NULL, on a server: any name
	 * the CA signed, to be asked about with tls_peer_is(). */
	const char *peer_name;
	uint64_t deadline_ns; /* for the handshake */
	int interrupt_fd;     /* eventfd that ends waits with -ECANCELED; -1: none */
};

/* Takes `fd` (a connected, non-blocking socket), also when it fails. */
int tls_open(struct tls_conn **ret, struct tls_context *ctx, int fd,
	     const struct tls_open_options *o, struct refusal *why);
void tls_close(struct tls_conn *c);

/* One read: the number of bytes, at least 1, or -ECONNRESET (PROTO_CLOSED) at the end. */
int tls_read(struct tls_conn *c, void *ret, size_t len, uint64_t deadline_ns, struct refusal *why);
/* All of it, or the stream is broken. */
int tls_write(struct tls_conn *c, const void *src, size_t len, uint64_t deadline_ns,
	      struct refusal *why);
/* Ends both directions at once; blocked calls return. Any thread. */
void tls_shutdown(struct tls_conn *c);

bool tls_encrypted(const struct tls_conn *c);
/* Whether the peer's certificate carries that name; true without encryption. */
bool tls_peer_is(const struct tls_conn *c, const char *name);
/* The name the peer showed, for logs; "" without encryption. */
const char *tls_peer_name(const struct tls_conn *c);
int tls_fd(const struct tls_conn *c);
/* Bytes are held here that poll(2) does not see. */
bool tls_pending(struct tls_conn *c);
/* No more will be sent: reads and drops what still comes, until the peer ends too or the
 * deadline, so that the last words reach it. Only tls_close() may follow; no other
 * thread may be inside. */
void tls_linger(struct tls_conn *c, uint64_t deadline_ns);
/* Keys change after that many bytes sent (default 64 GiB); before anything is sent. */
void tls_set_rekey(struct tls_conn *c, uint64_t bytes);

#endif
