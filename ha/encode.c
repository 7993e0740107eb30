/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: pages to PAGES payloads. Invariant: the cache holds exactly what the peer was
 * sent for a gfn, or nothing; so it changes only together with the batch, and a batch
 * that could not be emitted ends the encoder until encode_reset(). Threads: one per
 * encoder. Source: docs/protocol.md, "PAGES"; Remus (Cully et al. 2008), 5.4.
 */
#include "ha/encode.h"

#include "base/cursor.h"
#include "ha/delta.h"
#include "ha/protocol.h"

#define PAGE	      PROTO_PAGE_BYTES
#define RAW_MAX	      (PROTO_PAYLOAD_MAX - PROTO_PAGES_HEAD)
#define RECORD_HEAD   13u /* kind, the longest varint, len */
#define SAMPLE_PIECE  4096u
#define SAMPLE_PIECES 4u
#define SAMPLE_BYTES  (SAMPLE_PIECES * SAMPLE_PIECE)
/* Below this a batch is compressed without asking a sample first. */
#define SAMPLE_FROM (4 * SAMPLE_BYTES)
/* Compression pays when at least an eighth is saved: less is not worth undoing it. */
#define PAYS(raw, out) ((out) <= (raw) - (raw) / 8)

struct encoder {
	struct encode_options o;
	struct codec *codec;
	struct page_cache *cache;
	uint8_t *raw;	 /* head, then records */
	uint8_t *packed; /* head, then the same compressed */
	uint8_t sample[SAMPLE_BYTES];
	struct cursor records; /* over raw, behind the head */
	unsigned count;
	uint64_t last_gfn;
	int failed;
	struct encode_counters counters;
};

static void begin_batch(struct encoder *e)
{
	e->records = cursor_over(e->raw + PROTO_PAGES_HEAD, RAW_MAX);
	e->count = 0;
	e->last_gfn = UINT64_MAX; /* the gfn before 0 */
}

int encode_open(struct encoder **ret, const struct encode_options *o)
{
	struct encoder *e = calloc(1, sizeof(*e));
	int r = -ENOMEM;

	if (!e)
		return -ENOMEM;
	e->o = *o;
	e->raw = malloc(PROTO_PAYLOAD_MAX);
	e->packed = malloc(PROTO_PAYLOAD_MAX);
	if (!e->raw || !e->packed)
		goto err_close;
	r = codec_open(&e->codec, o->codec);
	if (r < 0)
		goto err_close;
	r = page_cache_open(&e->cache, o->delta ? o->cache_bytes : 0);
	if (r < 0)
		goto err_close;
	begin_batch(e);
	*ret = e;
	return 0;

err_close:
	encode_close(e);
	return r;
}

void encode_close(struct encoder *e)
{
	if (!e)
		return;
	page_cache_close(e->cache);
	codec_close(e->codec);
	free(e->packed);
	free(e->raw);
	free(e);
}

void encode_reset(struct encoder *e)
{
	page_cache_reset(e->cache);
	begin_batch(e);
	e->failed = 0;
}

void encode_forget(struct encoder *e, uint64_t gfn)
{
	page_cache_drop(e->cache, gfn);
}

const struct encode_counters *encode_counters(const struct encoder *e)
{
	return &e->counters;
}

static void put_varint(struct cursor *c, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		cursor_put_u8(c, (uint8_t)(v | 0x80));
	cursor_put_u8(c, (uint8_t)v);
}

/* Small for the next gfn, the one after it, and for steps back. Wraps without harm. */
static uint64_t gfn_step(uint64_t last, uint64_t gfn)
{
	uint64_t step = gfn - last - 1;

	return step << 1 ^ (step >> 63 ? UINT64_MAX : 0);
}

/* The record's place in the batch was reserved by make_room(). Returns where its bytes
 * lie: the page may be changing, and only these are what the peer will have. */
static const void *put_record(struct encoder *e, uint64_t gfn, enum proto_page_kind kind,
			      const void *bytes, unsigned len)
{
	cursor_put_u8(&e->records, (uint8_t)kind);
	put_varint(&e->records, gfn_step(e->last_gfn, gfn));
	cursor_put_u16(&e->records, (uint16_t)len);
	cursor_put_bytes(&e->records, bytes, len);
	assert(cursor_ok(&e->records));
	e->last_gfn = gfn;
	e->count++;
	return e->records.pos - len;
}

