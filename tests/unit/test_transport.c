/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections over loopback, TLS and bare: what is sent arrives in order; a peer with the
 * wrong certificate, name or protocol, or one that sends garbage, is refused by name.
 * Certificates are made by openssl(1) in a folder of the test's own.
 */
#include "ha/errand.h"
#include "ha/transport.h"

#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <cmocka.h>

#define SOON (clock_now_ns() + 10 * NS_PER_S)

static char dir[] = "/tmp/test_transport.XXXXXX";

struct host {
	char ca[128], cert[128], key[128];
	struct tls_context *ctx;
};
static struct host alpha, beta, stranger, bare;

static void sh(const char *fmt, ...)
{
	char text[1024], command[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(command, sizeof(command), "cd %s && { %s; } >log 2>&1", dir, text);
	if (system(command) != 0) {
		fprintf(stderr, "failed: %s\n", command);
		exit(1);
	}
}

static void make_ca(const char *name)
{
	sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
	   "-keyout %s.key -out %s.pem -subj /CN=%s",
	   name, name, name);
}

static void make_host(struct host *h, const char *name, const char *ca)
{
	struct tls_settings s = { .encryption = true, .ca = h->ca, .cert = h->cert, .key = h->key };
	struct refusal why;

	sh("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s.key "
	   "-out %s.csr -subj /CN=%s && printf 'subjectAltName=DNS:%s' > %s.ext && "
	   "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days 2 "
	   "-extfile %s.ext -out %s.pem",
	   name, name, name, name, name, name, ca, ca, name, name);
	snprintf(h->ca, sizeof(h->ca), "%s/%s.pem", dir, ca);
	snprintf(h->cert, sizeof(h->cert), "%s/%s.pem", dir, name);
	snprintf(h->key, sizeof(h->key), "%s/%s.key", dir, name);
	if (tls_context_open(&h->ctx, &s, &why) < 0) {
		fprintf(stderr, "%s\n", why.why.text);
		exit(1);
	}
}

/* --- two ends ------------------------------------------------------------------------------ */

struct ends {
	struct host *client, *server;
	const char *client_expects, *server_expects;
	int listener;
	uint16_t port;
	struct transport *near, *far;
	struct refusal near_why, far_why;
	int near_r, far_r;
};

static void *accept_far(void *arg)
{
	struct ends *e = arg;
	struct tls_open_options o = { .side = TLS_SERVER, .peer_name = e->server_expects,
				      .deadline_ns = SOON, .interrupt_fd = -1 };
	int fd;

	e->far_r = socket_accept(e->listener, -1, SOON, &fd, &e->far_why);
	if (e->far_r == 0)
		e->far_r = transport_accept(&e->far, e->server->ctx, fd, &o, &e->far_why);
	return NULL;
}

static void listen_any(int *ret_fd, uint16_t *ret_port)
{
	struct socket_address at = { .host = "127.0.0.1" };

	assert_int_equal(socket_listen(&at, ret_fd, NULL), 0);
	assert_int_equal(socket_port(*ret_fd, ret_port), 0);
}

static void open_ends(struct ends *e)
{
	struct transport_dial d = { .to = { "127.0.0.1" }, .peer_name = e->client_expects,
				    .deadline_ns = SOON, .interrupt_fd = -1 };
	pthread_t t;

	listen_any(&e->listener, &e->port);
	d.to.port = e->port;
	assert_int_equal(pthread_create(&t, NULL, accept_far, e), 0);
	e->near_r = transport_connect(&e->near, e->client->ctx, &d, &e->near_why);
	pthread_join(t, NULL);
}

static void close_ends(struct ends *e)
{
	transport_close(e->near);
	transport_close(e->far);
	close(e->listener);
}

static struct ends good_ends(struct host *client, struct host *server)
{
	struct ends e = { .client = client, .server = server, .client_expects = "beta",
			  .server_expects = "alpha" };

	open_ends(&e);
	assert_int_equal(e.near_r, 0);
	assert_int_equal(e.far_r, 0);
	return e;
}

static struct message disk_write(uint64_t epoch, const void *data, uint32_t len)
{
	return (struct message){ .type = PROTO_DISK_WRITE, .generation = 1, .epoch = epoch,
				 .disk = { .disk = 0, .offset = 0, .length = len },
				 .tail = data, .tail_len = len };
}

/* --- data ---------------------------------------------------------------------------------- */

