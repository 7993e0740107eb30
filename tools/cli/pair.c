/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux host invite and join: one request, one reply (ha/errand.h) between two that share a token,
 * by TLS with it in the place of certificates (ha/tls_psk.h). The token is good for one host, as
 * long as `invite` waits for it. docs/protocol.md, "Joining".
 */
#include <netdb.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/hex.h"
#include "ha/errand.h"
#include "tools/cli/host.h"
#include "tools/common/conf_edit.h"
#include "tools/common/json.h"
#include "tools/common/pki.h"

#define TOKEN_BYTES  16u
#define TOKEN_TEXT   (2 * TOKEN_BYTES + 1)
#define INVITE_NS    (15 * 60 * NS_PER_S)
#define INVITE_MAX   (24 * 3600 * NS_PER_S)
#define VISIT_NS     (5 * NS_PER_S)
#define CALL_NS	     (20 * NS_PER_S)
#define ADDRESS_ROOM 300u

/* The same on both sides, and for nothing else. */
static int open_secret(const char *token, struct tls_context **ret, struct refusal *why)
{
	static const char salt[] = "pollux host join 1";
	uint8_t bytes[sizeof(salt) + TOKEN_BYTES], key[SHA256_DIGEST_LENGTH];
	int r;

	static_assert(SHA256_DIGEST_LENGTH == TLS_PSK_BYTES, "a hash is a key");
	memcpy(bytes, salt, sizeof(salt));
	if (strlen(token) != 2 * TOKEN_BYTES ||
	    !hex_parse(token, '\0', bytes + sizeof(salt), TOKEN_BYTES))
		return refusal_set(why, PROTO_TLS_CONFIG,
				   "the token is not one: 32 hexadecimal digits");
	SHA256(bytes, sizeof(bytes), key);
	r = tls_context_open_psk(ret, key, why);
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(key, sizeof(key));
	return r;
}

static int join_port(const struct conf *conf, struct text_address *ret, struct reason *why)
{
	int r = text_parse_address(conf->listen, CONF_PEER_PORT, ret, why);

	if (!r && ret->port == UINT16_MAX)
		r = reason_set(why, ERANGE, "listen: no port is above %u", UINT16_MAX);
	if (!r)
		ret->port++;
	return r;
}

static void put_address(char ret[ADDRESS_ROOM], const char *host, uint64_t port)
{
	snprintf(ret, ADDRESS_ROOM, strchr(host, ':') ? "[%.250s]:%llu" : "%.250s:%llu", host,
		 (unsigned long long)port);
}

/* --- invite ---------------------------------------------------------------------------------- */

struct invitation {
	const char *name;
	struct host_paths paths;
	struct conf conf;
	struct text_address at;
	char token[TOKEN_TEXT];
	struct tls_context *tls;
	int fd;
};

/* Where the visitor comes from, unless it says otherwise. */
static int address_of(int fd, struct json_object *request, char ret[ADDRESS_ROOM],
		      struct reason *why)
{
	const char *said = json_text(request, "address", NULL);
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char host[NI_MAXHOST];
	struct text_address a;
	uint64_t port = json_number(request, "port", 0);

	if (said) {
		int r = text_parse_address(said, CONF_PEER_PORT, &a, why);

		if (!r)
			put_address(ret, a.host, a.port);
		return r;
	}
	if (!port || port > UINT16_MAX)
		return reason_set(why, EINVAL, "port %llu is not between 1 and %u",
				  (unsigned long long)port, UINT16_MAX);
	if (getpeername(fd, (struct sockaddr *)&from, &len) ||
	    getnameinfo((struct sockaddr *)&from, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST))
		return reason_set(why, EIO, "where it comes from is not known");
	/* An IPv4 address as a socket for both has it. */
	put_address(ret, strncmp(host, "::ffff:", 7) ? host : host + 7, port);
	return 0;
}

static int admit(const struct invitation *in, int fd, struct json_object *request,
		 struct json_object *reply, struct reason *why)
{
	const char *name = json_text(request, "name", "");
	cleanup_free char *cert = NULL, *ca = NULL;
	char address[ADDRESS_ROOM];
	struct text_address own;
	int r = 0;

	if (strcmp(json_text(request, "verb", ""), "join"))
		r = reason_set(why, EINVAL, "unknown verb");
	else if (strcmp(name, in->name))
		r = reason_set(why, EINVAL,
			       "the token is for host %s, not \"%.64s\"; --name=%s says that it is",
			       in->name, name, in->name);
	if (!r)
		r = address_of(fd, request, address, why);
	if (!r)
		r = text_parse_address(in->conf.listen, CONF_PEER_PORT, &own, why);
	if (!r)
		r = pki_read_ca(in->paths.pki, &ca, why);
	if (!r)
		r = pki_sign(in->paths.pki, in->name, json_text(request, "request", ""), &cert,
			     why);
	if (!r)
		r = conf_add_peer(in->paths.conf, in->name, address, why);
	if (r)
		return r;
	json_add_string(reply, "name", in->conf.name);
	json_add_u64(reply, "port", own.port);
	json_add_string(reply, "cert", cert);
	json_add_string(reply, "ca", ca);
	printf("host %s has joined, at %s; systemctl restart polluxd takes it up\n", in->name,
	       address);
	return 0;
}

