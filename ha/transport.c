/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: frames over one connection. Invariant: what transport_recv() returns was
 * checked in full; after a refusal nothing more comes out (P4). Threads: one sender
 * (fields `out*`), one receiver (fields `in*`); counters are atomic.
 * Source: docs/protocol.md, "Connections".
 */
#include "ha/transport.h"

#include "base/clock.h"
#include "ha/codec.h"

#include <inttypes.h>
#include <stdatomic.h>

#define OUT_ROOM (256u << 10)
/* A tail from here on is written from where it lies instead of being copied. */
#define OUT_COPY (32u << 10)
#define IN_ROOM	 (2 * (PROTO_HEADER_BYTES + PROTO_PAYLOAD_MAX))

struct transport {
	struct tls_conn *conn;

	struct frame_stream out;
	uint8_t *out_bytes;
	size_t out_len;
	bool out_broken;

	struct frame_stream in;
	uint8_t *in_bytes; /* [in_start, in_end) has arrived and waits */
	size_t in_start;
	size_t in_end;
	bool in_header; /* the header at in_start was read into in_frame */
	bool in_broken;
	struct frame in_frame;

	_Atomic uint64_t frames_sent, bytes_sent, frames_received, bytes_received;
};

static int transport_new(struct transport **ret, struct tls_conn *conn, struct refusal *why)
{
	struct transport *t = calloc(1, sizeof(*t));

	if (t) {
		t->out_bytes = malloc(OUT_ROOM);
		t->in_bytes = malloc(IN_ROOM);
	}
	if (!t || !t->out_bytes || !t->in_bytes) {
		tls_close(conn);
		transport_close(t);
		return refusal_set(why, PROTO_NO_MEMORY, "a connection's buffers");
	}
	t->conn = conn;
	frame_stream_init(&t->out);
	frame_stream_init(&t->in);
	*ret = t;
	return 0;
}

int transport_connect(struct transport **ret, struct tls_context *ctx,
		      const struct transport_dial *d, struct refusal *why)
{
	struct tls_open_options o = {
		.side = TLS_CLIENT,
		.peer_name = d->peer_name ? d->peer_name : d->to.host,
		.deadline_ns = d->deadline_ns,
		.interrupt_fd = d->interrupt_fd,
	};
	struct tls_conn *conn;
	int fd, r;

	r = socket_dial(&d->to, d->deadline_ns, &fd, why);
	if (r < 0)
		return r;
	r = tls_open(&conn, ctx, fd, &o, why);
	if (r < 0)
		return r;
	return transport_new(ret, conn, why);
}

int transport_accept(struct transport **ret, struct tls_context *ctx, int fd,
		     const struct tls_open_options *o, struct refusal *why)
{
	struct tls_conn *conn;
	int r = tls_open(&conn, ctx, fd, o, why);

	if (r < 0)
		return r;
	return transport_new(ret, conn, why);
}

void transport_close(struct transport *t)
{
	if (!t)
		return;
	tls_close(t->conn);
	free(t->in_bytes);
	free(t->out_bytes);
	free(t);
}

void transport_shutdown(struct transport *t)
{
	tls_shutdown(t->conn);
}

void transport_finish(struct transport *t, uint64_t deadline_ns)
{
	if (transport_flush(t, deadline_ns, NULL) == 0)
		tls_linger(t->conn, deadline_ns);
}

/* --- sending ------------------------------------------------------------------------------ */

static int write_out(struct transport *t, const void *src, size_t len, uint64_t deadline_ns,
		     struct refusal *why)
{
	int r = tls_write(t->conn, src, len, deadline_ns, why);

	if (r < 0)
		t->out_broken = true;
	return r;
}

int transport_flush(struct transport *t, uint64_t deadline_ns, struct refusal *why)
{
	size_t len = t->out_len;

	if (t->out_broken)
		return refusal_set(why, PROTO_CLOSED, "the connection broke while sending");
	t->out_len = 0;
	return write_out(t, t->out_bytes, len, deadline_ns, why);
}