#define EPOCHS	       20u
#define WRITES	       40u
#define LARGEST	       (PROTO_PAYLOAD_MAX - 18)
static uint8_t pattern[LARGEST];

static uint32_t size_of(unsigned i)
{
	static const uint32_t sizes[] = { 1, 512, 4096, 40000, 262144, LARGEST };

	return sizes[i % ARRAY_SIZE(sizes)];
}

static void *send_epochs(void *arg)
{
	struct transport *t = arg;

	for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
		struct message end = { .type = PROTO_EPOCH_END, .generation = 1, .epoch = epoch,
				       .end = { .disk_ops = WRITES } };

		for (unsigned i = 0; i < WRITES; i++) {
			struct message m = disk_write(epoch, pattern, size_of(i));

			if (transport_send(t, &m, SOON, NULL) < 0)
				return "send";
		}
		if (transport_send(t, &end, SOON, NULL) < 0 || transport_flush(t, SOON, NULL) < 0)
			return "end";
	}
	return NULL;
}

/* The way back at the same time, many small ones: both directions share the lock. */
static void *send_acks(void *arg)
{
	struct transport *t = arg;

	for (uint64_t i = 0; i < 2000; i++) {
		struct message m = { .type = PROTO_ACK, .generation = 1, .ack = { i, i } };

		if (transport_send(t, &m, SOON, NULL) < 0 || transport_flush(t, SOON, NULL) < 0)
			return "ack";
	}
	return NULL;
}

static void *receive_acks(void *arg)
{
	struct message m;

	for (uint64_t i = 0; i < 2000; i++)
		if (transport_recv(arg, SOON, &m, NULL) < 0 || m.ack.epoch != i)
			return "receive ack";
	return NULL;
}

static void run_both_ways(struct ends *e)
{
	struct transport_counters sent, received;
	pthread_t threads[3];
	struct refusal why;
	struct message m;
	void *bad;

	pthread_create(&threads[0], NULL, send_epochs, e->near);
	pthread_create(&threads[1], NULL, send_acks, e->far);
	pthread_create(&threads[2], NULL, receive_acks, e->near);
	for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
		for (unsigned i = 0; i < WRITES; i++) {
			if (transport_recv(e->far, SOON, &m, &why) < 0)
				fail_msg("%s", why.why.text);
			assert_int_equal(m.type, PROTO_DISK_WRITE);
			assert_int_equal(m.tail_len, size_of(i));
			assert_memory_equal(m.tail, pattern, m.tail_len);
		}
		assert_int_equal(transport_recv(e->far, SOON, &m, &why), 0);
		assert_int_equal(m.type, PROTO_EPOCH_END);
		assert_int_equal(m.end.frames, WRITES);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	transport_counters(e->near, &sent);
	transport_counters(e->far, &received);
	assert_int_equal(sent.frames_sent, EPOCHS * (WRITES + 1));
	assert_int_equal(sent.bytes_sent, received.bytes_received);
	assert_int_equal(sent.frames_sent, received.frames_received);
}

static void test_both_ways_tls(void **state)
{
	struct ends e = good_ends(&alpha, &beta);

	(void)state;
	assert_true(transport_encrypted(e.near));
	assert_string_equal(transport_peer_name(e.near), "beta");
	assert_string_equal(transport_peer_name(e.far), "alpha");
	assert_true(transport_peer_is(e.far, "alpha"));
	assert_false(transport_peer_is(e.far, "beta"));
	run_both_ways(&e);
	close_ends(&e);
}

static void test_both_ways_bare(void **state)
{
	struct ends e = good_ends(&bare, &bare);

	(void)state;
	assert_false(transport_encrypted(e.near));
	run_both_ways(&e);
	close_ends(&e);
}

