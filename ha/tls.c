/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: one byte stream, by TLS 1.3 or bare. Invariant: with encryption nothing is
 * read from or written to a peer whose certificate was not checked, chain and name.
 * Threads: one reader, one writer, anyone for tls_shutdown(); `lock` covers `ssl`.
 * Source: RFC 8446; OpenSSL 3, ssl(7).
 */
#include "ha/tls.h"

#include "base/clock.h"
#include "ha/socket.h"
#include "ha/tls_psk.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#define READ_BUFFER (64u << 10)
/* RFC 8446, 5.5: AES-GCM keys are good for 2^24.5 records; change them well before. */
#define REKEY_BYTES (UINT64_C(1) << 36)
/* How long a refused peer gets to read why before the connection is cut. */
#define LINGER_NS (200 * NS_PER_MS)

struct tls_context {
	SSL_CTX *ssl; /* NULL: encryption is off */
	bool psk;     /* a shared secret stands for both certificates */
};

struct tls_conn {
	int fd;
	int interrupt_fd;
	SSL *ssl; /* NULL: bare */
	bool psk;
	pthread_mutex_t lock;
	atomic_bool closed;
	uint64_t written; /* since the last change of keys; the writer's */
	uint64_t rekey_bytes;
	char peer[256];
};

/* The oldest error OpenSSL has for this thread, as text. */
static const char *ssl_text(unsigned long err)
{
	const char *text = err ? ERR_reason_error_string(err) : NULL;

	return text ? text : "no reason given";
}

static int load_files(SSL_CTX *ssl, const struct tls_settings *s, struct refusal *why)
{
	if (!s->ca || !s->cert || !s->key)
		return refusal_set(why, PROTO_TLS_CONFIG, "ca, cert and key are all needed");
	if (SSL_CTX_load_verify_file(ssl, s->ca) != 1)
		return refusal_set(why, PROTO_TLS_CONFIG, "ca file %s: %s", s->ca,
				   ssl_text(ERR_get_error()));
	if (SSL_CTX_use_certificate_chain_file(ssl, s->cert) != 1)
		return refusal_set(why, PROTO_TLS_CONFIG, "cert file %s: %s", s->cert,
				   ssl_text(ERR_get_error()));
	/* Refuses a key that does not belong to the certificate, too. */
	if (SSL_CTX_use_PrivateKey_file(ssl, s->key, SSL_FILETYPE_PEM) != 1)
		return refusal_set(why, PROTO_TLS_CONFIG, "key file %s: %s", s->key,
				   ssl_text(ERR_get_error()));
	return 0;
}

static int setup(SSL_CTX *ssl, struct refusal *why)
{
	ERR_clear_error();
	if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					  "TLS_CHACHA20_POLY1305_SHA256") != 1)
		return refusal_set(why, PROTO_TLS_CONFIG, "this OpenSSL has no TLS 1.3");
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* No resumption: every connection proves both certificates anew. */
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, 0);
	SSL_CTX_set_read_ahead(ssl, 1);
	SSL_CTX_set_default_read_buffer_len(ssl, READ_BUFFER);
	return 0;
}

