/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may talk: a peer with the wrong CA, certificate or name, or that speaks plaintext
 * where TLS is expected or the other way round, is refused by name on both sides.
 */
#include "tests/unit/pair.h"

static uint8_t pattern[600];

/* Keys change under way, in one direction, while the other one reads. */
static void test_rekey(void **state)
{
	struct tls_open_options o = {
		.side = TLS_CLIENT, .peer_name = "beta", .deadline_ns = SOON, .interrupt_fd = -1
	};
	struct ends e = { .client = &alpha, .server = &beta, .server_expects = "alpha" };
	struct tls_conn *c;
	struct frame_stream s;
	pthread_t t;
	int fd;

	(void)state;
	listen_any(&e.listener, &e.port);
	pthread_create(&t, NULL, accept_far, &e);
	assert_int_equal(
		socket_dial(&(struct socket_address){ "127.0.0.1", e.port }, SOON, &fd, NULL), 0);
	assert_int_equal(tls_open(&c, alpha.ctx, fd, &o, NULL), 0);
	pthread_join(t, NULL);
	tls_set_rekey(c, 1000);
	frame_stream_init(&s);
	for (unsigned i = 0; i < 200; i++) {
		struct frame f = { .type = PROTO_BYE, .generation = 1 };
		struct frame_body b = {
			.head = "\0\0", .head_len = 2, .tail = pattern, .tail_len = 600
		};
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
	struct tls_settings s = {
		.encryption = true, .ca = beta.ca, .cert = stranger.cert, .key = stranger.key
	};
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

	e = (struct ends){ .client = &alpha,
			   .server = &beta,
			   .client_expects = "beta",
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

static void test_bare_client_tls_server(void **state)
{
	struct ends e = { .client = &bare, .server = &beta, .client_expects = "beta" };
	struct proto_hello h = a_hello();
	struct transport_dial d = { .to = { "127.0.0.1" },
				    .deadline_ns = SOON,
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
	struct transport_dial d = {
		.to = { "127.0.0.1" }, .peer_name = "beta", .deadline_ns = SOON, .interrupt_fd = -1
	};
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

static void test_config(void **state)
{
	struct tls_settings s = {
		.encryption = true, .ca = alpha.ca, .cert = alpha.cert, .key = beta.key
	};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rekey),
		cmocka_unit_test(test_wrong_ca),
		cmocka_unit_test(test_wrong_client_certificate),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_bare_client_tls_server),
		cmocka_unit_test(test_tls_client_bare_server),
		cmocka_unit_test(test_config),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, hosts_open, hosts_close);
}