/* 0: it has joined. -ECONNREFUSED: it has not, and was told why. */
static int serve(const struct invitation *in, int conn)
{
	cleanup_json struct json_object *request = NULL, *reply = json_object_new_object();
	cleanup_close int fd = dup(conn);
	struct errand *errand;
	struct refusal refusal;
	struct reason why = { "" };
	int r = errand_receive(&errand, in->tls, conn, clock_now_ns() + VISIT_NS, &refusal);

	if (r < 0) {
		fprintf(stderr, "pollux: somebody without the token: %s\n", refusal.why.text);
		return -ECONNREFUSED;
	}
	r = json_parse(errand_request(errand), "the request", &request, &why);
	if (!r)
		r = admit(in, fd, request, reply, &why);
	json_add_bool(reply, "ok", !r);
	if (r) {
		json_add_string(reply, "error", why.text);
		fprintf(stderr, "pollux: refused: %s\n", why.text);
	}
	if (errand_reply(errand, json_line(reply), clock_now_ns() + VISIT_NS, &refusal) < 0)
		fprintf(stderr, "pollux: it has not heard the answer: %s\n", refusal.why.text);
	errand_close(errand);
	return r ? -ECONNREFUSED : 0;
}

static int await_host(const struct invitation *in, uint64_t timeout_ns)
{
	uint64_t deadline = clock_now_ns() + timeout_ns;
	struct refusal why;
	int conn, r;

	do {
		r = socket_accept(in->fd, -1, deadline, &conn, &why);
		if (!r)
			r = serve(in, conn);
	} while (r == -ECONNREFUSED);
	if (r == -ETIMEDOUT)
		return cli_fail(CLI_TIMEOUT, "host %s has not joined; the token is void now",
				in->name);
	return r ? cli_fail(CLI_FAILED, "%s", why.why.text) : CLI_DONE;
}

static int open_invitation(struct invitation *in, const struct cli *cli, struct reason *why)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t secret[TOKEN_BYTES];
	struct refusal refusal;
	int r = conf_read(in->paths.conf, &in->conf, why);

	if (r)
		return r;
	if (!pki_has_ca_key(in->paths.pki))
		return reason_set(why, EEXIST,
				  "this host cannot sign: %s/" PKI_CA_KEY
				  " is not readable; invite where pollux host init was run",
				  in->paths.pki);
	r = text_check_name("host", cli->args[0], why);
	if (!r && !strcmp(cli->args[0], in->conf.name))
		r = reason_set(why, EEXIST, "%s is this host itself", cli->args[0]);
	if (!r && !in->conf.listen[0])
		r = reason_set(why, EEXIST,
			       "[host] listen is off in %s: nobody can reach this "
			       "host",
			       in->paths.conf);
	if (!r)
		r = join_port(&in->conf, &in->at, why);
	if (r)
		return r;
	if (RAND_priv_bytes(secret, sizeof(secret)) != 1)
		return reason_set(why, EIO, "no random numbers");
	for (unsigned int i = 0; i < TOKEN_BYTES; i++) {
		in->token[2 * i] = hex[secret[i] >> 4];
		in->token[2 * i + 1] = hex[secret[i] & 15];
	}
	in->token[2 * TOKEN_BYTES] = '\0';
	r = open_secret(in->token, &in->tls, &refusal);
	if (!r)
		r = socket_listen(&(struct socket_address){ in->at.host, in->at.port }, &in->fd,
				  &refusal);
	return r ? reason_set(why, -r, "port %u: %.200s", in->at.port, refusal.why.text) : 0;
}

int cli_host_invite(const struct cli *cli)
{
	struct invitation in = { .name = cli->args[0], .fd = -1 };
	uint64_t timeout_ns = cli->timeout_ns ?: INVITE_NS;
	char own[256] = "THIS-HOST", limit[32];
	struct reason why = { "" };
	int r = host_paths(&in.paths);

	if (r)
		return r;
	if (timeout_ns > INVITE_MAX)
		return cli_fail(CLI_USAGE, "--timeout: at most 24h");
	r = open_invitation(&in, cli, &why);
	if (r) {
		tls_context_close(in.tls);
		return host_failed(r, &why);
	}
	gethostname(own, sizeof(own) - 1);
	printf("pollux host join %s:%u --name=%s --token=%s\n", own, in.at.port, in.name, in.token);
	printf("is to be run on %s within %s; waiting for it\n", in.name,
	       text_duration(timeout_ns, limit, sizeof(limit)));
	fflush(stdout);
	r = await_host(&in, timeout_ns);
	close(in.fd);
	tls_context_close(in.tls);
	explicit_bzero(in.token, sizeof(in.token));
	return r;
}

/* --- join ------------------------------------------------------------------------------------ */

struct joining {
	struct host_paths paths;
	struct conf conf;
	bool known; /* there is a configuration of ours: the host renews, or joins one more */
	char name[TEXT_NAME_MAX + 1];
	struct text_address to, listen;
};

