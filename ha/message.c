/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: message payloads, written and read by the same function. Invariant: what
 * message_decode() returns lies within the limits of ha/protocol.h. Threads: pure.
 * Source: docs/protocol.md, "Messages".
 */
#include "ha/message.h"

#include "base/cursor.h"

#include <inttypes.h>

/* A cursor with its direction: field by field, either way. */
struct wire {
	struct cursor c;
	bool put;
};

static void wire_u8(struct wire *w, uint8_t *v)
{
	if (w->put)
		cursor_put_u8(&w->c, *v);
	else
		*v = cursor_get_u8(&w->c);
}

static void wire_u16(struct wire *w, uint16_t *v)
{
	if (w->put)
		cursor_put_u16(&w->c, *v);
	else
		*v = cursor_get_u16(&w->c);
}

static void wire_u32(struct wire *w, uint32_t *v)
{
	if (w->put)
		cursor_put_u32(&w->c, *v);
	else
		*v = cursor_get_u32(&w->c);
}

static void wire_u64(struct wire *w, uint64_t *v)
{
	if (w->put)
		cursor_put_u64(&w->c, *v);
	else
		*v = cursor_get_u64(&w->c);
}

static void wire_bytes(struct wire *w, void *bytes, size_t len)
{
	if (w->put)
		cursor_put_bytes(&w->c, bytes, len);
	else
		cursor_get_bytes(&w->c, bytes, len);
}

/* A name's length and bytes; too long a name turns the cursor bad. */
static void wire_name(struct wire *w, char name[PROTO_NAME_MAX + 1])
{
	uint16_t len = w->put ? (uint16_t)strnlen(name, PROTO_NAME_MAX + 1) : 0;

	wire_u16(w, &len);
	if (len > PROTO_NAME_MAX) {
		w->c.bad = true;
		return;
	}
	wire_bytes(w, name, len);
	if (!w->put)
		name[len] = '\0';
}

static void wire_hello(struct wire *w, struct proto_hello *h)
{
	wire_u16(w, &h->version_min);
	wire_u16(w, &h->version_max);
	wire_u64(w, &h->features);
	wire_u32(w, &h->codecs);
	wire_u8(w, &h->kind);
	wire_u64(w, &h->session);
	wire_u64(w, &h->memory_bytes);
	wire_u64(w, &h->generation);
	wire_u64(w, &h->epoch_limit);
	wire_u32(w, &h->page_bytes);
	wire_u16(w, &h->nr_disks);
	wire_bytes(w, h->uuid, sizeof(h->uuid));
	wire_name(w, h->vm);
}

static void wire_welcome(struct wire *w, struct proto_welcome *v)
{
	wire_u16(w, &v->version);
	wire_u64(w, &v->features);
	wire_u8(w, &v->codec);
	wire_u64(w, &v->session);
	wire_u64(w, &v->generation);
	wire_u64(w, &v->epoch_limit);
}

static void wire_end(struct wire *w, struct proto_epoch_end *e)
{
	wire_u64(w, &e->frames);
	wire_u64(w, &e->digest);
	wire_u64(w, &e->pages);
	wire_u64(w, &e->disk_ops);
	wire_u64(w, &e->state_bytes);
	wire_u64(w, &e->sent_ns);
}

static void wire_reply(struct wire *w, struct proto_heartbeat_reply *v)
{
	wire_u64(w, &v->echo_ns);
	wire_u64(w, &v->committed_epoch);
	wire_u64(w, &v->age_ns);
	wire_u8(w, &v->active);
}

static void wire_disk(struct wire *w, struct proto_disk *d)
{
	wire_u16(w, &d->disk);
	wire_u64(w, &d->offset);
	wire_u64(w, &d->length);
}