/* Keys change under way, in one direction, while the other one reads. */
static void test_rekey(void **state)
{
	struct tls_open_options o = { .side = TLS_CLIENT, .peer_name = "beta", .deadline_ns = SOON,
				      .interrupt_fd = -1 };
	struct ends e = { .client = &alpha, .server = &beta, .server_expects = "alpha" };
	struct tls_conn *c;
	struct frame_stream s;
	pthread_t t;
	int fd;

	(void)state;
	listen_any(&e.listener, &e.port);
	pthread_create(&t, NULL, accept_far, &e);
	assert_int_equal(socket_dial(&(struct socket_address){ "127.0.0.1", e.port }, SOON, &fd,
				     NULL), 0);
	assert_int_equal(tls_open(&c, alpha.ctx, fd, &o, NULL), 0);
	pthread_join(t, NULL);
	tls_set_rekey(c, 1000);
	frame_stream_init(&s);
	for (unsigned i = 0; i < 200; i++) {
		struct frame f = { .type = PROTO_BYE, .generation = 1 };
		struct frame_body b = { .head = "\0\0", .head_len = 2, .tail = pattern,
					.tail_len = 600 };
		uint8_t header[PROTO_HEADER_BYTES];
		struct message m;

		assert_int_equal(frame_encode(&s, &f, &b, header, NULL), 0);
		assert_int_equal(tls_write(c, header, sizeof(header), SOON, NULL), 0);
		assert_int_equal(tls_write(c, b.head, 2, SOON, NULL), 0);
		assert_int_equal(tls_write(c, b.tail, 600, SOON, NULL), 0);
		assert_int_equal(transport_recv(e.far, SOON, &m, NULL), 0);
		assert_memory_equal(m.tail, pattern, 600);
	}
	tls_close(c);
	close_ends(&e);
}

/* --- who may not talk ------------------------------------------------------------------------ */

static void expect_code(const struct refusal *why, enum proto_code code)
{
	if (why->code != code)
		fail_msg("expected %s, got: %s", proto_code_name(code), why->why.text);
}

/* TLS 1.3 lets a client finish before the server has judged it: its first read tells. */
static void expect_client_told(struct ends *e, enum proto_code code)
{
	struct message m;

	if (e->near_r == 0)
		e->near_r = transport_recv(e->near, SOON, &m, &e->near_why);
	assert_true(e->near_r < 0);
	expect_code(&e->near_why, code);
}

static void test_wrong_ca(void **state)
{
	struct ends e = { .client = &stranger, .server = &beta, .client_expects = "beta" };

	(void)state;
	/* The stranger does not know our CA, so it is the first to hang up. */
	open_ends(&e);
	assert_true(e.near_r < 0 && e.far_r < 0);
	expect_code(&e.near_why, PROTO_TLS_BAD_CERTIFICATE);
	expect_code(&e.far_why, PROTO_TLS_BAD_CERTIFICATE);
	close_ends(&e);
}

static void test_wrong_client_certificate(void **state)
{
	struct ends e = { .client = &stranger, .server = &beta, .client_expects = "beta" };
	struct tls_settings s = { .encryption = true, .ca = beta.ca, .cert = stranger.cert,
				  .key = stranger.key };
	struct tls_context *own = stranger.ctx;

	(void)state;
	/* It trusts our CA but was signed by another one. */
	assert_int_equal(tls_context_open(&stranger.ctx, &s, NULL), 0);
	open_ends(&e);
	assert_true(e.far_r < 0);
	expect_code(&e.far_why, PROTO_TLS_BAD_CERTIFICATE);
	expect_client_told(&e, PROTO_TLS_BAD_CERTIFICATE);
	close_ends(&e);
	tls_context_close(stranger.ctx);
	stranger.ctx = own;
}

static void test_wrong_name(void **state)
{
	struct ends e = { .client = &alpha, .server = &beta, .client_expects = "gamma" };

	(void)state;
	open_ends(&e);
	assert_true(e.near_r < 0);
	expect_code(&e.near_why, PROTO_TLS_BAD_NAME);
	assert_non_null(strstr(e.near_why.why.text, "beta"));
	assert_true(e.far_r < 0);
	close_ends(&e);

	e = (struct ends){ .client = &alpha, .server = &beta, .client_expects = "beta",
			   .server_expects = "gamma" };
	open_ends(&e);
	assert_true(e.far_r < 0);
	expect_code(&e.far_why, PROTO_TLS_BAD_NAME);
	expect_client_told(&e, PROTO_TLS_BAD_CERTIFICATE);
	close_ends(&e);
}

static struct proto_hello a_hello(void)
{
	return (struct proto_hello){
		.version_min = 1, .version_max = 1, .features = PROTO_FEATURE_DELTA, .codecs = 3,
		.kind = PROTO_KIND_BULK, .session = 77, .memory_bytes = 64 << 20, .generation = 5,
		.epoch_limit = 1 << 20, .page_bytes = 4096, .vm = "db",
	};
}

