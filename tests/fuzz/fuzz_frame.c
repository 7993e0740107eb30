/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what a peer can send: frames as they come, payloads in frames that are right,
 * and PAGES, whose records are applied to a small memory between guards; hashes of pages
 * and of a disk against what is there, and answers to what was asked. The first byte of the input
 * chooses the way in. A refusal must hand out nothing.
 */
#include "base/cursor.h"
#include "disk-replica/apply.h"
#include "ha/check.h"
#include "ha/decode.h"
#include "ha/delta.h"
#include "ha/encode.h"
#include "ha/frame.h"
#include "ha/message.h"
#include "ha/offer.h"
#include "ha/platform.h"

#define NR_GFNS 64u
#define PAGE	PROTO_PAGE_BYTES

static uint8_t memory[NR_GFNS][PAGE];
static struct decoder *decoder;
static struct encoder *encoder;
static unsigned handed_out;

static int apply(void *opaque, const struct page_record *r)
{
	(void)opaque;
	assert(r->gfn < NR_GFNS);
	handed_out++;
	/* The decoder has checked it: applying cannot fail. */
	if (decode_apply(memory[r->gfn], r) < 0)
		abort();
	return 0;
}

static void fuzz_pages(const uint8_t *data, size_t len)
{
	int r;

	handed_out = 0;
	r = decode_pages(decoder, data, len, apply, NULL);
	if (r < 0 ? handed_out != 0 : handed_out != (unsigned)r)
		abort();
}

/* The bytes as a stream, as transport.c reads it. */
static void fuzz_stream(const uint8_t *data, size_t len)
{
	struct frame_stream s;
	struct message m;
	struct frame f;

	frame_stream_init(&s);
	while (len >= PROTO_HEADER_BYTES) {
		if (frame_decode_header(&s, data, &f, NULL) < 0)
			return;
		if (f.length > len - PROTO_HEADER_BYTES)
			return;
		if (frame_decode_payload(&s, data, &f, data + PROTO_HEADER_BYTES, NULL) < 0)
			return;
		message_decode(&f, &m, NULL);
		data += PROTO_HEADER_BYTES + f.length;
		len -= PROTO_HEADER_BYTES + f.length;
	}
}

/* What was accepted must be accepted again when sent on, and be the same bytes. */
static void check_again(const struct message *m, const struct frame *f)
{
	uint8_t head[MESSAGE_HEAD_MAX];
	struct frame_body b;

	if (message_encode(m, head, &b, NULL) < 0)
		abort();
	if (b.head_len + b.tail_len != f->length || memcmp(head, f->payload, b.head_len) ||
	    b.tail != f->payload + b.head_len)
		abort();
}

static const void *page_of(struct platform *p, uint64_t gfn)
{
	(void)p;
	return gfn < NR_GFNS && gfn % 32 != 31 ? memory[gfn] : NULL;
}

static const struct platform_ops memory_ops = { .page = page_of };

/* As the backup, which is asked; and as the primary, whose first question this may answer. */
static void fuzz_offer(const struct message *m)
{
	static const uint64_t all = UINT64_MAX;
	struct platform p = { .ops = &memory_ops, .nr_gfns = NR_GFNS };
	uint8_t lacked[PROTO_HASHES_MAX / 8];
	struct offer_answer answer;
	struct message question;
	struct offer *o;

	if (m->type == PROTO_PAGE_HASHES && !offer_judge(&p, 1, m, lacked, NULL) &&
	    m->pages.gfn + m->pages.count > NR_GFNS)
		abort();
	if (m->type != PROTO_PAGES_LACKED || offer_open(&p, 1, &all, &o) < 0)
		return;
	while (offer_ask(o, &question))
		;
	if (!offer_answered(o, m, NULL) &&
	    (offer_take(o, &answer) < 0 || answer.count != m->pages.count))
		abort();
	offer_close(o);
}

int apply_read(const struct apply *a, unsigned int disk, uint64_t offset, void *ret, size_t len)
{
	(void)a;
	if (disk || offset > 3 * PROTO_CHUNK_BYTES + 1 || len > 3 * PROTO_CHUNK_BYTES + 1 - offset)
		abort();
	memset(ret, (int)len, len);
	return 0;
}

