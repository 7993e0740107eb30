/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: one JSON request and one reply between hosts. Invariant: a text is at most
 * PROTO_REQUEST_MAX bytes, ends with its only NUL, and nothing follows it. Threads: the
 * caller's. Source: docs/protocol.md, "Preparing a standby".
 */
#include "ha/errand.h"

#include "base/clock.h"

#define CHUNK	  4096u
#define LINGER_NS (500 * NS_PER_MS)

struct errand {
	struct tls_conn *conn;
	char *request;
};

/* Makes room for one more chunk; the text doubles up to the limit. */
static int grow(char **text, size_t have, size_t *room, struct refusal *why)
{
	size_t wanted = *room ? *room * 2 : CHUNK;
	char *more;

	if (have < *room)
		return 0;
	if (have >= PROTO_REQUEST_MAX)
		return refusal_set(why, PROTO_TOO_LARGE, "more than %zu bytes, the limit is %u",
				   have, PROTO_REQUEST_MAX);
	wanted = MIN(wanted, (size_t)PROTO_REQUEST_MAX);
	more = realloc(*text, wanted);
	if (!more)
		return refusal_set(why, PROTO_NO_MEMORY, "a text of %zu bytes", wanted);
	*text = more;
	*room = wanted;
	return 0;
}

static int read_text(struct tls_conn *conn, uint64_t deadline_ns, char **ret, struct refusal *why)
{
	cleanup_free char *text = NULL;
	size_t room = 0, have = 0;
	char *end;
	int n, r;

	for (;;) {
		r = grow(&text, have, &room, why);
		if (r < 0)
			return r;
		n = tls_read(conn, text + have, room - have, deadline_ns, why);
		if (n < 0)
			return n;
		end = memchr(text + have, '\0', (size_t)n);
		have += (size_t)n;
		if (end)
			break;
	}
	if (end != text + have - 1)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%zu bytes behind the end of the text",
				   (size_t)(text + have - 1 - end));
	*ret = take_ptr(&text);
	return 0;
}

static int write_text(struct tls_conn *conn, const char *text, uint64_t deadline_ns,
		      struct refusal *why)
{
	size_t len = strlen(text) + 1;

	if (len > PROTO_REQUEST_MAX)
		return refusal_set(why, PROTO_TOO_LARGE, "%zu bytes to send, the limit is %u", len,
				   PROTO_REQUEST_MAX);
	return tls_write(conn, text, len, deadline_ns, why);
}

int errand_call(struct tls_context *ctx, const struct errand_peer *peer, const char *request,
		char **ret_reply, struct refusal *why)
{
	/* A host without power is noticed soon, and asked again. */
	uint64_t soon_ns = clock_now_ns() + PROTO_CONNECT_NS;
	struct tls_open_options o = {
		.side = TLS_CLIENT,
		.peer_name = peer->peer_name ? peer->peer_name : peer->to.host,
		.deadline_ns = soon_ns < peer->deadline_ns ? soon_ns : peer->deadline_ns,
		.interrupt_fd = peer->interrupt_fd,
	};
	struct tls_conn *conn;
	int fd, r;

	r = socket_dial(&peer->to, o.deadline_ns, &fd, why);
	if (r < 0)
		return r;
	r = tls_open(&conn, ctx, fd, &o, why);
	if (r < 0)
		return r;
	r = write_text(conn, request, peer->deadline_ns, why);
	/* Broken while writing: the peer may have said why. */
	if (r == 0 || r == -ECONNRESET)
		r = read_text(conn, peer->deadline_ns, ret_reply, why);
	if (r == -ECONNRESET && !tls_encrypted(conn))
		r = refusal_set(why, PROTO_CLOSED,
				"the peer ended the connection: encryption is off here, it may be "
				"on there");
	tls_close(conn);
	return r;
}

int errand_receive(struct errand **ret, struct tls_context *ctx, int fd, uint64_t deadline_ns,
		   struct refusal *why)
{
	struct tls_open_options o = {
		.side = TLS_SERVER,
		.deadline_ns = deadline_ns,
		.interrupt_fd = -1,
	};
	struct errand *s = calloc(1, sizeof(*s));
	int r;

	if (!s) {
		close(fd);
		return refusal_set(why, PROTO_NO_MEMORY, "a request");
	}
	r = tls_open(&s->conn, ctx, fd, &o, why);
	if (r < 0)
		goto err_free;
	r = read_text(s->conn, deadline_ns, &s->request, why);
	if (r < 0)
		goto err_close;
	*ret = s;
	return 0;

err_close:
	tls_close(s->conn);
err_free:
	free(s);
	return r;
}

const char *errand_request(const struct errand *s)
{
	return s->request;
}

const char *errand_peer_name(const struct errand *s)
{
	return tls_peer_name(s->conn);
}

bool errand_peer_is(const struct errand *s, const char *name)
{
	return tls_peer_is(s->conn, name);
}

int errand_reply(struct errand *s, const char *reply, uint64_t deadline_ns, struct refusal *why)
{
	int r = write_text(s->conn, reply, deadline_ns, why);

	if (r == 0)
		tls_linger(s->conn, MIN(deadline_ns, clock_now_ns() + LINGER_NS));
	return r;
}

void errand_close(struct errand *s)
{
	if (!s)
		return;
	tls_close(s->conn);
	free(s->request);
	free(s);
}