static int look_around(struct joining *j, const struct cli *cli)
{
	struct reason why = { "" };
	char pem[CONF_PATH_MAX + 32];
	int r = host_paths(&j->paths);

	if (r)
		return r;
	j->known = !access(j->paths.conf, F_OK);
	if (j->known && conf_read(j->paths.conf, &j->conf, &why))
		return cli_fail(CLI_FAILED, "%s", why.text);
	snprintf(pem, sizeof(pem), "%s/" PKI_HOST, j->paths.pki);
	if (j->known && strcmp(j->conf.cert, pem))
		return cli_fail(
			CLI_REFUSED,
			"%s is there, with a certificate of yours: [tls] cert is \"%s\", not "
			"%s; add a section [peer] by hand, or remove it to begin anew",
			j->paths.conf, j->conf.cert, pem);
	if (j->known && pki_has_ca_key(j->paths.pki))
		return cli_fail(CLI_REFUSED,
				"this host has founded a cluster itself: %s/" PKI_CA_KEY,
				j->paths.pki);
	if (j->known && cli->name && strcmp(cli->name, j->conf.name))
		return cli_fail(CLI_REFUSED, "this host is %s by %s, not %s", j->conf.name,
				j->paths.conf, cli->name);
	if (j->known)
		snprintf(j->name, sizeof(j->name), "%s", j->conf.name);
	else
		r = host_name(cli, j->name);
	if (!r && text_parse_address(cli->args[0], CONF_PEER_PORT + 1, &j->to, &why))
		r = cli_fail(CLI_USAGE, "%s", why.text);
	if (!r && text_parse_address(j->known	   ? j->conf.listen
				     : cli->listen ? cli->listen
						   : HOST_LISTEN,
				     CONF_PEER_PORT, &j->listen, &why))
		r = cli_fail(CLI_USAGE, "--listen: %s", why.text);
	return r;
}

static int ask(const struct joining *j, const struct cli *cli, const char *csr,
	       struct json_object **ret, struct reason *why)
{
	cleanup_json struct json_object *request = json_object_new_object();
	struct errand_peer peer = { .to = { j->to.host, j->to.port },
				    .deadline_ns = clock_now_ns() + CALL_NS,
				    .interrupt_fd = -1 };
	cleanup_free char *text = NULL;
	struct tls_context *tls = NULL;
	struct refusal refusal;
	int r = open_secret(cli->token, &tls, &refusal);

	json_add_string(request, "verb", "join");
	json_add_string(request, "name", j->name);
	json_add_u64(request, "port", j->listen.port);
	json_add_string(request, "address", cli->address);
	json_add_string(request, "request", csr);
	if (!r)
		r = errand_call(tls, &peer, json_line(request), &text, &refusal);
	tls_context_close(tls);
	if (r)
		return reason_set(why, -r,
				  "%.100s port %u: %.200s; is pollux host invite %s still waiting "
				  "there, and the token right?",
				  j->to.host, j->to.port, refusal.why.text, j->name);
	r = json_parse(text, "the answer", ret, why);
	if (r || json_flag(*ret, "ok"))
		return r;
	r = reason_set(why, EEXIST, "%.100s: %.300s", j->to.host,
		       json_text(*ret, "error", "refused"));
	json_object_put(*ret);
	*ret = NULL;
	return r;
}

static int settle(const struct joining *j, const struct cli *cli, const char *key,
		  struct json_object *reply, struct reason *why)
{
	const char *name = json_text(reply, "name", "");
	uint64_t port = json_number(reply, "port", 0);
	char address[ADDRESS_ROOM];
	int r = text_check_name("host", name, why);

	if (!r && (!port || port > UINT16_MAX))
		r = reason_set(why, EINVAL, "the answer has port %llu", (unsigned long long)port);
	if (!r)
		r = pki_install(j->paths.pki, key, json_text(reply, "cert", ""),
				json_text(reply, "ca", ""), why);
	if (!r && !j->known)
		r = host_make_conf(cli, &j->paths, j->name, why);
	put_address(address, j->to.host, port);
	if (!r)
		r = conf_add_peer(j->paths.conf, name, address, why);
	if (!r)
		printf("this is host %s, and %s is its peer at %s\nnext: systemctl restart "
		       "polluxd, on "
		       "both hosts\n",
		       j->name, name, address);
	return r;
}

int cli_host_join(const struct cli *cli)
{
	cleanup_json struct json_object *reply = NULL;
	cleanup_free char *key = NULL, *csr = NULL;
	struct reason why = { "" };
	struct joining j = { 0 };
	int r;

	if (!cli->token)
		return cli_fail(CLI_USAGE, "join needs --token=TOKEN, which pollux host invite "
					   "shows on the other host");
	r = look_around(&j, cli);
	if (r)
		return r;
	r = pki_make_request(j.name, &key, &csr, &why);
	if (!r)
		r = ask(&j, cli, csr, &reply, &why);
	if (!r)
		r = settle(&j, cli, key, reply, &why);
	if (key)
		explicit_bzero(key, strlen(key));
	return r ? host_failed(r, &why) : CLI_DONE;
}