static void test_bare_client_tls_server(void **state)
{
	struct ends e = { .client = &bare, .server = &beta, .client_expects = "beta" };
	struct proto_hello h = a_hello();
	struct transport_dial d = { .to = { "127.0.0.1" }, .deadline_ns = SOON,
				    .interrupt_fd = -1 };
	struct message m;
	pthread_t t;

	(void)state;
	listen_any(&e.listener, &e.port);
	d.to.port = e.port;
	pthread_create(&t, NULL, accept_far, &e);
	assert_int_equal(transport_connect(&e.near, bare.ctx, &d, &e.near_why), 0);
	assert_true(transport_greet(e.near, &h, &m, &e.near_why) < 0);
	pthread_join(t, NULL);
	expect_code(&e.far_why, PROTO_TLS_NOT_SPOKEN);
	/* OpenSSL hangs up without an alert: all that can be said is what it may be. */
	expect_code(&e.near_why, PROTO_CLOSED);
	assert_non_null(strstr(e.near_why.why.text, "encryption"));
	close_ends(&e);
}

static void *receive_one(void *arg)
{
	struct ends *e = arg;
	struct message m;

	accept_far(e);
	if (e->far_r == 0)
		e->far_r = transport_recv(e->far, SOON, &m, &e->far_why);
	transport_shutdown(e->far);
	return NULL;
}

static void test_tls_client_bare_server(void **state)
{
	struct ends e = { .client = &alpha, .server = &bare };
	struct transport_dial d = { .to = { "127.0.0.1" }, .peer_name = "beta",
				    .deadline_ns = SOON, .interrupt_fd = -1 };
	pthread_t t;

	(void)state;
	listen_any(&e.listener, &e.port);
	d.to.port = e.port;
	pthread_create(&t, NULL, receive_one, &e);
	assert_true(transport_connect(&e.near, alpha.ctx, &d, &e.near_why) < 0);
	pthread_join(t, NULL);
	expect_code(&e.far_why, PROTO_TLS_NOT_SPOKEN);
	close_ends(&e);
}

/* Raw bytes into a bare transport: what does it say? */
static void expect_bytes(const void *bytes, size_t len, enum proto_code code)
{
	struct ends e = { .server = &bare };
	struct message m;
	pthread_t t;
	int fd;

	listen_any(&e.listener, &e.port);
	pthread_create(&t, NULL, accept_far, &e);
	assert_int_equal(socket_dial(&(struct socket_address){ "127.0.0.1", e.port }, SOON, &fd,
				     NULL), 0);
	pthread_join(t, NULL);
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
	close(fd);
	assert_true(transport_recv(e.far, SOON, &m, &e.far_why) < 0);
	expect_code(&e.far_why, code);
	/* And it stays refused. */
	assert_true(transport_recv(e.far, SOON, &m, &e.far_why) < 0);
	expect_code(&e.far_why, PROTO_CLOSED);
	close_ends(&e);
}

static void test_garbage(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: pollux\r\nUser-Agent: a browser\r\n\r\n";
	struct frame_stream s;
	struct frame f = { .type = PROTO_BYE, .generation = 1 };
	struct frame_body b = { .head = "\0\0bye", .head_len = 5 };
	uint8_t bytes[PROTO_HEADER_BYTES + 5];

	(void)state;
	expect_bytes(http, sizeof(http), PROTO_BAD_MAGIC);
	expect_bytes("", 0, PROTO_CLOSED);
	frame_stream_init(&s);
	assert_int_equal(frame_encode(&s, &f, &b, bytes, NULL), 0);
	memcpy(bytes + PROTO_HEADER_BYTES, b.head, 5);
	expect_bytes(bytes, sizeof(bytes) - 1, PROTO_TRUNCATED);
	expect_bytes(bytes, 20, PROTO_TRUNCATED);
	bytes[PROTO_HEADER_BYTES + 2] ^= 1;
	expect_bytes(bytes, sizeof(bytes), PROTO_BAD_CHECKSUM);
	bytes[4] = 9;
	expect_bytes(bytes, sizeof(bytes), PROTO_BAD_VERSION);
}

/* --- opening, waiting, ending ----------------------------------------------------------------- */

struct answerer {
	struct ends *e;
	struct message answer;
	struct proto_hello heard;
};