/* The fixed part of a message, in the order of its layout. */
static void wire_fields(struct wire *w, struct message *m)
{
	switch ((enum proto_type)m->type) {
	case PROTO_HELLO:
		wire_hello(w, &m->hello);
		break;
	case PROTO_WELCOME:
		wire_welcome(w, &m->welcome);
		break;
	case PROTO_REFUSE:
		wire_u16(w, &m->refuse.code);
		wire_u64(w, &m->refuse.generation);
		break;
	case PROTO_DISK_DATA:
	case PROTO_DISK_WRITE:
	case PROTO_DISK_FLUSH:
	case PROTO_DISK_DISCARD:
	case PROTO_DISK_ZEROES:
		wire_disk(w, &m->disk);
		break;
	case PROTO_STATE:
		wire_u32(w, &m->state.offset);
		wire_u32(w, &m->state.total);
		break;
	case PROTO_EPOCH_END:
		wire_end(w, &m->end);
		break;
	case PROTO_ACK:
		wire_u64(w, &m->ack.epoch);
		wire_u64(w, &m->ack.digest);
		break;
	case PROTO_DURABLE:
		wire_u64(w, &m->durable.epoch);
		wire_u64(w, &m->durable.disk_ops);
		break;
	case PROTO_SETTLED:
		wire_u64(w, &m->settled.epoch);
		break;
	case PROTO_HEARTBEAT:
		wire_u64(w, &m->heartbeat.sent_ns);
		wire_u64(w, &m->heartbeat.committed_epoch);
		wire_u64(w, &m->heartbeat.age_ns);
		wire_u8(w, &m->heartbeat.active);
		break;
	case PROTO_HEARTBEAT_REPLY:
		wire_reply(w, &m->reply);
		break;
	case PROTO_HANDOVER:
		wire_u16(w, &m->handover.code);
		wire_u64(w, &m->handover.generation);
		break;
	case PROTO_BYE:
	case PROTO_LEAVE:
	case PROTO_YIELD_REQUEST:
		wire_u16(w, &m->bye.code);
		break;
	case PROTO_YIELD:
		wire_u16(w, &m->yield.code);
		wire_u64(w, &m->yield.acked_ns);
		wire_u64(w, &m->yield.still_ns);
		break;
	case PROTO_HASH:
		wire_u64(w, &m->hash.epoch);
		wire_u64(w, &m->hash.hash);
		break;
	case PROTO_PAGE_HASHES:
	case PROTO_PAGES_LACKED:
		wire_u64(w, &m->pages.gfn);
		wire_u32(w, &m->pages.count);
		break;
	case PROTO_DISK_HASHES:
	case PROTO_DISK_DIFFERS:
		wire_u16(w, &m->chunks.disk);
		wire_u64(w, &m->chunks.offset);
		wire_u32(w, &m->chunks.count);
		break;
	case PROTO_PAGES:
		break;
	}
}

static int check_hello(const struct proto_hello *h, struct refusal *why)
{
	if (h->version_min > h->version_max || h->version_max < PROTO_VERSION_MIN ||
	    h->version_min > PROTO_VERSION)
		return refusal_set(why, PROTO_BAD_VERSION,
				   "peer speaks versions %u to %u, this program %u to %u",
				   h->version_min, h->version_max, PROTO_VERSION_MIN,
				   PROTO_VERSION);
	if (h->kind != PROTO_KIND_BULK && h->kind != PROTO_KIND_HEART)
		return refusal_set(why, PROTO_BAD_HELLO,
				   "connection kind %u is neither bulk nor heart", h->kind);
	if (!h->session)
		return refusal_set(why, PROTO_BAD_HELLO, "session id 0");
	if (!h->generation)
		return refusal_set(why, PROTO_BAD_HELLO, "generation 0");
	if (h->page_bytes != PROTO_PAGE_BYTES)
		return refusal_set(why, PROTO_BAD_HELLO, "pages of %u bytes, the size is %u",
				   h->page_bytes, PROTO_PAGE_BYTES);
	if (!h->memory_bytes || h->memory_bytes > PROTO_MEMORY_MAX ||
	    h->memory_bytes % PROTO_PAGE_BYTES)
		return refusal_set(why, PROTO_BAD_HELLO,
				   "memory of %" PRIu64 " bytes: pages up to %" PRIu64 " bytes",
				   h->memory_bytes, PROTO_MEMORY_MAX);
	if (h->nr_disks > PROTO_DISKS_MAX)
		return refusal_set(why, PROTO_BAD_HELLO, "%u disks, the limit is %u", h->nr_disks,
				   PROTO_DISKS_MAX);
	for (const char *p = h->vm; *p || p == h->vm; p++)
		if (*p <= ' ' || *p > '~' || *p == '/')
			return refusal_set(why, PROTO_BAD_HELLO, "byte 0x%02x in the VM's name",
					   (unsigned char)*p);
	return 0;
}