static void queue(struct transport *t, const void *src, size_t len)
{
	assert(len <= OUT_ROOM - t->out_len);
	if (len)
		memcpy(t->out_bytes + t->out_len, src, len);
	t->out_len += len;
}

/* Small pieces gather in the buffer; a large tail goes out behind them, uncopied. */
static int send_pieces(struct transport *t, const uint8_t *header, const struct frame_body *b,
		       uint64_t deadline_ns, struct refusal *why)
{
	bool copied = b->tail_len < OUT_COPY;
	size_t need = PROTO_HEADER_BYTES + b->head_len + (copied ? b->tail_len : 0);
	int r;

	if (need > OUT_ROOM - t->out_len) {
		r = transport_flush(t, deadline_ns, why);
		if (r < 0)
			return r;
	}
	queue(t, header, PROTO_HEADER_BYTES);
	queue(t, b->head, b->head_len);
	if (copied) {
		queue(t, b->tail, b->tail_len);
		return 0;
	}
	r = transport_flush(t, deadline_ns, why);
	if (r < 0)
		return r;
	return write_out(t, b->tail, b->tail_len, deadline_ns, why);
}

int transport_send(struct transport *t, const struct message *m, uint64_t deadline_ns,
		   struct refusal *why)
{
	struct frame f = { .type = m->type, .generation = m->generation, .epoch = m->epoch };
	uint8_t header[PROTO_HEADER_BYTES], head[MESSAGE_HEAD_MAX];
	struct message copy = *m;
	struct frame_body body;
	int r;

	if (t->out_broken)
		return refusal_set(why, PROTO_CLOSED, "the connection broke while sending");
	if (m->type == PROTO_EPOCH_END) {
		struct frame_digest d = frame_stream_digest(&t->out, m->epoch);

		copy.end.frames = d.frames;
		copy.end.digest = d.value;
	}
	r = message_encode(&copy, head, &body, why);
	if (r < 0)
		return r;
	r = frame_encode(&t->out, &f, &body, header, why);
	if (r < 0)
		return r;
	r = send_pieces(t, header, &body, deadline_ns, why);
	if (r < 0)
		return r;
	atomic_fetch_add_explicit(&t->frames_sent, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->bytes_sent, PROTO_HEADER_BYTES + f.length,
				  memory_order_relaxed);
	return 0;
}

/* --- receiving ---------------------------------------------------------------------------- */

/* A TLS record of handshake (22) or alert (21) where a frame should begin. */
static bool looks_like_tls(const struct transport *t)
{
	const uint8_t *p = t->in_bytes + t->in_start;
	size_t have = t->in_end - t->in_start;

	return have >= 2 && (p[0] == 0x16 || p[0] == 0x15) && p[1] == 0x03;
}

static int name_end(struct transport *t, int r, struct refusal *why)
{
	size_t have = t->in_end - t->in_start;
	size_t want = PROTO_HEADER_BYTES + (t->in_header ? t->in_frame.length : 0);

	if (why->code != PROTO_CLOSED || !have)
		return r;
	if (!t->in_header && looks_like_tls(t))
		return refusal_set(why, PROTO_TLS_NOT_SPOKEN,
				   "the peer speaks TLS, here encryption is off");
	return refusal_set(why, PROTO_TRUNCATED,
			   "the connection ended %zu bytes into a frame of %zu", have, want);
}

/* Waits until `need` bytes lie at in_start. */
static int gather(struct transport *t, size_t need, uint64_t deadline_ns, struct refusal *why)
{
	int n;

	if (need > IN_ROOM - t->in_start) {
		memmove(t->in_bytes, t->in_bytes + t->in_start, t->in_end - t->in_start);
		t->in_end -= t->in_start;
		t->in_start = 0;
	}
	while (t->in_end - t->in_start < need) {
		n = tls_read(t->conn, t->in_bytes + t->in_end, IN_ROOM - t->in_end, deadline_ns,
			     why);
		if (n < 0)
			return name_end(t, n, why);
		t->in_end += (size_t)n;
	}
	return 0;
}