static void *answer_hello(void *arg)
{
	struct answerer *a = arg;
	struct message m;

	if (transport_recv(a->e->far, SOON, &m, &a->e->far_why) < 0)
		return "recv";
	a->heard = m.hello;
	if (transport_answer(a->e->far, &a->answer, &a->e->far_why) < 0)
		return "answer";
	if (a->answer.type == PROTO_REFUSE)
		transport_finish(a->e->far, SOON);
	return NULL;
}

static struct message a_welcome(void)
{
	return (struct message){ .type = PROTO_WELCOME, .generation = 6,
				 .welcome = { .version = 1, .features = PROTO_FEATURE_DELTA,
					      .codec = 1, .session = 77, .generation = 6,
					      .epoch_limit = 1 << 19 } };
}

static int greet(struct ends *e, const struct message *answer, struct message *ret)
{
	struct answerer a = { .e = e, .answer = *answer };
	struct proto_hello h = a_hello();
	pthread_t t;
	void *bad;
	int r;

	pthread_create(&t, NULL, answer_hello, &a);
	r = transport_greet(e->near, &h, ret, &e->near_why);
	if (r < 0)
		transport_shutdown(e->near);
	pthread_join(t, &bad);
	assert_null(bad);
	assert_string_equal(a.heard.vm, "db");
	return r;
}

static void test_greet(void **state)
{
	struct ends e = good_ends(&alpha, &beta);
	struct message w = a_welcome(), m, old = disk_write(0, "x", 1);

	(void)state;
	assert_int_equal(greet(&e, &w, &m), 0);
	assert_int_equal(m.welcome.epoch_limit, 1 << 19);
	/* Both ends go on with generation 6: an older frame ends the connection. */
	old.generation = 6;
	assert_int_equal(transport_send(e.near, &old, SOON, NULL), 0);
	old.generation = 5;
	assert_int_equal(transport_send(e.near, &old, SOON, NULL), 0);
	assert_int_equal(transport_flush(e.near, SOON, NULL), 0);
	assert_int_equal(transport_recv(e.far, SOON, &m, &e.far_why), 0);
	assert_int_equal(transport_recv(e.far, SOON, &m, &e.far_why), -ESTALE);
	expect_code(&e.far_why, PROTO_STALE_GENERATION);
	close_ends(&e);
}