static int check_welcome(const struct proto_welcome *v, struct refusal *why)
{
	if (v->version < PROTO_VERSION_MIN || v->version > PROTO_VERSION)
		return refusal_set(why, PROTO_BAD_VERSION,
				   "peer chose version %u, this program speaks %u to %u",
				   v->version, PROTO_VERSION_MIN, PROTO_VERSION);
	if (v->features & ~PROTO_FEATURES_KNOWN)
		return refusal_set(why, PROTO_BAD_HELLO, "peer chose features 0x%" PRIx64,
				   v->features & ~PROTO_FEATURES_KNOWN);
	if (!v->generation)
		return refusal_set(why, PROTO_BAD_HELLO, "generation 0");
	return 0;
}

static int check_disk(const struct message *m, struct refusal *why)
{
	const struct proto_disk *d = &m->disk;
	bool carries = m->type == PROTO_DISK_DATA || m->type == PROTO_DISK_WRITE;

	if (d->disk >= PROTO_DISKS_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "disk %u, the limit is %u", d->disk,
				   PROTO_DISKS_MAX);
	if (d->offset > INT64_MAX || d->length > INT64_MAX - d->offset)
		return refusal_set(why, PROTO_BAD_PAYLOAD,
				   "%" PRIu64 " bytes at %" PRIu64 " end beyond any disk",
				   d->length, d->offset);
	if (m->tail_len != (carries ? d->length : 0))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %" PRIu64 " bytes carries %u",
				   proto_type_name(m->type), d->length, m->tail_len);
	if (m->type == PROTO_DISK_FLUSH ? d->offset || d->length : !d->length)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %" PRIu64 " bytes at %" PRIu64,
				   proto_type_name(m->type), d->length, d->offset);
	return 0;
}

static int check_state(const struct message *m, struct refusal *why)
{
	const struct proto_state *s = &m->state;

	if (!m->tail_len || s->total > PROTO_STATE_MAX || s->offset > s->total ||
	    m->tail_len > s->total - s->offset)
		return refusal_set(why, PROTO_BAD_PAYLOAD,
				   "state bytes %u at %u of %u, the limit is %u", m->tail_len,
				   s->offset, s->total, PROTO_STATE_MAX);
	return 0;
}

/* Of a question, a hash each; of an answer, a bit each. */
static int check_list_tail(const struct message *m, uint32_t count, struct refusal *why)
{
	bool asks = m->type == PROTO_PAGE_HASHES || m->type == PROTO_DISK_HASHES;
	const uint8_t *tail = m->tail;
	uint32_t want = asks ? count * PROTO_HASH_BYTES : (count + 7) / 8;

	if (m->tail_len != want)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %u carries %u bytes, not %u",
				   proto_type_name(m->type), count, m->tail_len, want);
	if (!asks && count % 8 && tail[want - 1] >> count % 8)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %u names more",
				   proto_type_name(m->type), count);
	return 0;
}

/* Whether the pages are in the guest is checked where the guest is known. */
static int check_page_list(const struct message *m, struct refusal *why)
{
	const struct proto_pages *p = &m->pages;

	if (!p->count || p->count > PROTO_HASHES_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %u pages, 1 to %u are allowed",
				   proto_type_name(m->type), p->count, PROTO_HASHES_MAX);
	if (p->gfn > UINT64_MAX - p->count)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s from page %" PRIu64 " on",
				   proto_type_name(m->type), p->gfn);
	return check_list_tail(m, p->count, why);
}

static int check_chunk_list(const struct message *m, struct refusal *why)
{
	const struct proto_chunks *c = &m->chunks;

	if (c->disk >= PROTO_DISKS_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "disk %u, the limit is %u", c->disk,
				   PROTO_DISKS_MAX);
	if (!c->count || c->count > PROTO_CHUNKS_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %u chunks, 1 to %u are allowed",
				   proto_type_name(m->type), c->count, PROTO_CHUNKS_MAX);
	if (c->offset % PROTO_CHUNK_BYTES || c->offset > INT64_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD,
				   "%s from byte %" PRIu64 " on, where no chunk begins",
				   proto_type_name(m->type), c->offset);
	return check_list_tail(m, c->count, why);
}