/* Whether a look at four places of the batch promises that compressing it pays. */
static bool sample_pays(struct encoder *e, const uint8_t *src, size_t len)
{
	size_t step = (len - SAMPLE_PIECE) / (SAMPLE_PIECES - 1);
	size_t out = SAMPLE_BYTES - 1;

	if (len < SAMPLE_FROM)
		return true;
	for (unsigned i = 0; i < SAMPLE_PIECES; i++)
		memcpy(e->sample + i * SAMPLE_PIECE, src + i * step, SAMPLE_PIECE);
	if (codec_compress(e->codec, e->sample, SAMPLE_BYTES, e->packed, &out) < 0)
		return false;
	return PAYS(SAMPLE_BYTES, out);
}

/* Bytes of the compressed records, now behind the head in `packed`, or 0: not worth it. */
static size_t pack(struct encoder *e, size_t len)
{
	const uint8_t *src = e->raw + PROTO_PAGES_HEAD;
	size_t out = len - len / 8;

	if (e->o.codec == CODEC_NONE || !sample_pays(e, src, len))
		return 0;
	if (codec_compress(e->codec, src, len, e->packed + PROTO_PAGES_HEAD, &out) < 0)
		return 0;
	return PAYS(len, out) ? out : 0;
}

int encode_flush(struct encoder *e)
{
	size_t raw_len = (size_t)(e->records.pos - (e->raw + PROTO_PAGES_HEAD));
	size_t packed_len;
	uint8_t *payload;
	struct cursor head;
	uint32_t len;

	if (e->failed || !e->count)
		return e->failed;
	packed_len = pack(e, raw_len);
	payload = packed_len ? e->packed : e->raw;
	len = PROTO_PAGES_HEAD + (uint32_t)(packed_len ? packed_len : raw_len);
	head = cursor_over(payload, PROTO_PAGES_HEAD);
	cursor_put_u8(&head, packed_len ? (uint8_t)e->o.codec : CODEC_NONE);
	cursor_put_u8(&head, 0);
	cursor_put_u16(&head, (uint16_t)e->count);
	cursor_put_u32(&head, (uint32_t)raw_len);

	e->failed = e->o.emit(e->o.opaque, payload, len, e->count);
	if (e->failed > 0)
		e->failed = 0;
	if (e->failed)
		return e->failed;
	e->counters.batches++;
	e->counters.batches_plain += !packed_len;
	e->counters.bytes_wire += len;
	begin_batch(e);
	return 0;
}

/* Emits the batch when a record with `len` bytes would not fit it any more. */
static int make_room(struct encoder *e, unsigned len)
{
	if (e->count < PROTO_BATCH_PAGES && cursor_left(&e->records) >= RECORD_HEAD + len)
		return 0;
	return encode_flush(e);
}

/* The peer has `copy`: a delta, or nothing at all, may do. Else the whole page. */
static void put_change(struct encoder *e, uint64_t gfn, const void *page, void *copy)
{
	uint8_t now[PAGE], delta[DELTA_ROOM];
	int len;

	/* Should the page be changing, everything below means the same bytes. */
	memcpy(now, page, PAGE);
	len = delta_encode(copy, now, delta);
	if (len == 0) {
		e->counters.pages_same++;
		return;
	}
	if (len > 0) {
		put_record(e, gfn, PROTO_PAGE_DELTA, delta, (unsigned)len);
		e->counters.pages_delta++;
	} else {
		put_record(e, gfn, PROTO_PAGE_WHOLE, now, PAGE);
		e->counters.pages_whole++;
	}
	memcpy(copy, now, PAGE);
}

static void put_zero(struct encoder *e, uint64_t gfn, void *copy)
{
	if (copy && page_is_zero(copy)) {
		e->counters.pages_same++;
		return;
	}
	put_record(e, gfn, PROTO_PAGE_ZERO, NULL, 0);
	e->counters.pages_zero++;
	if (copy)
		memset(copy, 0, PAGE);
}

int encode_page(struct encoder *e, uint64_t gfn, const void *page)
{
	void *copy;
	int r;

	if (e->failed)
		return e->failed;
	r = make_room(e, PAGE);
	if (r < 0)
		return r;
	e->counters.bytes_raw += PAGE;
	copy = page_cache_find(e->cache, gfn);
	if (page_is_zero(page)) {
		put_zero(e, gfn, copy);
		return 0;
	}
	if (copy) {
		put_change(e, gfn, page, copy);
		return 0;
	}
	page = put_record(e, gfn, PROTO_PAGE_WHOLE, page, PAGE);
	e->counters.pages_whole++;
	copy = page_cache_add(e->cache, gfn);
	if (copy)
		memcpy(copy, page, PAGE);
	return 0;
}