static void test_bad_choices(void **state)
{
	static const struct {
		struct proto_welcome w;
		enum proto_code code;
	} table[] = {
		{ { 1, 1, 1, 78, 6, 1 }, PROTO_BAD_SESSION },
		{ { 1, 3, 1, 77, 6, 1 }, PROTO_BAD_HELLO },
		{ { 1, 1, 2, 77, 6, 1 }, PROTO_BAD_CODEC },
		{ { 1, 1, 1, 77, 4, 1 }, PROTO_STALE_GENERATION },
		{ { 1, 1, 1, 77, 6, 1 << 21 }, PROTO_BAD_HELLO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct ends e = good_ends(&bare, &bare);
		struct message w = a_welcome(), m;

		w.welcome = table[i].w;
		assert_true(greet(&e, &w, &m) < 0);
		expect_code(&e.near_why, table[i].code);
		close_ends(&e);
	}
}

static void test_refused(void **state)
{
	struct ends e = good_ends(&alpha, &beta);
	struct message no = { .type = PROTO_REFUSE, .generation = 9,
			      .refuse = { .code = PROTO_IS_ACTIVE, .generation = 9 },
			      .tail = "db runs here", .tail_len = 12 };
	struct message m;

	(void)state;
	assert_true(greet(&e, &no, &m) < 0);
	expect_code(&e.near_why, PROTO_IS_ACTIVE);
	assert_non_null(strstr(e.near_why.why.text, "db runs here"));
	assert_int_equal(m.type, PROTO_REFUSE);
	assert_int_equal(m.refuse.generation, 9);
	close_ends(&e);
}

static void test_deadline_keeps_the_place(void **state)
{
	struct ends e = good_ends(&bare, &bare);
	struct message m = disk_write(0, pattern, 5000), got;
	uint64_t before = clock_now_ns();
	struct frame_stream s;
	struct frame f = { .type = m.type, .generation = 1 };
	uint8_t head[MESSAGE_HEAD_MAX], header[PROTO_HEADER_BYTES];
	struct frame_body b;
	int fd = transport_fd(e.near);

	(void)state;
	frame_stream_init(&s);
	assert_int_equal(message_encode(&m, head, &b, NULL), 0);
	assert_int_equal(frame_encode(&s, &f, &b, header, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		static const size_t cut[] = { 20, 48, 3000 };
		struct { const void *at; size_t len; } p[] = {
			{ header, cut[0] }, { header + cut[0], cut[1] - cut[0] },
			{ head, b.head_len },
		};

		assert_int_equal(send(fd, p[i].at, p[i].len, 0), p[i].len);
		assert_int_equal(transport_recv(e.far, clock_now_ns() + 20 * NS_PER_MS, &got,
						&e.far_why), -ETIMEDOUT);
		expect_code(&e.far_why, PROTO_TIMED_OUT);
	}
	assert_true(clock_now_ns() - before >= 60 * NS_PER_MS);
	assert_true(transport_pending(e.far));
	assert_int_equal(send(fd, b.tail, b.tail_len, 0), b.tail_len);
	assert_int_equal(transport_recv(e.far, SOON, &got, &e.far_why), 0);
	assert_memory_equal(got.tail, pattern, 5000);
	assert_false(transport_pending(e.far));
	close_ends(&e);
}

struct waiter {
	struct transport *t;
	struct refusal why;
	int r;
};

static void *wait_forever(void *arg)
{
	struct waiter *w = arg;
	struct message m;

	w->r = transport_recv(w->t, SOON, &m, &w->why);
	return NULL;
}

static void test_shutdown(void **state)
{
	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		struct ends e = tls ? good_ends(&alpha, &beta) : good_ends(&bare, &bare);
		struct waiter near = { .t = e.near }, far = { .t = e.far };
		pthread_t a, b;

		pthread_create(&a, NULL, wait_forever, &near);
		pthread_create(&b, NULL, wait_forever, &far);
		transport_shutdown(e.near);
		pthread_join(a, NULL);
		pthread_join(b, NULL);
		assert_int_equal(near.r, -ECONNRESET);
		assert_int_equal(far.r, -ECONNRESET);
		expect_code(&near.why, PROTO_CLOSED);
		close_ends(&e);
	}
}

/* A peer that does not read: the sender gives up at its deadline, and stays down. */
static void test_send_deadline(void **state)
{
	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		struct ends e = tls ? good_ends(&alpha, &beta) : good_ends(&bare, &bare);
		struct message m = disk_write(0, pattern, LARGEST);
		uint64_t deadline = clock_now_ns() + 300 * NS_PER_MS;
		int r;

		do
			r = transport_send(e.near, &m, deadline, &e.near_why);
		while (r == 0);
		assert_int_equal(r, -ETIMEDOUT);
		assert_true(clock_now_ns() >= deadline);
		assert_true(transport_send(e.near, &m, SOON, &e.near_why) < 0);
		expect_code(&e.near_why, PROTO_CLOSED);
		close_ends(&e);
	}
}

static void test_interrupt(void **state)
{
	int listener, fd, event = eventfd(0, EFD_CLOEXEC);
	struct refusal why;
	uint64_t one = 1;
	uint16_t port;

	(void)state;
	listen_any(&listener, &port);
	assert_int_equal(socket_accept(listener, event, clock_now_ns() + NS_PER_MS, &fd, &why),
			 -ETIMEDOUT);
	assert_int_equal(write(event, &one, sizeof(one)), sizeof(one));
	assert_int_equal(socket_accept(listener, event, SOON, &fd, &why), -ECANCELED);
	expect_code(&why, PROTO_INTERRUPTED);
	close(event);
	close(listener);
	/* Nobody listens there any more. */
	assert_true(socket_dial(&(struct socket_address){ "127.0.0.1", port }, SOON, &fd, &why) < 0);
	expect_code(&why, PROTO_CONNECT_FAILED);
}

static void test_config(void **state)
{
	struct tls_settings s = { .encryption = true, .ca = alpha.ca, .cert = alpha.cert,
				  .key = beta.key };
	struct tls_context *ctx;
	struct refusal why;

	(void)state;
	assert_int_equal(tls_context_open(&ctx, &s, &why), -EINVAL);
	expect_code(&why, PROTO_TLS_CONFIG);
	s.key = "/nowhere/key.pem";
	assert_int_equal(tls_context_open(&ctx, &s, &why), -EINVAL);
	assert_non_null(strstr(why.why.text, "/nowhere/key.pem"));
	s.key = NULL;
	assert_int_equal(tls_context_open(&ctx, &s, &why), -EINVAL);
}