/* Which messages have a tail, and how long it may be. */
static uint32_t tail_limit(uint16_t type)
{
	switch ((enum proto_type)type) {
	case PROTO_REFUSE:
	case PROTO_HANDOVER:
	case PROTO_BYE:
	case PROTO_LEAVE:
	case PROTO_YIELD:
	case PROTO_YIELD_REQUEST:
		return PROTO_TEXT_MAX;
	case PROTO_PAGES:
	case PROTO_DISK_DATA:
	case PROTO_DISK_WRITE:
	case PROTO_STATE:
	case PROTO_PAGE_HASHES:
	case PROTO_PAGES_LACKED:
	case PROTO_DISK_HASHES:
	case PROTO_DISK_DIFFERS:
		return PROTO_PAYLOAD_MAX;
	case PROTO_HELLO:
	case PROTO_WELCOME:
	case PROTO_DISK_FLUSH:
	case PROTO_DISK_DISCARD:
	case PROTO_DISK_ZEROES:
	case PROTO_EPOCH_END:
	case PROTO_ACK:
	case PROTO_DURABLE:
	case PROTO_SETTLED:
	case PROTO_HEARTBEAT:
	case PROTO_HEARTBEAT_REPLY:
	case PROTO_HASH:
		return 0;
	}
	return 0;
}

static int check_active(const struct message *m, struct refusal *why)
{
	uint8_t active = m->type == PROTO_HEARTBEAT ? m->heartbeat.active : m->reply.active;

	if (active > 1)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s: active is %u, neither 0 nor 1",
				   proto_type_name(m->type), active);
	return 0;
}

static int check_yield(const struct proto_yield *y, struct refusal *why)
{
	if (y->acked_ns > PROTO_YIELD_NS_MAX || y->still_ns > PROTO_YIELD_NS_MAX)
		return refusal_set(why, PROTO_BAD_PAYLOAD,
				   "YIELD after %" PRIu64 " and %" PRIu64
				   " ns, the limit is %" PRIu64,
				   y->acked_ns, y->still_ns, PROTO_YIELD_NS_MAX);
	return 0;
}

static int check_message(const struct message *m, struct refusal *why)
{
	if (m->tail_len > tail_limit(m->type))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s with %u more bytes, the limit is %u",
				   proto_type_name(m->type), m->tail_len, tail_limit(m->type));
	if (m->type == PROTO_HELLO)
		return check_hello(&m->hello, why);
	if (m->type == PROTO_WELCOME)
		return check_welcome(&m->welcome, why);
	if (m->type >= PROTO_DISK_DATA && m->type <= PROTO_DISK_ZEROES)
		return check_disk(m, why);
	if (m->type == PROTO_STATE)
		return check_state(m, why);
	if (m->type == PROTO_HEARTBEAT || m->type == PROTO_HEARTBEAT_REPLY)
		return check_active(m, why);
	if (m->type == PROTO_PAGE_HASHES || m->type == PROTO_PAGES_LACKED)
		return check_page_list(m, why);
	if (m->type == PROTO_DISK_HASHES || m->type == PROTO_DISK_DIFFERS)
		return check_chunk_list(m, why);
	if (m->type == PROTO_YIELD)
		return check_yield(&m->yield, why);
	return 0;
}

int message_encode(const struct message *m, uint8_t head[MESSAGE_HEAD_MAX], struct frame_body *ret,
		   struct refusal *why)
{
	struct wire w = { .c = cursor_over(head, MESSAGE_HEAD_MAX), .put = true };
	struct message copy = *m;
	int r = check_message(m, why);

	if (r < 0)
		return r;
	wire_fields(&w, &copy);
	if (!cursor_ok(&w.c))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s does not fit its layout",
				   proto_type_name(m->type));
	*ret = (struct frame_body){
		.head = head,
		.head_len = (uint32_t)(w.c.pos - head),
		.tail = m->tail,
		.tail_len = m->tail_len,
	};
	return 0;
}

int message_decode(const struct frame *f, struct message *ret, struct refusal *why)
{
	struct wire w = { .c = cursor_over(f->payload, f->length) };
	struct message m = { .type = f->type, .generation = f->generation, .epoch = f->epoch };
	int r;

	wire_fields(&w, &m);
	if (!cursor_ok(&w.c))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s of %u bytes is cut short",
				   proto_type_name(f->type), f->length);
	m.tail = w.c.pos;
	m.tail_len = (uint32_t)cursor_left(&w.c);
	r = check_message(&m, why);
	if (r < 0)
		return r;
	*ret = m;
	return 0;
}

void message_text(const struct message *m, char *ret, size_t size)
{
	const char *text = m->tail;
	size_t len = MIN(m->tail_len, size - 1);

	assert(size > 0);
	for (size_t i = 0; i < len; i++)
		ret[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	ret[len] = '\0';
}
