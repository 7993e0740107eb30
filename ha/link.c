/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/link.h"

#include <pthread.h>

#include "base/clock.h"
#include "ha/mailbox.h"

#define SEND_SOON_NS  (UINT64_C(500) * NS_PER_MS)
#define LAST_WORDS_NS (UINT64_C(300) * NS_PER_MS)

/* What is said in words of role.h, as a letter. False: it is not of that kind. */
static bool read_words(const struct message *m, struct letter *l)
{
	char text[PROTO_TEXT_MAX + 1];

	switch ((enum proto_type)m->type) {
	case PROTO_HANDOVER:
		l->kind = LETTER_HANDOVER;
		l->generation = m->handover.generation;
		break;
	case PROTO_REFUSE:
		l->kind = LETTER_REFUSED;
		l->generation = m->refuse.generation;
		break;
	case PROTO_LEAVE:
		l->kind = LETTER_LEAVE;
		break;
	case PROTO_YIELD:
		l->kind = LETTER_YIELD;
		l->echo_ns = m->yield.acked_ns;
		l->age_ns = m->yield.still_ns;
		break;
	case PROTO_YIELD_REQUEST:
		l->kind = LETTER_YIELD_REQUEST;
		break;
	case PROTO_HELLO:
	case PROTO_WELCOME:
	case PROTO_PAGES:
	case PROTO_DISK_DATA:
	case PROTO_DISK_WRITE:
	case PROTO_DISK_FLUSH:
	case PROTO_DISK_DISCARD:
	case PROTO_DISK_ZEROES:
	case PROTO_STATE:
	case PROTO_EPOCH_END:
	case PROTO_ACK:
	case PROTO_DURABLE:
	case PROTO_SETTLED:
	case PROTO_HEARTBEAT:
	case PROTO_HEARTBEAT_REPLY:
	case PROTO_BYE:
	case PROTO_HASH:
	case PROTO_PAGE_HASHES:
	case PROTO_PAGES_LACKED:
	case PROTO_DISK_HASHES:
	case PROTO_DISK_DIFFERS:
		return false;
	}
	message_text(m, text, sizeof(text));
	l->reason_why = role_why_parse(text);
	reason_set(&l->why, EREMOTEIO, "%s", text);
	return true;
}

/* Evidence: heartbeats, their answers, acknowledgements. */
static bool read_evidence(const struct message *m, struct letter *l)
{
	if (m->type == PROTO_ACK) {
		l->kind = LETTER_ACK;
		l->epoch = m->ack.epoch;
		l->value = m->ack.digest;
	} else if (m->type == PROTO_DURABLE) {
		l->kind = LETTER_DURABLE;
		l->epoch = m->durable.epoch;
		l->value = m->durable.disk_ops;
	} else if (m->type == PROTO_SETTLED) {
		l->kind = LETTER_SETTLED;
		l->epoch = m->settled.epoch;
	} else if (m->type == PROTO_HEARTBEAT_REPLY) {
		l->kind = LETTER_ECHO;
		l->echo_ns = m->reply.echo_ns;
		l->epoch = m->reply.committed_epoch;
		l->age_ns = m->reply.age_ns;
		l->active = m->reply.active != 0;
	} else if (m->type == PROTO_HEARTBEAT) {
		l->kind = LETTER_HEARTBEAT;
		l->echo_ns = m->heartbeat.sent_ns;
		l->epoch = m->heartbeat.committed_epoch;
		l->age_ns = m->heartbeat.age_ns;
		l->active = m->heartbeat.active != 0;
	} else {
		return false;
	}
	return true;
}

static int take(struct link *link, const struct transport *t, const struct message *m,
		struct refusal *why)
{
	struct letter l = { .session = link->config.session, .generation = m->generation };

	if (read_words(m, &l) || read_evidence(m, &l)) {
		mailbox_post(link->config.mailbox, &l);
		return 0;
	}
	if (m->type == PROTO_BYE)
		return refusal_set(why, PROTO_CLOSED, "the peer says goodbye");
	/* The sink may wait for a disk: what it waits with must not be what proves life. */
	if (!link->config.sink || t != link->config.bulk)
		return refusal_set(why, PROTO_UNEXPECTED, "%s is not for this side",
				   proto_type_name(m->type));
	return link->config.sink(link->config.opaque, m, why);
}

