/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/accept.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ha/mailbox.h"

struct acceptor {
	struct accept_config config;
	pthread_t thread;
	int interrupt_fd;
	uint64_t session; /* of the first connection of the pair */
	struct accepted accepted;
};

static int check_hello(const struct acceptor *a, const struct transport *t,
		       const struct proto_hello *h, struct refusal *why)
{
	const struct accept_config *c = &a->config;
	const struct settings *s = c->settings;

	if (!transport_peer_is(t, s->peer))
		return refusal_set(why, PROTO_TLS_BAD_NAME, "%s is not our primary, %s",
				   transport_peer_name(t), s->peer);
	if (strcmp(h->vm, s->vm) || memcmp(h->uuid, s->uuid, sizeof(h->uuid)))
		return refusal_set(why, PROTO_VM_UNKNOWN, "this standby is for %s, not %s", s->vm,
				   h->vm);
	if (h->generation != c->generation)
		return refusal_set(why,
				   h->generation < c->generation ? PROTO_STALE_GENERATION
								 : PROTO_NEWER_GENERATION,
				   "generation %" PRIu64 ", this standby is of %" PRIu64,
				   h->generation, c->generation);
	if (h->memory_bytes != c->memory_bytes)
		return refusal_set(why, PROTO_BAD_HELLO,
				   "memory of %" PRIu64 " bytes, the standby has %" PRIu64,
				   h->memory_bytes, c->memory_bytes);
	if (h->nr_disks != c->nr_disks)
		return refusal_set(why, PROTO_BAD_HELLO, "%u disks, the standby has %u",
				   h->nr_disks, c->nr_disks);
	if (a->session && h->session != a->session)
		return refusal_set(why, PROTO_BAD_SESSION, "another session is connecting");
	if (h->kind == PROTO_KIND_BULK ? a->accepted.bulk != NULL : a->accepted.heart != NULL)
		return refusal_set(why, PROTO_BAD_SESSION, "a second connection of one kind");
	return 0;
}

static int refuse(struct acceptor *a, struct transport *t, const struct refusal *why)
{
	const char *text = why->why.text;
	struct message m = {
		.type = PROTO_REFUSE,
		.generation = a->config.generation,
		.refuse = { .code = (uint16_t)why->code, .generation = a->config.generation },
		.tail = text,
		.tail_len = (uint32_t)strlen(text),
	};
	struct refusal ignored;

	log_warning("refused peer=%s %s", transport_peer_name(t), text);
	return transport_answer(t, &m, &ignored);
}

/* What this standby's memory is before the first copy, and what else we speak. */
static uint64_t choose_features(const struct settings *s, uint64_t offered)
{
	uint64_t ours = PROTO_FEATURE_DELTA | PROTO_FEATURE_DURABLE;

	ours |= s->memory_kept ? PROTO_FEATURE_KEPT : PROTO_FEATURE_ZEROED;
	return offered & ours;
}

static int welcome(struct acceptor *a, struct transport *t, const struct proto_hello *h,
		   struct refusal *why)
{
	uint64_t epoch_limit = MIN(h->epoch_limit, a->config.epoch_limit);
	struct message m = {
		.type = PROTO_WELCOME,
		.generation = a->config.generation,
		.welcome = {
			.version = PROTO_VERSION,
			.features = choose_features(a->config.settings, h->features),
			.codec = (uint8_t)codec_choose(a->config.settings->codec, CODEC_ALL,
						       h->codecs),
			.session = h->session,
			.generation = a->config.generation,
			.epoch_limit = epoch_limit,
		},
	};
	int r = transport_answer(t, &m, why);

	if (r)
		return r;
	transport_start_epochs(t, 1);
	a->session = h->session;
	a->accepted.welcome = m.welcome;
	if (h->kind == PROTO_KIND_BULK)
		a->accepted.bulk = t;
	else
		a->accepted.heart = t;
	return 0;
}

/* One peer, from the accepted socket to welcome or refusal. */
static void greet(struct acceptor *a, int fd)
{
	struct tls_open_options o = { .side = TLS_SERVER,
				      .deadline_ns = clock_now_ns() + PROTO_CONNECT_NS,
				      .interrupt_fd = a->interrupt_fd };
	struct refusal why = { 0 };
	struct transport *t;
	struct message m;
	int r = transport_accept(&t, a->config.tls, fd, &o, &why);

	if (r) {
		log_warning("refused %s", why.why.text);
		return;
	}
	r = transport_recv(t, clock_now_ns() + PROTO_HELLO_NS, &m, &why);
	if (!r && m.type != PROTO_HELLO)
		r = refusal_set(&why, PROTO_UNEXPECTED, "%s instead of HELLO",
				proto_type_name(m.type));
	if (!r)
		r = check_hello(a, t, &m.hello, &why);
	if (r)
		refuse(a, t, &why);
	else
		r = welcome(a, t, &m.hello, &why);
	if (r)
		transport_close(t);
}

static void *run(void *opaque)
{
	struct acceptor *a = opaque;
	struct letter l = { .kind = LETTER_CONNECTED };
	struct refusal why;
	int fd, r;

	while (!a->accepted.bulk || !a->accepted.heart) {
		r = socket_accept(a->config.settings->listen_fd, a->interrupt_fd, 0, &fd, &why);
		if (r == -ECANCELED)
			return NULL;
		if (!r)
			greet(a, fd);
	}
	mailbox_post(a->config.mailbox, &l);
	return NULL;
}

int accept_open(const struct accept_config *config, struct acceptor **ret)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->config = *config;
	a->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = a->interrupt_fd < 0 ? -errno : -pthread_create(&a->thread, NULL, run, a);
	if (r) {
		if (a->interrupt_fd >= 0)
			close(a->interrupt_fd);
		free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void accept_close(struct acceptor *a)
{
	if (!a)
		return;
	eventfd_write(a->interrupt_fd, 1);
	pthread_join(a->thread, NULL);
	transport_close(a->accepted.bulk);
	transport_close(a->accepted.heart);
	close(a->interrupt_fd);
	free(a);
}

void accept_take(struct acceptor *a, struct accepted *ret)
{
	*ret = a->accepted;
	a->accepted.bulk = NULL;
	a->accepted.heart = NULL;
}
