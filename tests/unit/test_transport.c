/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections over loopback, TLS and bare: what is sent arrives in order, both ways at
 * once; garbage is refused by name; waits end at their deadline or when told to.
 */
#include "tests/unit/pair.h"

#include <sys/eventfd.h>

static struct message disk_write(uint64_t epoch, const void *data, uint32_t len)
{
	return (struct message){ .type = PROTO_DISK_WRITE,
				 .generation = 1,
				 .epoch = epoch,
				 .disk = { .disk = 0, .offset = 0, .length = len },
				 .tail = data,
				 .tail_len = len };
}

/* --- data ---------------------------------------------------------------------------------- */

#define EPOCHS	20u
#define WRITES	40u
#define LARGEST (PROTO_PAYLOAD_MAX - 18)
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
		struct message end = { .type = PROTO_EPOCH_END,
				       .generation = 1,
				       .epoch = epoch,
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

/* Raw bytes into a bare transport: what does it say? */
static void expect_bytes(const void *bytes, size_t len, enum proto_code code)
{
	struct ends e = { .server = &bare };
	struct message m;
	pthread_t t;
	int fd;

	listen_any(&e.listener, &e.port);
	pthread_create(&t, NULL, accept_far, &e);
	assert_int_equal(
		socket_dial(&(struct socket_address){ "127.0.0.1", e.port }, SOON, &fd, NULL), 0);
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
	static const char http[] =
		"GET / HTTP/1.1\r\nHost: pollux\r\nUser-Agent: a browser\r\n\r\n";
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

static struct proto_hello a_hello(void)
{
	return (struct proto_hello){
		.version_min = 1,
		.version_max = 1,
		.features = PROTO_FEATURE_DELTA,
		.codecs = 3,
		.kind = PROTO_KIND_BULK,
		.session = 77,
		.memory_bytes = 64 << 20,
		.generation = 5,
		.epoch_limit = 1 << 20,
		.page_bytes = 4096,
		.vm = "db",
	};
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
	return (struct message){ .type = PROTO_WELCOME,
				 .generation = 6,
				 .welcome = { .version = 1,
					      .features = PROTO_FEATURE_DELTA,
					      .codec = 1,
					      .session = 77,
					      .generation = 6,
					      .epoch_limit = 1 << 19 } };
}

static int greet_with(struct ends *e, uint64_t features, const struct message *answer,
		      struct message *ret)
{
	struct answerer a = { .e = e, .answer = *answer };
	struct proto_hello h = a_hello();
	pthread_t t;
	void *bad;
	int r;

	h.features = features;

	pthread_create(&t, NULL, answer_hello, &a);
	r = transport_greet(e->near, &h, ret, &e->near_why);
	if (r < 0)
		transport_shutdown(e->near);
	pthread_join(t, &bad);
	assert_null(bad);
	assert_string_equal(a.heard.vm, "db");
	return r;
}

static int greet(struct ends *e, const struct message *answer, struct message *ret)
{
	return greet_with(e, PROTO_FEATURE_DELTA, answer, ret);
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
		uint64_t offered;
		struct proto_welcome w;
		enum proto_code code;
	} table[] = {
		{ 1, { 1, 1, 1, 78, 6, 1 }, PROTO_BAD_SESSION },
		{ 0, { 1, 1, 1, 77, 6, 1 }, PROTO_BAD_HELLO },
		{ 1, { 1, 1, 2, 77, 6, 1 }, PROTO_BAD_CODEC },
		{ 1, { 1, 1, 1, 77, 4, 1 }, PROTO_STALE_GENERATION },
		{ 1, { 1, 1, 1, 77, 6, 1 << 21 }, PROTO_BAD_HELLO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct ends e = good_ends(&bare, &bare);
		struct message w = a_welcome(), m;

		w.welcome = table[i].w;
		assert_true(greet_with(&e, table[i].offered, &w, &m) < 0);
		expect_code(&e.near_why, table[i].code);
		close_ends(&e);
	}
}

static void test_refused(void **state)
{
	struct ends e = good_ends(&alpha, &beta);
	struct message no = { .type = PROTO_REFUSE,
			      .generation = 9,
			      .refuse = { .code = PROTO_IS_ACTIVE, .generation = 9 },
			      .tail = "db runs here",
			      .tail_len = 12 };
	struct message m;

	(void)state;
	assert_true(greet(&e, &no, &m) < 0);
	expect_code(&e.near_why, PROTO_IS_ACTIVE);
	assert_non_null(strstr(e.near_why.why.text, "db runs here"));
	assert_int_equal(m.type, PROTO_REFUSE);
	assert_int_equal(m.refuse.generation, 9);
	close_ends(&e);
}

/* A backup refuses in the middle of a stream that it no longer reads: the reason arrives. */
static void test_last_words(void **state)
{
	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		struct ends e = tls ? good_ends(&alpha, &beta) : good_ends(&bare, &bare);
		struct message data = disk_write(0, pattern, 100000), got;
		struct message no = { .type = PROTO_REFUSE,
				      .generation = 1,
				      .refuse = { .code = PROTO_DISK_FAILED, .generation = 1 } };

		for (int i = 0; i < 3; i++)
			assert_int_equal(transport_send(e.near, &data, SOON, NULL), 0);
		assert_int_equal(transport_flush(e.near, SOON, NULL), 0);
		assert_int_equal(transport_send(e.far, &no, SOON, NULL), 0);
		transport_finish(e.far, clock_now_ns() + 50 * NS_PER_MS);
		transport_close(e.far);
		e.far = NULL;
		assert_int_equal(transport_recv(e.near, SOON, &got, &e.near_why), 0);
		assert_int_equal(got.type, PROTO_REFUSE);
		assert_int_equal(got.refuse.code, PROTO_DISK_FAILED);
		close_ends(&e);
	}
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
		struct {
			const void *at;
			size_t len;
		} p[] = {
			{ header, cut[0] },
			{ header + cut[0], cut[1] - cut[0] },
			{ head, b.head_len },
		};

		assert_int_equal(send(fd, p[i].at, p[i].len, 0), p[i].len);
		assert_int_equal(
			transport_recv(e.far, clock_now_ns() + 20 * NS_PER_MS, &got, &e.far_why),
			-ETIMEDOUT);
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
	assert_true(socket_dial(&(struct socket_address){ "127.0.0.1", port }, SOON, &fd, &why) <
		    0);
	expect_code(&why, PROTO_CONNECT_FAILED);
}

static int setup(void **state)
{
	for (unsigned i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 2654435761u >> 24);
	return hosts_open(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways_tls),
		cmocka_unit_test(test_both_ways_bare),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_greet),
		cmocka_unit_test(test_bad_choices),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_deadline_keeps_the_place),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_send_deadline),
		cmocka_unit_test(test_interrupt),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, setup, hosts_close);
}