/* Until the connection ends. */
static struct letter receive_all(struct link *link, struct transport *t)
{
	struct letter broken = { .kind = LETTER_BROKEN, .session = link->config.session };
	struct refusal why = { 0 };
	struct message m;
	int r;

	do {
		r = transport_recv(t, 0, &m, &why);
		if (!r)
			r = take(link, t, &m, &why);
	} while (!r);
	broken.why = why.why;
	return broken;
}

/* Who ends closes both connections, the last words are on the other: they are waited for, else a
 * YIELD is lost and the VM stands still until its host counts as silent. */
static void *receive_bulk(void *opaque)
{
	struct link *link = opaque;
	struct letter broken = receive_all(link, link->config.bulk);
	uint64_t until = clock_now_ns() + LAST_WORDS_NS;

	while (!__atomic_load_n(&link->heart_ended, __ATOMIC_ACQUIRE) && clock_now_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
	mailbox_post(link->config.mailbox, &broken);
	return NULL;
}

static void *receive_heart(void *opaque)
{
	struct link *link = opaque;
	struct letter broken = receive_all(link, link->config.heart);

	__atomic_store_n(&link->heart_ended, true, __ATOMIC_RELEASE);
	mailbox_post(link->config.mailbox, &broken);
	return NULL;
}

int link_open(const struct link_config *config, struct link **ret)
{
	struct link *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->config = *config;
	r = -pthread_create(&l->bulk_thread, NULL, receive_bulk, l);
	if (r)
		goto err_free;
	r = -pthread_create(&l->heart_thread, NULL, receive_heart, l);
	if (r)
		goto err_bulk;
	*ret = l;
	return 0;
err_bulk:
	mailbox_bury(config->mailbox, config->session);
	transport_shutdown(config->bulk);
	pthread_join(l->bulk_thread, NULL);
err_free:
	free(l);
	return r;
}

void link_shutdown(struct link *l)
{
	l->broken = true;
	mailbox_bury(l->config.mailbox, l->config.session);
	transport_shutdown(l->config.bulk);
	transport_shutdown(l->config.heart);
}

void link_close(struct link *l)
{
	if (!l)
		return;
	link_shutdown(l);
	pthread_join(l->bulk_thread, NULL);
	pthread_join(l->heart_thread, NULL);
	transport_close(l->config.bulk);
	transport_close(l->config.heart);
	free(l);
}

int link_send(struct link *l, struct message *m)
{
	bool heart = m->type == PROTO_DURABLE || m->type == PROTO_SETTLED ||
		     m->type == PROTO_HEARTBEAT || m->type == PROTO_HEARTBEAT_REPLY ||
		     m->type == PROTO_LEAVE || m->type == PROTO_YIELD ||
		     m->type == PROTO_YIELD_REQUEST || m->type == PROTO_HANDOVER ||
		     m->type == PROTO_REFUSE;
	struct transport *t = heart ? l->config.heart : l->config.bulk;
	uint64_t deadline = clock_now_ns() + SEND_SOON_NS;
	int r;

	if (l->broken)
		return -ENOTCONN;
	r = transport_send(t, m, deadline, NULL);
	if (!r)
		r = transport_flush(t, deadline, NULL);
	l->broken = r != 0;
	return r;
}

int link_say(struct link *l, enum proto_type type, uint64_t generation, enum role_why why)
{
	const char *text = role_why_name(why);
	struct message m = {
		.type = type,
		.generation = generation,
		.tail = text,
		.tail_len = (uint32_t)strlen(text),
	};

	if (type == PROTO_HANDOVER)
		m.handover =
			(struct proto_handover){ .code = PROTO_LEAVING, .generation = generation };
	else if (type == PROTO_REFUSE)
		m.refuse =
			(struct proto_refuse){ .code = PROTO_IS_ACTIVE, .generation = generation };
	else
		m.bye.code = PROTO_LEAVING;
	return link_send(l, &m);
}