/* OpenSSL writes with write(2): a peer that is gone must be an error, not a signal. */
static void ignore_sigpipe(void)
{
	struct sigaction old;

	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

int tls_context_open(struct tls_context **ret, const struct tls_settings *s, struct refusal *why)
{
	struct tls_context *ctx = calloc(1, sizeof(*ctx));
	int r;

	if (!ctx)
		return refusal_set(why, PROTO_NO_MEMORY, "a TLS context");
	if (!s->encryption) {
		*ret = ctx;
		return 0;
	}
	ignore_sigpipe();
	ctx->ssl = SSL_CTX_new(TLS_method());
	r = ctx->ssl ? setup(ctx->ssl, why) : refusal_set(why, PROTO_NO_MEMORY, "a TLS context");
	if (!r)
		r = load_files(ctx->ssl, s, why);
	if (r < 0) {
		tls_context_close(ctx);
		return r;
	}
	*ret = ctx;
	return 0;
}

int tls_context_open_psk(struct tls_context **ret, const uint8_t key[TLS_PSK_BYTES],
			 struct refusal *why)
{
	struct tls_context *ctx = calloc(1, sizeof(*ctx));
	int r;

	if (!ctx)
		return refusal_set(why, PROTO_NO_MEMORY, "a TLS context");
	ignore_sigpipe();
	ctx->psk = true;
	ctx->ssl = SSL_CTX_new(TLS_method());
	if (!ctx->ssl || tls_psk_setup(ctx->ssl, key))
		r = refusal_set(why, PROTO_NO_MEMORY, "a TLS context");
	else
		r = setup(ctx->ssl, why);
	if (r < 0) {
		tls_context_close(ctx);
		return r;
	}
	*ret = ctx;
	return 0;
}

void tls_context_close(struct tls_context *ctx)
{
	if (!ctx)
		return;
	SSL_CTX_free(ctx->ssl);
	free(ctx);
}

/* The peer's alert, where it says that it did not like our certificate. */
static bool alert_is_about_certificate(int reason)
{
	switch (reason) {
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_NO_CERTIFICATE:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		return true;
	default:
		return false;
	}
}

static bool is_not_tls(int reason)
{
	switch (reason) {
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_UNEXPECTED_MESSAGE:
	case SSL_R_BAD_RECORD_TYPE:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
	case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
	case SSL_R_BAD_LENGTH:
	case SSL_R_LENGTH_MISMATCH:
		return true;
	default:
		return false;
	}
}

/* What a failed SSL call means, named. `err` is from SSL_get_error(). */
static int ssl_refusal(struct tls_conn *c, int err, struct refusal *why)
{
	unsigned long e = ERR_get_error();
	int reason = ERR_GET_REASON(e);
	long verify = SSL_get_verify_result(c->ssl);

	if (atomic_load(&c->closed))
		return refusal_set(why, PROTO_CLOSED, "this side ended the connection");
	if (err == SSL_ERROR_ZERO_RETURN)
		return refusal_set(why, PROTO_CLOSED, "the peer ended the connection");
	if (verify == X509_V_ERR_HOSTNAME_MISMATCH || verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
		return refusal_set(why, PROTO_TLS_BAD_NAME, "the peer's certificate is for %s",
				   c->peer[0] ? c->peer : "another host");
	if (verify != X509_V_OK)
		return refusal_set(why, PROTO_TLS_BAD_CERTIFICATE, "the peer's certificate: %s",
				   X509_verify_cert_error_string(verify));
	if (e && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
		return refusal_set(why, PROTO_TLS_BAD_CERTIFICATE, "the peer showed none");
	if (e && alert_is_about_certificate(reason))
		return refusal_set(why, PROTO_TLS_BAD_CERTIFICATE, "the peer refused ours: %s",
				   ssl_text(e));
	if (e && is_not_tls(reason))
		return refusal_set(why, PROTO_TLS_NOT_SPOKEN, "the peer does not speak TLS: %s",
				   ssl_text(e));
	if (err == SSL_ERROR_SYSCALL || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return refusal_set(why, PROTO_CLOSED, "the connection broke: %s",
				   errno ? strerror(errno) : "end of file");
	return refusal_set(why, PROTO_TLS_FAILED, "%s", ssl_text(e));
}

/* Waits for what OpenSSL wants, or names what went wrong. 0: try again. */
static int ssl_wait(struct tls_conn *c, int err, uint64_t deadline_ns, struct refusal *why)
{
	if (err == SSL_ERROR_WANT_READ)
		return socket_wait(c->fd, POLLIN, c->interrupt_fd, deadline_ns, why);
	if (err == SSL_ERROR_WANT_WRITE)
		return socket_wait(c->fd, POLLOUT, c->interrupt_fd, deadline_ns, why);
	assert(err != SSL_ERROR_NONE);
	return -EPROTO;
}

/* Remembers the certificate's first DNS or IP name, so that a refusal can show it. */
static int note_peer(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = ssl ? SSL_get_app_data(ssl) : NULL;
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	GENERAL_NAMES *names;

	if (!c || !cert || c->peer[0])
		return ok;
	names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && !c->peer[0]; i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);

		if (n->type == GEN_DNS)
			snprintf(c->peer, sizeof(c->peer), "%.*s", n->d.dNSName->length,
				 (const char *)n->d.dNSName->data);
	}
	GENERAL_NAMES_free(names);
	if (!c->peer[0])
		X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, c->peer,
					  sizeof(c->peer));
	return ok;
}

static int expect_name(SSL *ssl, const char *name, struct refusal *why)
{
	/* The name stands in the SAN alone, whole: no subject, no wildcards. */
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS);
	if (name && SSL_set1_host(ssl, name) != 1)
		return refusal_set(why, PROTO_TLS_CONFIG, "%.64s is no host name", name);
	return 0;
}