static int read_header(struct transport *t, uint64_t deadline_ns, struct refusal *why)
{
	int r;

	if (t->in_header)
		return 0;
	if (t->in_start == t->in_end)
		t->in_start = t->in_end = 0;
	r = gather(t, PROTO_HEADER_BYTES, deadline_ns, why);
	if (r < 0)
		return r;
	r = frame_decode_header(&t->in, t->in_bytes + t->in_start, &t->in_frame, why);
	if (r < 0 && looks_like_tls(t))
		return refusal_set(why, PROTO_TLS_NOT_SPOKEN,
				   "the peer speaks TLS, here encryption is off");
	t->in_header = r == 0;
	return r;
}

static int read_frame(struct transport *t, uint64_t deadline_ns, struct message *ret,
		      struct refusal *why)
{
	const uint8_t *header;
	size_t whole;
	int r;

	r = read_header(t, deadline_ns, why);
	if (r < 0)
		return r;
	whole = PROTO_HEADER_BYTES + t->in_frame.length;
	r = gather(t, whole, deadline_ns, why);
	if (r < 0)
		return r;
	header = t->in_bytes + t->in_start;
	r = frame_decode_payload(&t->in, header, &t->in_frame, header + PROTO_HEADER_BYTES, why);
	if (r < 0)
		return r;
	r = message_decode(&t->in_frame, ret, why);
	if (r < 0)
		return r;
	t->in_header = false;
	t->in_start += whole;
	atomic_fetch_add_explicit(&t->frames_received, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->bytes_received, whole, memory_order_relaxed);
	return 0;
}

int transport_recv(struct transport *t, uint64_t deadline_ns, struct message *ret,
		   struct refusal *why)
{
	struct refusal own;
	int r;

	if (!why)
		why = &own;
	if (t->in_broken)
		return refusal_set(why, PROTO_CLOSED, "the connection broke while receiving");
	r = read_frame(t, deadline_ns, ret, why);
	if (r < 0 && r != -ETIMEDOUT && r != -ECANCELED)
		t->in_broken = true;
	return r;
}

/* --- opening ------------------------------------------------------------------------------ */

void transport_set_session(struct transport *t, uint64_t session)
{
	t->out.seed = session;
	t->in.seed = session;
}

uint64_t transport_session(const struct transport *t)
{
	return t->out.seed;
}

void transport_expect_generation(struct transport *t, uint64_t generation)
{
	t->in.generation = generation;
}

uint64_t transport_epoch_digest(const struct transport *t, uint64_t epoch)
{
	return frame_stream_digest(&t->out, epoch).value;
}

void transport_start_epochs(struct transport *t, uint64_t epoch)
{
	frame_stream_start(&t->out, epoch);
	frame_stream_start(&t->in, epoch);
}

/* A peer may choose only out of what was offered. */
static int check_choice(const struct proto_hello *h, const struct proto_welcome *w,
			struct refusal *why)
{
	if (w->session != h->session)
		return refusal_set(why, PROTO_BAD_SESSION,
				   "0x%016" PRIx64 " welcomed, 0x%016" PRIx64 " said hello",
				   w->session, h->session);
	if (w->features & ~h->features)
		return refusal_set(why, PROTO_BAD_HELLO,
				   "peer chose features 0x%" PRIx64 " out of 0x%" PRIx64,
				   w->features, h->features);
	if (w->codec >= CODEC_COUNT || !((h->codecs | 1u << CODEC_NONE) >> w->codec & 1))
		return refusal_set(why, PROTO_BAD_CODEC, "peer chose codec %u out of 0x%x",
				   w->codec, h->codecs);
	if (w->generation < h->generation)
		return refusal_set(why, PROTO_STALE_GENERATION,
				   "peer welcomed at generation %" PRIu64 ", ours is %" PRIu64,
				   w->generation, h->generation);
	if (w->epoch_limit > h->epoch_limit)
		return refusal_set(why, PROTO_BAD_HELLO,
				   "epoch limit %" PRIu64 " chosen, %" PRIu64 " offered",
				   w->epoch_limit, h->epoch_limit);
	return 0;
}