/* --- errands ---------------------------------------------------------------------------------- */

struct server {
	int listener;
	uint16_t port;
	struct host *host;
	const char *reply;
	char heard[64];
	struct refusal why;
	int r;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	struct errand *errand;
	int fd;

	s->r = socket_accept(s->listener, -1, SOON, &fd, &s->why);
	if (s->r < 0)
		return NULL;
	s->r = errand_receive(&errand, s->host->ctx, fd, SOON, &s->why);
	if (s->r < 0)
		return NULL;
	snprintf(s->heard, sizeof(s->heard), "%.20s from %.20s", errand_request(errand),
		 errand_peer_name(errand));
	if (s->reply)
		s->r = errand_reply(errand, s->reply, SOON, &s->why);
	errand_close(errand);
	return NULL;
}

static int call(struct server *s, struct host *caller, const char *request, char **ret,
		struct refusal *why)
{
	struct errand_peer peer = { .to = { "127.0.0.1" }, .peer_name = "beta",
				    .deadline_ns = SOON, .interrupt_fd = -1 };
	pthread_t t;
	int r;

	listen_any(&s->listener, &s->port);
	peer.to.port = s->port;
	pthread_create(&t, NULL, serve, s);
	r = errand_call(caller->ctx, &peer, request, ret, why);
	pthread_join(t, NULL);
	close(s->listener);
	return r;
}

static void test_errand(void **state)
{
	struct server s = { .host = &beta, .reply = "{\"port\":7401}" };
	struct refusal why;
	char *reply;

	(void)state;
	assert_int_equal(call(&s, &alpha, "{\"op\":\"prepare\"}", &reply, &why), 0);
	assert_string_equal(reply, "{\"port\":7401}");
	assert_string_equal(s.heard, "{\"op\":\"prepare\"} from alpha");
	assert_int_equal(s.r, 0);
	free(reply);

	/* Large ones, up to the limit; not beyond. */
	char *big = malloc(PROTO_REQUEST_MAX + 1);

	memset(big, 'j', PROTO_REQUEST_MAX);
	big[PROTO_REQUEST_MAX - 1] = '\0';
	s.reply = big;
	assert_int_equal(call(&s, &alpha, big, &reply, &why), 0);
	assert_int_equal(strlen(reply), PROTO_REQUEST_MAX - 1);
	free(reply);
	big[PROTO_REQUEST_MAX - 1] = 'j';
	big[PROTO_REQUEST_MAX] = '\0';
	s.reply = NULL;
	assert_int_equal(call(&s, &alpha, big, &reply, &why), -EMSGSIZE);
	free(big);

	/* No reply, and a caller whom nobody knows. */
	assert_true(call(&s, &alpha, "{}", &reply, &why) < 0);
	expect_code(&why, PROTO_CLOSED);
	assert_true(call(&s, &stranger, "{}", &reply, &why) < 0);
	expect_code(&why, PROTO_TLS_BAD_CERTIFICATE);
	expect_code(&s.why, PROTO_TLS_BAD_CERTIFICATE);
}

static int setup(void **state)
{
	struct tls_settings off = { .encryption = false };

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	make_ca("ca");
	make_ca("other-ca");
	make_host(&alpha, "alpha", "ca");
	make_host(&beta, "beta", "ca");
	make_host(&stranger, "stranger", "other-ca");
	if (tls_context_open(&bare.ctx, &off, NULL) < 0)
		return -1;
	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 2654435761u >> 24);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tls_context_close(alpha.ctx);
	tls_context_close(beta.ctx);
	tls_context_close(stranger.ctx);
	tls_context_close(bare.ctx);
	sh("rm -r %s", dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways_tls),
		cmocka_unit_test(test_both_ways_bare),
		cmocka_unit_test(test_rekey),
		cmocka_unit_test(test_wrong_ca),
		cmocka_unit_test(test_wrong_client_certificate),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_bare_client_tls_server),
		cmocka_unit_test(test_tls_client_bare_server),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_greet),
		cmocka_unit_test(test_bad_choices),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_deadline_keeps_the_place),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_send_deadline),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_errand),
	};

	if (system("openssl version >/dev/null 2>&1") != 0) {
		printf("skipped: no openssl program to make certificates with\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
