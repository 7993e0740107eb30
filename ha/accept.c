/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/accept.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ha/mailbox.h"

#define GREETERS 8u /* as many strangers but one may keep silent, and the primary is let in */

struct acceptor {
	struct accept_config config;
	pthread_t thread[GREETERS];
	unsigned int nr_threads;
	int interrupt_fd;     /* of the connections, for as long as they live */
	int enough_fd;	      /* readable: nobody is accepted any more */
	pthread_mutex_t lock; /* of what follows, from a HELLO to its answer */
	uint64_t session;     /* of the first connection of the pair */
	bool has_bulk, has_heart;
	struct accepted accepted; /* the main thread's after the letter */
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
	if (h->kind == PROTO_KIND_BULK ? a->has_bulk : a->has_heart)
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
static uint64_t choose_features(const struct accept_config *c, uint64_t offered)
{
	uint64_t ours = PROTO_FEATURE_DELTA | PROTO_FEATURE_DURABLE | PROTO_FEATURE_VERIFY;

	if (c->settings->memory_kept)
		ours |= PROTO_FEATURE_KEPT;
	else if (c->zeroed)
		ours |= PROTO_FEATURE_ZEROED;
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
			.features = choose_features(&a->config, h->features),
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
	if (h->kind == PROTO_KIND_BULK) {
		a->accepted.bulk = t;
		a->has_bulk = true;
	} else {
		a->accepted.heart = t;
		a->has_heart = true;
	}
	return 0;
}

/* Whoever brings the second connection of the pair says that both stand. */
static int answer(struct acceptor *a, struct transport *t, const struct proto_hello *h,
		  struct refusal *why)
{
	struct letter l = { .kind = LETTER_CONNECTED };
	int r;

	pthread_mutex_lock(&a->lock);
	r = check_hello(a, t, h, why);
	if (r)
		refuse(a, t, why);
	else
		r = welcome(a, t, h, why);
	if (!r && a->has_bulk && a->has_heart) {
		eventfd_write(a->enough_fd, 1);
		mailbox_post(a->config.mailbox, &l);
	}
	pthread_mutex_unlock(&a->lock);
	return r;
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
	if (r)
		refuse(a, t, &why);
	else
		r = answer(a, t, &m.hello, &why);
	if (r)
		transport_close(t);
}

static void *run(void *opaque)
{
	struct acceptor *a = opaque;
	struct refusal why;
	int fd, r;

	do {
		r = socket_accept(a->config.settings->listen_fd, a->enough_fd, 0, &fd, &why);
		if (!r)
			greet(a, fd);
	} while (r != -ECANCELED);
	return NULL;
}

int accept_open(const struct accept_config *config, struct acceptor **ret)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->config = *config;
	pthread_mutex_init(&a->lock, NULL);
	a->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->enough_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = a->interrupt_fd < 0 || a->enough_fd < 0 ? -EMFILE : 0;
	while (!r && a->nr_threads < GREETERS) {
		r = -pthread_create(&a->thread[a->nr_threads], NULL, run, a);
		a->nr_threads += !r;
	}
	if (r) {
		accept_close(a);
		return r;
	}
	*ret = a;
	return 0;
}

void accept_close(struct acceptor *a)
{
	if (!a)
		return;
	eventfd_write(a->enough_fd, 1);
	eventfd_write(a->interrupt_fd, 1);
	for (unsigned int i = 0; i < a->nr_threads; i++)
		pthread_join(a->thread[i], NULL);
	transport_close(a->accepted.bulk);
	transport_close(a->accepted.heart);
	err_close_fd(&a->interrupt_fd);
	err_close_fd(&a->enough_fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void accept_take(struct acceptor *a, struct accepted *ret)
{
	*ret = a->accepted;
	a->accepted.bulk = NULL;
	a->accepted.heart = NULL;
}
