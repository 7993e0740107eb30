/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: PAGES payloads to records; state parts to a state. Invariant: a payload is
 * believed only after every byte of it was checked (P4). Threads: one per decoder.
 * Source: docs/protocol.md, "PAGES".
 */
#include "ha/decode.h"

#include "base/cursor.h"
#include "ha/delta.h"

#include <inttypes.h>

struct decoder {
	struct decode_options o;
	struct codec *codecs[CODEC_COUNT]; /* those negotiated */
	uint8_t *raw;			   /* records, decompressed */
	struct page_record *records;	   /* of one frame, checked */
	struct refusal why;
};

int decode_open(struct decoder **ret, const struct decode_options *o)
{
	struct decoder *d = calloc(1, sizeof(*d));
	int r = -ENOMEM;

	if (!d)
		return -ENOMEM;
	d->o = *o;
	d->o.codecs |= 1u << CODEC_NONE;
	d->raw = malloc(PROTO_PAYLOAD_MAX);
	d->records = calloc(PROTO_BATCH_PAGES, sizeof(*d->records));
	if (!d->raw || !d->records)
		goto err_close;
	for (unsigned i = 0; i < CODEC_COUNT; i++) {
		if (!(d->o.codecs >> i & 1))
			continue;
		r = codec_open(&d->codecs[i], i);
		if (r < 0)
			goto err_close;
	}
	*ret = d;
	return 0;

err_close:
	decode_close(d);
	return r;
}

void decode_close(struct decoder *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < CODEC_COUNT; i++)
		codec_close(d->codecs[i]);
	free(d->records);
	free(d->raw);
	free(d);
}

const struct refusal *decode_refusal(const struct decoder *d)
{
	return &d->why;
}

/* At most ten bytes, the tenth at most 1: more does not fit in 64 bits. */
static uint64_t get_varint(struct cursor *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = cursor_get_u8(c);

		if (shift == 63 && byte > 1)
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return v;
	}
	c->bad = true;
	return 0;
}

static uint64_t gfn_after(uint64_t last, uint64_t step)
{
	return last + 1 + (step >> 1 ^ (step & 1 ? UINT64_MAX : 0));
}

static int check_record(struct decoder *d, unsigned kind, const struct page_record *r)
{
	struct refusal *why = &d->why;
	bool right;

	if (r->gfn >= d->o.nr_gfns)
		return refusal_set(why, PROTO_BAD_PAGES, "gfn %" PRIu64 ", the guest has %" PRIu64,
				   r->gfn, d->o.nr_gfns);
	switch (kind) {
	case PROTO_PAGE_ZERO:
		right = r->len == 0;
		break;
	case PROTO_PAGE_WHOLE:
		right = r->len == PROTO_PAGE_BYTES;
		break;
	case PROTO_PAGE_DELTA:
		right = d->o.delta && delta_check(r->bytes, r->len) == 0;
		break;
	default:
		return refusal_set(why, PROTO_BAD_PAGES, "record kind %u of gfn %" PRIu64, kind,
				   r->gfn);
	}
	if (!right)
		return refusal_set(why, PROTO_BAD_PAGES,
				   "%u bytes are no record of kind %u for gfn %" PRIu64, r->len,
				   kind, r->gfn);
	return 0;
}

/* Reads all records into d->records; none is used before all are right. */
static int read_records(struct decoder *d, const uint8_t *raw, size_t raw_len, unsigned count)
{
	struct cursor c = cursor_over(raw, raw_len);
	uint64_t last = UINT64_MAX;
	int err;

	for (unsigned i = 0; i < count; i++) {
		struct page_record *r = &d->records[i];
		unsigned kind = cursor_get_u8(&c);

		r->gfn = last = gfn_after(last, get_varint(&c));
		r->kind = (enum proto_page_kind)kind;
		r->len = cursor_get_u16(&c);
		r->bytes = cursor_get_view(&c, r->len);
		if (!r->len)
			r->bytes = NULL;
		if (!cursor_ok(&c))
			return refusal_set(&d->why, PROTO_BAD_PAGES, "record %u of %u is cut short",
					   i + 1, count);
		err = check_record(d, kind, r);
		if (err < 0)
			return err;
	}
	if (!cursor_done(&c))
		return refusal_set(&d->why, PROTO_BAD_PAGES, "%zu bytes behind %u records",
				   cursor_left(&c), count);
	return 0;
}

