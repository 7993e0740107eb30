/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/peers.h"

#include <stdio.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "ha/errand.h"
#include "tools/common/json.h"
#include "tools/common/pki.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/prepare.h"
#include "tools/daemon/worker.h"

#define REPLY_NS (5 * NS_PER_S)

struct peers {
	struct daemon *d;
	int fd;
	sd_event_source *source;
	unsigned int nr_open; /* under the daemon's lock */
};

struct visit {
	struct peers *peers;
	int fd;
};

static void answer(struct daemon *d, struct errand *errand)
{
	cleanup_json struct json_object *request = NULL, *reply = json_object_new_object();
	const char *peer = errand_peer_name(errand), *from;
	struct refusal why;
	struct reason bad;

	if (json_parse(errand_request(errand), "the request", &request, &bad) < 0)
		prepare_refuse(reply, "bad-request", 0, "%s", bad.text);
	from = json_text(request, "from", "");
	if (!request)
		goto out;
	if (strcmp(json_text(request, "verb", ""), "prepare"))
		prepare_refuse(reply, "bad-request", 0, "unknown verb");
	else if (!conf_find_peer(&d->conf, from))
		prepare_refuse(reply, "unknown-peer", 0,
			       "host \"%.64s\" has no section [peer %.64s] in pollux.conf of %s",
			       from, from, d->conf.name);
	else if (!errand_peer_is(errand, from))
		prepare_refuse(reply, "unknown-peer", 0,
			       "the certificate shows %.64s, the request says it is from %.64s",
			       peer, from);
	else
		prepare_answer(d, request, reply);
out:
	if (errand_reply(errand, json_line(reply), clock_now_ns() + REPLY_NS, &why) < 0)
		log_warning("peer=%s error=\"%s\"", peer, why.why.text);
}

static void serve(struct daemon *d, void *arg)
{
	struct visit *v = arg;
	struct peers *peers = v->peers;
	struct errand *errand;
	struct refusal why;

	if (errand_receive(&errand, d->tls, v->fd, clock_now_ns() + PROTO_CONNECT_NS, &why) < 0) {
		log_warning("door=peers refused=\"%s\"", why.why.text);
	} else {
		answer(d, errand);
		errand_close(errand);
	}
	free(v);
	daemon_lock(d);
	peers->nr_open--;
	daemon_unlock(d);
}

static bool may_enter(struct peers *p)
{
	bool enter;

	daemon_lock(p->d);
	enter = p->nr_open < PEERS_MAX_OPEN;
	p->nr_open += enter;
	daemon_unlock(p->d);
	return enter;
}

static int on_connect(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct peers *p = user;
	struct visit *v;
	struct refusal why;
	int conn;

	(void)source, (void)revents;
	if (socket_accept(fd, -1, clock_now_ns() + NS_PER_MS, &conn, &why) < 0)
		return 0;
	v = may_enter(p) ? malloc(sizeof(*v)) : NULL;
	if (v) {
		*v = (struct visit){ p, conn };
		if (!worker_run(p->d, serve, v))
			return 0;
		free(v);
		daemon_lock(p->d);
		p->nr_open--;
		daemon_unlock(p->d);
	}
	close(conn);
	log_warning("door=peers refused=\"too many connections at a time\"");
	return 0;
}

static int open_tls(struct daemon *d, struct reason *why)
{
	struct tls_settings s = {
		.encryption = d->conf.encryption,
		.ca = d->conf.ca,
		.cert = d->conf.cert,
		.key = d->conf.key,
	};
	struct refusal refusal;
	int r = tls_context_open(&d->tls, &s, &refusal);

	if (!r && s.encryption)
		r = pki_expiry(s.cert, &d->certificate_expires, &refusal.why);
	return r < 0 ? reason_set(why, -r, "[tls] %.240s", refusal.why.text) : 0;
}

static int open_socket(struct daemon *d, int *ret, struct reason *why)
{
	struct text_address a;
	struct refusal refusal;
	struct socket_address at;
	int r = text_parse_address(d->conf.listen, CONF_PEER_PORT, &a, why);

	if (r < 0)
		return r;
	at = (struct socket_address){ a.host, a.port };
	r = socket_listen(&at, ret, &refusal);
	return r < 0 ? reason_set(why, -r, "[host] listen %.60s: %.180s", d->conf.listen,
				  refusal.why.text)
		     : 0;
}

int peers_open(struct daemon *d, struct peers **ret, struct reason *why)
{
	struct peers *p;
	int r;

	if (!d->conf.listen[0])
		return 0; /* a host that only protects to others, or not at all */
	r = open_tls(d, why);
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return reason_set(why, ENOMEM, "out of memory");
	p->d = d;
	r = open_socket(d, &p->fd, why);
	if (r < 0)
		goto err_free;
	r = sd_event_add_io(d->loop, &p->source, p->fd, EPOLLIN, on_connect, p);
	if (r < 0) {
		reason_set(why, -r, "event loop: %s", strerror(-r));
		goto err_close;
	}
	if (!d->conf.encryption)
		log_warning("encryption=off anybody who reaches %s can act as a peer",
			    d->conf.listen);
	*ret = p;
	return 0;

err_close:
	close(p->fd);
err_free:
	free(p);
	return r;
}

void peers_close(struct peers *p)
{
	if (!p)
		return;
	/* Workers may still serve visitors: they are joined after this, and use nr_open. So the
	 * struct stays; the process ends. */
	p->source = sd_event_source_disable_unref(p->source);
	close(p->fd);
}
