/* SPDX-License-Identifier: Apache-2.0 */
/* The exchange before frames: a request and its reply, bounded, between known hosts. */
#include "ha/errand.h"

#include "tests/unit/pair.h"

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
	struct errand_peer peer = {
		.to = { "127.0.0.1" }, .peer_name = "beta", .deadline_ns = SOON, .interrupt_fd = -1
	};
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

/* Raw bytes to a server without encryption: does it refuse them by that name? */
static void expect_bytes(const char *bytes, size_t len, enum proto_code code)
{
	struct server s = { .host = &bare };
	struct socket_address to = { .host = "127.0.0.1" };
	struct tls_open_options o = { .side = TLS_CLIENT, .interrupt_fd = -1 };
	struct tls_conn *c;
	pthread_t t;
	int fd;

	listen_any(&s.listener, &to.port);
	pthread_create(&t, NULL, serve, &s);
	assert_int_equal(socket_dial(&to, SOON, &fd, NULL), 0);
	assert_int_equal(tls_open(&c, bare.ctx, fd, &o, NULL), 0);
	/* The server may hang up before it has all. */
	tls_write(c, bytes, len, SOON, NULL);
	tls_close(c);
	pthread_join(t, NULL);
	close(s.listener);
	assert_true(s.r < 0);
	expect_code(&s.why, code);
}

static void test_bad_requests(void **state)
{
	char *big = malloc(2 * PROTO_REQUEST_MAX);

	(void)state;
	memset(big, 'j', 2 * PROTO_REQUEST_MAX);
	expect_bytes(big, 2 * PROTO_REQUEST_MAX, PROTO_TOO_LARGE);
	free(big);
	expect_bytes("{}\0more", 7, PROTO_BAD_PAYLOAD);
	expect_bytes("{", 1, PROTO_CLOSED);
	expect_bytes("", 0, PROTO_CLOSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errand),
		cmocka_unit_test(test_bad_requests),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, hosts_open, hosts_close);
}