/* Puts the records into d->raw, as they were before compression; uncompressed ones stay
 * where they are. */
static int unpack(struct decoder *d, struct cursor *c, unsigned codec, uint32_t raw_len)
{
	size_t len = cursor_left(c);
	int r;

	if (codec >= CODEC_COUNT || !d->codecs[codec])
		return refusal_set(&d->why, PROTO_BAD_CODEC, "codec %u, negotiated are 0x%x", codec,
				   d->o.codecs);
	if (raw_len > PROTO_PAYLOAD_MAX)
		return refusal_set(&d->why, PROTO_TOO_LARGE, "records of %u bytes, the limit is %u",
				   raw_len, PROTO_PAYLOAD_MAX);
	if (codec == CODEC_NONE && len == raw_len)
		return 0;
	r = codec_decompress(d->codecs[codec], c->pos, len, d->raw, raw_len);
	if (r < 0)
		return refusal_set(&d->why, PROTO_BAD_PAGES,
				   "%zu bytes are not %u bytes of records by %s", len, raw_len,
				   codec_name(codec));
	return 0;
}

int decode_pages(struct decoder *d, const void *payload, size_t len, decode_page page, void *opaque)
{
	struct cursor c = cursor_over(payload, len);
	unsigned codec = cursor_get_u8(&c), zero = cursor_get_u8(&c);
	unsigned count = cursor_get_u16(&c);
	uint32_t raw_len = cursor_get_u32(&c);
	int r;

	if (!cursor_ok(&c) || zero || len > PROTO_PAYLOAD_MAX)
		return refusal_set(&d->why, PROTO_BAD_PAGES, "head of a payload of %zu bytes", len);
	if (!count || count > PROTO_BATCH_PAGES)
		return refusal_set(&d->why, PROTO_BAD_PAGES, "%u records, the limit is %u", count,
				   PROTO_BATCH_PAGES);
	r = unpack(d, &c, codec, raw_len);
	if (r < 0)
		return r;
	r = read_records(d, codec == CODEC_NONE ? c.pos : d->raw, raw_len, count);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++) {
		r = page(opaque, &d->records[i]);
		if (r < 0)
			return r;
	}
	return (int)count;
}

int decode_apply(void *page, const struct page_record *r)
{
	switch (r->kind) {
	case PROTO_PAGE_ZERO:
		memset(page, 0, PROTO_PAGE_BYTES);
		return 0;
	case PROTO_PAGE_WHOLE:
		memcpy(page, r->bytes, PROTO_PAGE_BYTES);
		return 0;
	case PROTO_PAGE_DELTA:
		return delta_apply(page, r->bytes, r->len);
	}
	return -EBADMSG;
}

void state_assembly_init(struct state_assembly *a, void *bytes, uint32_t room)
{
	*a = (struct state_assembly){ .bytes = bytes, .room = room };
}

int state_assembly_add(struct state_assembly *a, const struct message *m, struct refusal *why)
{
	const struct proto_state *s = &m->state;

	assert(m->type == PROTO_STATE);
	if (s->total > a->room)
		return refusal_set(why, PROTO_TOO_LARGE, "state of %u bytes, room for %u", s->total,
				   a->room);
	if (s->offset != a->have || (a->have && s->total != a->total))
		return refusal_set(why, PROTO_BAD_PAYLOAD,
				   "state part at %u of %u, expected %u of %u", s->offset, s->total,
				   a->have, a->have ? a->total : s->total);
	if (!m->tail_len || m->tail_len > s->total - s->offset)
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%u state bytes at %u of %u",
				   m->tail_len, s->offset, s->total);
	memcpy(a->bytes + a->have, m->tail, m->tail_len);
	a->total = s->total;
	a->have += m->tail_len;
	return 0;
}