static int handshake(struct tls_conn *c, const struct tls_open_options *o, struct refusal *why)
{
	int n, r, err;

	SSL_set_app_data(c->ssl, c);
	SSL_set_verify(c->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, note_peer);
	r = expect_name(c->ssl, c->psk ? NULL : o->peer_name, why);
	if (r < 0)
		return r;
	if (o->side == TLS_CLIENT)
		SSL_set_connect_state(c->ssl);
	else
		SSL_set_accept_state(c->ssl);
	for (;;) {
		ERR_clear_error();
		errno = 0;
		n = SSL_do_handshake(c->ssl);
		if (n == 1)
			return !c->psk || tls_psk_proven(c->ssl)
				       ? 0
				       : refusal_set(why, PROTO_TLS_FAILED, "no secret was used");
		err = SSL_get_error(c->ssl, n);
		if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
			return ssl_refusal(c, err, why);
		r = ssl_wait(c, err, o->deadline_ns, why);
		if (r < 0)
			return r;
	}
}

/* Closing with unread bytes resets the connection, and a reset overtakes the last words
 * that were sent: half-close, and read the rest away for a moment. */
static void linger(int fd, uint64_t deadline_ns)
{
	uint8_t away[4096];
	ssize_t n;

	shutdown(fd, SHUT_WR);
	while (clock_now_ns() < deadline_ns) {
		n = recv(fd, away, sizeof(away), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
		if (n < 0 && socket_wait(fd, POLLIN, -1, deadline_ns, NULL) < 0)
			return;
	}
}

void tls_linger(struct tls_conn *c, uint64_t deadline_ns)
{
	if (c->ssl && !atomic_load(&c->closed)) {
		pthread_mutex_lock(&c->lock);
		ERR_clear_error();
		SSL_shutdown(c->ssl);
		pthread_mutex_unlock(&c->lock);
	}
	linger(c->fd, deadline_ns);
}

int tls_open(struct tls_conn **ret, struct tls_context *ctx, int fd,
	     const struct tls_open_options *o, struct refusal *why)
{
	struct tls_conn *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close(fd);
		return refusal_set(why, PROTO_NO_MEMORY, "a connection");
	}
	assert(o->side == TLS_SERVER || o->peer_name || !ctx->ssl);
	c->fd = fd;
	c->interrupt_fd = o->interrupt_fd;
	c->rekey_bytes = REKEY_BYTES;
	c->psk = ctx->psk;
	pthread_mutex_init(&c->lock, NULL);
	if (!ctx->ssl) {
		*ret = c;
		return 0;
	}
	c->ssl = SSL_new(ctx->ssl);
	if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
		r = refusal_set(why, PROTO_NO_MEMORY, "a TLS connection");
	else
		r = handshake(c, o, why);
	if (r < 0) {
		linger(fd, clock_now_ns() + LINGER_NS);
		atomic_store(&c->closed, true);
		tls_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void tls_close(struct tls_conn *c)
{
	if (!c)
		return;
	if (c->ssl && !atomic_load(&c->closed)) {
		ERR_clear_error();
		SSL_shutdown(c->ssl);
	}
	SSL_free(c->ssl);
	close(c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void tls_shutdown(struct tls_conn *c)
{
	atomic_store(&c->closed, true);
	shutdown(c->fd, SHUT_RDWR);
}

static int bare_refusal(struct tls_conn *c, ssize_t n, struct refusal *why)
{
	if (atomic_load(&c->closed))
		return refusal_set(why, PROTO_CLOSED, "this side ended the connection");
	if (n == 0)
		return refusal_set(why, PROTO_CLOSED, "the peer ended the connection");
	return refusal_set(why, PROTO_CLOSED, "the connection broke: %s", strerror(errno));
}

static int bare_read(struct tls_conn *c, void *ret, size_t len, uint64_t deadline_ns,
		     struct refusal *why)
{
	ssize_t n;
	int r;

	for (;;) {
		n = recv(c->fd, ret, len, 0);
		if (n > 0)
			return (int)n;
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return bare_refusal(c, n, why);
		r = socket_wait(c->fd, POLLIN, c->interrupt_fd, deadline_ns, why);
		if (r < 0)
			return r;
	}
}

int tls_read(struct tls_conn *c, void *ret, size_t len, uint64_t deadline_ns, struct refusal *why)
{
	int n, err, r;

	assert(len > 0);
	len = MIN(len, (size_t)INT32_MAX);
	if (!c->ssl)
		return bare_read(c, ret, len, deadline_ns, why);
	for (;;) {
		pthread_mutex_lock(&c->lock);
		ERR_clear_error();
		errno = 0;
		n = SSL_read(c->ssl, ret, (int)len);
		err = n > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, n);
		r = 0;
		if (n <= 0 && err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
			r = ssl_refusal(c, err, why);
		pthread_mutex_unlock(&c->lock);
		if (n > 0)
			return n;
		if (r == 0)
			r = ssl_wait(c, err, deadline_ns, why);
		if (r < 0)
			return r;
	}
}

static int bare_write(struct tls_conn *c, const void *src, size_t len, struct refusal *why)
{
	ssize_t n = send(c->fd, src, len, MSG_NOSIGNAL);

	if (n >= 0)
		return (int)n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return bare_refusal(c, n, why);
}

/* One SSL_write: bytes taken, 0 when it wants to wait (for `ret_events`), or a refusal. */
static int ssl_write_some(struct tls_conn *c, const void *src, size_t len, short *ret_events,
			  struct refusal *why)
{
	int n, err, r = 0;

	pthread_mutex_lock(&c->lock);
	ERR_clear_error();
	errno = 0;
	if (c->written >= c->rekey_bytes) {
		SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
		c->written = 0;
	}
	n = SSL_write(c->ssl, src, (int)MIN(len, (size_t)INT32_MAX));
	if (n <= 0) {
		err = SSL_get_error(c->ssl, n);
		if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
			*ret_events = err == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
		else
			r = ssl_refusal(c, err, why);
	} else {
		c->written += (uint64_t)n;
		r = n;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

int tls_write(struct tls_conn *c, const void *src, size_t len, uint64_t deadline_ns,
	      struct refusal *why)
{
	const uint8_t *at = src;
	int n, r;

	while (len) {
		short events = POLLOUT;

		n = c->ssl ? ssl_write_some(c, at, len, &events, why) : bare_write(c, at, len, why);
		if (n < 0)
			return n;
		at += n;
		len -= (size_t)n;
		if (n > 0)
			continue;
		r = socket_wait(c->fd, events, c->interrupt_fd, deadline_ns, why);
		if (r < 0)
			return r;
	}
	return 0;
}

bool tls_encrypted(const struct tls_conn *c)
{
	return c->ssl;
}

bool tls_peer_is(const struct tls_conn *c, const char *name)
{
	unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS;
	X509 *cert;

	if (!c->ssl)
		return true;
	cert = SSL_get0_peer_certificate(c->ssl);
	if (!cert)
		return false;
	return X509_check_ip_asc(cert, name, flags) == 1 ||
	       X509_check_host(cert, name, 0, flags, NULL) == 1;
}

const char *tls_peer_name(const struct tls_conn *c)
{
	return c->peer;
}

int tls_fd(const struct tls_conn *c)
{
	return c->fd;
}

bool tls_pending(struct tls_conn *c)
{
	bool pending;

	if (!c->ssl)
		return false;
	pthread_mutex_lock(&c->lock);
	pending = SSL_has_pending(c->ssl);
	pthread_mutex_unlock(&c->lock);
	return pending;
}

void tls_set_rekey(struct tls_conn *c, uint64_t bytes)
{
	c->rekey_bytes = bytes;
}