static void fuzz_check(const struct message *m)
{
	static const struct disk_info disk = { .bytes = 3 * PROTO_CHUNK_BYTES + 1 };
	struct platform p = { .ops = &memory_ops, .nr_gfns = NR_GFNS };
	struct check_config config = { .platform = &p, .disks = &disk, .nr_disks = 1 };
	struct message answer;
	struct check *c;

	if ((m->type != PROTO_PAGE_HASHES && m->type != PROTO_DISK_HASHES) ||
	    check_open(&config, &c) < 0)
		return;
	if (!check_ask(c, m, NULL) && (!check_compare(c, m->epoch) || !check_answer(c, &answer)))
		abort();
	check_close(c);
}

static void fuzz_payload(const uint8_t *data, size_t len)
{
	static uint8_t room[4096];
	struct state_assembly a;
	struct message m;
	struct frame f = { .generation = 1 };
	char text[64];

	state_assembly_init(&a, room, sizeof(room));
	if (len < 1)
		return;
	f.type = data[0];
	f.payload = data + 1;
	f.length = (uint32_t)(len - 1);
	if (!strcmp(proto_type_name(f.type), "UNKNOWN") || message_decode(&f, &m, NULL) < 0)
		return;
	check_again(&m, &f);
	message_text(&m, text, sizeof(text));
	if (m.type == PROTO_STATE)
		state_assembly_add(&a, &m, NULL);
	if (m.type == PROTO_PAGES)
		fuzz_pages(m.tail, m.tail_len);
	fuzz_offer(&m);
	fuzz_check(&m);
}

static int deliver(void *opaque, const void *payload, uint32_t len, unsigned records)
{
	(void)opaque;
	handed_out = 0;
	if (decode_pages(decoder, payload, len, apply, NULL) != (int)records)
		abort();
	return 0;
}

/* Pages whose changes the input chooses, encoded and decoded: memories must agree. */
static void fuzz_round_trip(const uint8_t *data, size_t len)
{
	static uint8_t ours[NR_GFNS][PAGE];
	struct cursor c = cursor_over(data, len);

	encode_reset(encoder);
	memset(ours, 0, sizeof(ours));
	memset(memory, 0, sizeof(memory));
	while (cursor_left(&c)) {
		unsigned gfn = cursor_get_u8(&c) % NR_GFNS, at = cursor_get_u16(&c) % PAGE;
		size_t run = (size_t)cursor_get_u8(&c) * 16;

		run = MIN(run, (size_t)PAGE - at);
		memset(ours[gfn] + at, cursor_get_u8(&c), run);
		if (encode_page(encoder, gfn, ours[gfn]) < 0)
			abort();
	}
	if (encode_flush(encoder) < 0 || memcmp(ours, memory, sizeof(ours)))
		abort();
}

static void fuzz_delta(const uint8_t *data, size_t len)
{
	static uint8_t guarded[3 * PAGE];

	memset(guarded, 0xee, sizeof(guarded));
	if ((delta_check(data, len) == 0) != (delta_apply(guarded + PAGE, data, len) == 0))
		abort();
	for (unsigned i = 0; i < PAGE; i++)
		if (guarded[i] != 0xee || guarded[2 * PAGE + i] != 0xee)
			abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct decode_options d = { .nr_gfns = NR_GFNS, .codecs = CODEC_ALL, .delta = true };
	struct encode_options e = {
		.codec = CODEC_LZ4, .delta = true, .cache_bytes = 32 * PAGE, .emit = deliver
	};

	(void)argc, (void)argv;
	return decode_open(&decoder, &d) < 0 || encode_open(&encoder, &e) < 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static void (*const ways[])(const uint8_t *, size_t) = {
		fuzz_stream, fuzz_payload, fuzz_pages, fuzz_round_trip, fuzz_delta,
	};

	if (len && data[0] < ARRAY_SIZE(ways))
		ways[data[0]](data + 1, len - 1);
	return 0;
}