static int peer_refused(const struct message *m, struct refusal *why)
{
	char text[160];
	bool known = m->refuse.code && strcmp(proto_code_name(m->refuse.code), "UNKNOWN");

	message_text(m, text, sizeof(text));
	return refusal_set(why, known ? (enum proto_code)m->refuse.code : PROTO_INTERNAL,
			   "the peer refused (code %u): %s", m->refuse.code, text);
}

int transport_greet(struct transport *t, const struct proto_hello *hello, struct message *ret,
		    struct refusal *why)
{
	struct message m = { .type = PROTO_HELLO,
			     .generation = hello->generation,
			     .hello = *hello };
	uint64_t deadline = clock_now_ns() + PROTO_HELLO_NS;
	int r;

	r = transport_send(t, &m, deadline, why);
	if (r == 0)
		r = transport_flush(t, deadline, why);
	/* A peer that refused us on sight may have said why before our bytes broke. */
	if (r < 0 && r != -ECONNRESET)
		return r;
	r = transport_recv(t, deadline, ret, why);
	if (r == -ECONNRESET && !transport_encrypted(t))
		return refusal_set(why, PROTO_CLOSED,
				   "the peer ended the connection at HELLO: "
				   "encryption is off here, it may be on there");
	if (r < 0)
		return r;
	if (ret->type == PROTO_REFUSE)
		return peer_refused(ret, why);
	if (ret->type != PROTO_WELCOME)
		return refusal_set(why, PROTO_UNEXPECTED, "%s in answer to HELLO",
				   proto_type_name(ret->type));
	r = check_choice(hello, &ret->welcome, why);
	if (r < 0)
		return r;
	transport_set_session(t, hello->session);
	transport_expect_generation(t, ret->welcome.generation);
	return 0;
}

int transport_answer(struct transport *t, const struct message *answer, struct refusal *why)
{
	uint64_t deadline = clock_now_ns() + PROTO_HELLO_NS;
	int r;

	assert(answer->type == PROTO_WELCOME || answer->type == PROTO_REFUSE);
	r = transport_send(t, answer, deadline, why);
	if (r == 0)
		r = transport_flush(t, deadline, why);
	if (r < 0 || answer->type != PROTO_WELCOME)
		return r;
	transport_set_session(t, answer->welcome.session);
	transport_expect_generation(t, answer->welcome.generation);
	return 0;
}

void transport_counters(const struct transport *t, struct transport_counters *ret)
{
	ret->frames_sent = atomic_load_explicit(&t->frames_sent, memory_order_relaxed);
	ret->bytes_sent = atomic_load_explicit(&t->bytes_sent, memory_order_relaxed);
	ret->frames_received = atomic_load_explicit(&t->frames_received, memory_order_relaxed);
	ret->bytes_received = atomic_load_explicit(&t->bytes_received, memory_order_relaxed);
}

bool transport_encrypted(const struct transport *t)
{
	return tls_encrypted(t->conn);
}

const char *transport_peer_name(const struct transport *t)
{
	return tls_peer_name(t->conn);
}

bool transport_peer_is(const struct transport *t, const char *name)
{
	return tls_peer_is(t->conn, name);
}

int transport_fd(const struct transport *t)
{
	return tls_fd(t->conn);
}

bool transport_pending(const struct transport *t)
{
	return t->in_end > t->in_start || tls_pending(t->conn);
}
