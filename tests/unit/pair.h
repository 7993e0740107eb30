/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of connections: hosts with certificates, made by openssl(1) in a folder of the
 * test's own, and the two ends of a connection over loopback. Hosts: alpha and beta signed
 * by one CA, stranger by another, bare without encryption.
 */
#ifndef POLLUX_TESTS_PAIR_H
#define POLLUX_TESTS_PAIR_H

#include "ha/transport.h"

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <cmocka.h>

#define SOON (clock_now_ns() + 10 * NS_PER_S)

static char dir[] = "/tmp/test_pair.XXXXXX";

struct host {
	char ca[128], cert[128], key[128];
	struct tls_context *ctx;
};
static struct host alpha, beta, stranger, bare;

static inline void sh(const char *fmt, ...)
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

static inline void make_ca(const char *name)
{
	sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
	   "-keyout %s.key -out %s.pem -subj /CN=%s",
	   name, name, name);
}

static inline void make_host(struct host *h, const char *name, const char *ca)
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

static inline void *accept_far(void *arg)
{
	struct ends *e = arg;
	struct tls_open_options o = { .side = TLS_SERVER,
				      .peer_name = e->server_expects,
				      .deadline_ns = SOON,
				      .interrupt_fd = -1 };
	int fd;

	e->far_r = socket_accept(e->listener, -1, SOON, &fd, &e->far_why);
	if (e->far_r == 0)
		e->far_r = transport_accept(&e->far, e->server->ctx, fd, &o, &e->far_why);
	return NULL;
}

static inline void listen_any(int *ret_fd, uint16_t *ret_port)
{
	struct socket_address at = { .host = "127.0.0.1" };

	assert_int_equal(socket_listen(&at, ret_fd, NULL), 0);
	assert_int_equal(socket_port(*ret_fd, ret_port), 0);
}

static inline void open_ends(struct ends *e)
{
	struct transport_dial d = { .to = { "127.0.0.1" },
				    .peer_name = e->client_expects,
				    .deadline_ns = SOON,
				    .interrupt_fd = -1 };
	pthread_t t;

	listen_any(&e->listener, &e->port);
	d.to.port = e->port;
	assert_int_equal(pthread_create(&t, NULL, accept_far, e), 0);
	e->near_r = transport_connect(&e->near, e->client->ctx, &d, &e->near_why);
	pthread_join(t, NULL);
}

static inline void close_ends(struct ends *e)
{
	transport_close(e->near);
	transport_close(e->far);
	close(e->listener);
}

static inline struct ends good_ends(struct host *client, struct host *server)
{
	struct ends e = { .client = client,
			  .server = server,
			  .client_expects = "beta",
			  .server_expects = "alpha" };

	open_ends(&e);
	assert_int_equal(e.near_r, 0);
	assert_int_equal(e.far_r, 0);
	return e;
}

static inline void expect_code(const struct refusal *why, enum proto_code code)
{
	if (why->code != code)
		fail_msg("expected %s, got: %s", proto_code_name(code), why->why.text);
}

static inline int hosts_open(void **state)
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
	return 0;
}

static inline int hosts_close(void **state)
{
	(void)state;
	tls_context_close(alpha.ctx);
	tls_context_close(beta.ctx);
	tls_context_close(stranger.ctx);
	tls_context_close(bare.ctx);
	sh("rm -r %s", dir);
	return 0;
}

/* For main(): no certificates without the program. */
static inline bool openssl_missing(void)
{
	if (system("openssl version >/dev/null 2>&1") == 0)
		return false;
	printf("no openssl program to make certificates with\n");
	return true;
}

#endif
