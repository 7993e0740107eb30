/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames and messages: what is sent comes back; any bit flipped, byte lost, frame
 * replayed, dropped or reordered is refused by name and changes nothing.
 */
#include "ha/frame.h"
#include "ha/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define SEED UINT64_C(0x1122334455667788)

struct wire_frame {
	uint8_t header[PROTO_HEADER_BYTES];
	uint8_t payload[4096];
	uint32_t length;
};

static struct frame_stream stream(uint64_t generation)
{
	struct frame_stream s;

	frame_stream_init(&s);
	s.seed = SEED;
	s.generation = generation;
	return s;
}

static void put(struct frame_stream *s, const struct message *m, struct wire_frame *ret)
{
	struct frame f = { .type = m->type, .generation = m->generation, .epoch = m->epoch };
	struct refusal why = { 0 };
	uint8_t head[MESSAGE_HEAD_MAX];
	struct frame_body b;

	assert_int_equal(message_encode(m, head, &b, &why), 0);
	assert_int_equal(frame_encode(s, &f, &b, ret->header, &why), 0);
	memcpy(ret->payload, b.head, b.head_len);
	if (b.tail_len)
		memcpy(ret->payload + b.head_len, b.tail, b.tail_len);
	ret->length = f.length;
}

static int get(struct frame_stream *s, const struct wire_frame *w, struct message *ret,
	       struct refusal *why)
{
	struct frame f;
	int r = frame_decode_header(s, w->header, &f, why);

	if (r < 0)
		return r;
	if (f.length != w->length)
		return refusal_set(why, PROTO_TRUNCATED, "length %u", f.length);
	r = frame_decode_payload(s, w->header, &f, w->payload, why);
	return r < 0 ? r : message_decode(&f, ret, why);
}

static void expect_refusal(struct frame_stream *s, const struct wire_frame *w, enum proto_code code)
{
	struct frame_stream before = *s;
	struct refusal why = { 0 };
	struct message m;

	assert_true(get(s, w, &m, &why) < 0);
	assert_string_equal(proto_code_name(why.code), proto_code_name(code));
	assert_memory_equal(why.why.text, proto_code_name(code), strlen(proto_code_name(code)));
	assert_int_equal(s->sequence, before.sequence);
	assert_int_equal(s->next_epoch, before.next_epoch);
	assert_memory_equal(s->open, before.open, sizeof(s->open));
}

static struct message write_message(uint64_t epoch)
{
	return (struct message){ .type = PROTO_DISK_WRITE,
				 .generation = 3,
				 .epoch = epoch,
				 .disk = { .disk = 1, .offset = 512, .length = 5 },
				 .tail = "hello",
				 .tail_len = 5 };
}

static struct message end_message(struct frame_stream *out, uint64_t epoch)
{
	struct frame_digest d = frame_stream_digest(out, epoch);

	return (struct message){ .type = PROTO_EPOCH_END,
				 .generation = 3,
				 .epoch = epoch,
				 .end = { .frames = d.frames, .digest = d.value, .disk_ops = 1 } };
}

static void test_round_trip(void **state)
{
	struct frame_stream out = stream(0), in = stream(3);
	struct message m = write_message(0), back;
	struct wire_frame w;

	(void)state;
	for (int i = 0; i < 3; i++) {
		put(&out, &m, &w);
		assert_int_equal(get(&in, &w, &back, NULL), 0);
		assert_int_equal(back.type, PROTO_DISK_WRITE);
		assert_int_equal(back.generation, 3);
		assert_int_equal(back.disk.disk, 1);
		assert_int_equal(back.disk.offset, 512);
		assert_int_equal(back.tail_len, 5);
		assert_memory_equal(back.tail, "hello", 5);
	}
	m = end_message(&out, 0);
	assert_int_equal(m.end.frames, 3);
	put(&out, &m, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	assert_int_equal(in.next_epoch, 1);
}

static void test_every_bit(void **state)
{
	struct frame_stream out = stream(0);
	struct message m = write_message(0), back;
	struct wire_frame w;

	(void)state;
	put(&out, &m, &w);
	for (unsigned bit = 0; bit < 8 * (PROTO_HEADER_BYTES + w.length); bit++) {
		struct frame_stream in = stream(0);
		struct wire_frame bad = w;
		uint8_t *at = bit / 8 < PROTO_HEADER_BYTES
				      ? bad.header + bit / 8
				      : bad.payload + bit / 8 - PROTO_HEADER_BYTES;

		*at ^= (uint8_t)(1 << bit % 8);
		assert_true(get(&in, &bad, &back, NULL) < 0);
		assert_int_equal(in.sequence, 0);
		/* And what comes after a refusal is refused too. */
		assert_true(get(&in, &w, &back, NULL) < 0 || !in.refused);
	}
}

static void test_order(void **state)
{
	struct frame_stream out = stream(0), in = stream(3), other;
	struct message m = write_message(0), back;
	struct wire_frame w[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		put(&out, &m, &w[i]);
	assert_int_equal(get(&in, &w[0], &back, NULL), 0);
	other = in;
	expect_refusal(&other, &w[0], PROTO_BAD_SEQUENCE); /* replayed */
	other = in;
	expect_refusal(&other, &w[2], PROTO_BAD_SEQUENCE); /* dropped, or reordered */
	expect_refusal(&other, &w[1], PROTO_UNEXPECTED);   /* too late */
	assert_int_equal(get(&in, &w[1], &back, NULL), 0);
	/* From another connection of the same pair: the session differs. */
	other = stream(3);
	other.seed++;
	expect_refusal(&other, &w[0], PROTO_BAD_CHECKSUM);
}

static void test_generation(void **state)
{
	struct frame_stream out = stream(0), in;
	struct message m = write_message(0), back;
	struct wire_frame w;

	(void)state;
	put(&out, &m, &w);
	in = stream(4);
	expect_refusal(&in, &w, PROTO_STALE_GENERATION);
	in = stream(2);
	expect_refusal(&in, &w, PROTO_NEWER_GENERATION);

	out = stream(0);
	m = (struct message){ .type = PROTO_HANDOVER,
			      .generation = 3,
			      .handover = { .code = PROTO_DISK_FAILED, .generation = 3 },
			      .tail = "disk",
			      .tail_len = 4 };
	put(&out, &m, &w);
	in = stream(2);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	in = stream(4);
	expect_refusal(&in, &w, PROTO_STALE_GENERATION);
}

/* Turns a good frame into one with another header field, checksum and all. */
static void forge(struct wire_frame *w, unsigned at, uint64_t value, unsigned bytes)
{
	struct frame f = { .type = PROTO_BYE, .length = w->length };
	struct frame_stream s = stream(0);
	struct refusal why = { 0 };
	unsigned long long sum;
	const char *text;

	memcpy(w->header + at, &value, bytes);
	/* The computed sum stands in the refusal's text. */
	assert_true(frame_decode_payload(&s, w->header, &f, w->payload, &why) < 0);
	text = strstr(why.why.text, "computed ");
	assert_non_null(text);
	assert_int_equal(sscanf(text, "computed %llx", &sum), 1);
	memcpy(w->header + PROTO_CHECKSUM_AT, &sum, 8);
}

static void test_header_fields(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
		enum proto_code code;
	} table[] = {
		{ 0, 4, 0x12345678, PROTO_BAD_MAGIC },
		{ 4, 2, PROTO_VERSION + 1, PROTO_BAD_VERSION },
		{ 4, 2, 0, PROTO_BAD_VERSION },
		{ 6, 2, 0, PROTO_BAD_TYPE },
		{ 6, 2, 15, PROTO_BAD_TYPE },
		{ 6, 2, 0xffff, PROTO_BAD_TYPE },
		{ 8, 4, 1, PROTO_BAD_FLAGS },
		{ 12, 4, PROTO_PAYLOAD_MAX + 1, PROTO_TOO_LARGE },
		{ 12, 4, UINT32_MAX, PROTO_TOO_LARGE },
		{ 24, 8, PROTO_EPOCHS_OPEN, PROTO_BAD_EPOCH },
		{ 24, 8, UINT64_MAX, PROTO_BAD_EPOCH },
		{ 32, 8, 0, PROTO_BAD_SEQUENCE },
		{ 32, 8, 2, PROTO_BAD_SEQUENCE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct frame_stream out = stream(0), in = stream(3);
		struct message m = write_message(0);
		struct wire_frame w;

		put(&out, &m, &w);
		forge(&w, table[i].at, table[i].value, table[i].bytes);
		expect_refusal(&in, &w, table[i].code);
	}
}

static void test_epochs(void **state)
{
	struct frame_stream out = stream(0), in = stream(3), other;
	struct message m0 = write_message(0), m1 = write_message(1), end, back;
	struct refusal why;
	struct wire_frame w;
	struct frame f = { .type = PROTO_DISK_WRITE, .epoch = PROTO_EPOCHS_OPEN };
	struct frame_body b = { 0 };

	(void)state;
	/* Data of the next epoch may run ahead; each epoch has its own digest. */
	put(&out, &m0, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	put(&out, &m1, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	end = end_message(&out, 0);
	assert_int_equal(end.end.frames, 1);

	/* A count that does not match what arrived. */
	other = out;
	end.end.frames = 2;
	put(&other, &end, &w);
	other = in;
	expect_refusal(&other, &w, PROTO_BAD_DIGEST);

	end = end_message(&out, 0);
	put(&out, &end, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);

	/* The sender's own mistakes are refused before anything is numbered. */
	assert_true(frame_encode(&out, &f, &b, w.header, &why) == 0);
	f.epoch = 0;
	assert_true(frame_encode(&out, &f, &b, w.header, &why) < 0);
	assert_int_equal(why.code, PROTO_BAD_EPOCH);
	b.tail_len = PROTO_PAYLOAD_MAX + 1;
	f.epoch = 1;
	assert_int_equal(frame_encode(&out, &f, &b, w.header, &why), -EMSGSIZE);
}

/* A frame lost together with its number: as if a proxy had renumbered the rest. */
static void test_digest_notices(void **state)
{
	struct frame_stream out = stream(0), in = stream(3);
	struct message m = write_message(0), end, back;
	struct wire_frame w;

	(void)state;
	put(&out, &m, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	put(&out, &m, &w); /* never arrives */
	end = end_message(&out, 0);
	out.sequence--;
	put(&out, &end, &w);
	expect_refusal(&in, &w, PROTO_BAD_DIGEST);
}

/* As many frames as were sent, but one of them is another one. */
static void test_digest_names_content(void **state)
{
	struct frame_stream out = stream(0), in = stream(3), forger;
	struct message m = write_message(0), end, back;
	struct wire_frame w;

	(void)state;
	forger = out;
	put(&out, &m, &w);
	m.disk.offset++;
	put(&forger, &m, &w);
	assert_int_equal(get(&in, &w, &back, NULL), 0);
	end = end_message(&out, 0);
	put(&out, &end, &w);
	expect_refusal(&in, &w, PROTO_BAD_DIGEST);
}

/* After a refusal, for whatever reason, even a right frame is too late. */
static void test_refused_for_good(void **state)
{
	struct frame_stream out = stream(0), in = stream(3);
	struct message m = write_message(0);
	struct wire_frame good, bad;

	(void)state;
	put(&out, &m, &good);
	bad = good;
	bad.payload[0] ^= 1;
	expect_refusal(&in, &bad, PROTO_BAD_CHECKSUM);
	expect_refusal(&in, &good, PROTO_UNEXPECTED);
	in = stream(3);
	bad = good;
	bad.header[0] ^= 1;
	expect_refusal(&in, &bad, PROTO_BAD_MAGIC);
	expect_refusal(&in, &good, PROTO_UNEXPECTED);
}

static struct message sample(uint16_t type)
{
	struct message m = { .type = type, .generation = 3 };

	switch ((enum proto_type)type) {
	case PROTO_HELLO:
		m.hello = (struct proto_hello){
			.version_min = 1,
			.version_max = 7,
			.features = ~UINT64_C(0),
			.codecs = 15,
			.kind = PROTO_KIND_BULK,
			.session = 9,
			.memory_bytes = 256 << 20,
			.generation = 3,
			.epoch_limit = 1 << 30,
			.page_bytes = 4096,
			.nr_disks = 2,
			.uuid = { 1, 2, 3 },
			.vm = "db-1",
		};
		break;
	case PROTO_WELCOME:
		m.welcome = (struct proto_welcome){ .version = 1,
						    .features = 1,
						    .codec = 1,
						    .session = 9,
						    .generation = 3,
						    .epoch_limit = 5 };
		break;
	case PROTO_REFUSE:
		m.refuse = (struct proto_refuse){ .code = PROTO_IS_ACTIVE, .generation = 4 };
		break;
	case PROTO_DISK_DATA:
	case PROTO_DISK_WRITE:
		m.disk = (struct proto_disk){ .disk = 1, .offset = 4096, .length = 3 };
		m.tail = "abc";
		m.tail_len = 3;
		break;
	case PROTO_DISK_DISCARD:
	case PROTO_DISK_ZEROES:
		m.disk = (struct proto_disk){ .disk = 7, .offset = 1, .length = 1 << 30 };
		break;
	case PROTO_STATE:
		m.state = (struct proto_state){ .offset = 5, .total = 8 };
		m.tail = "xyz";
		m.tail_len = 3;
		break;
	case PROTO_EPOCH_END:
		m.end = (struct proto_epoch_end){ .frames = 0, .digest = 0, .pages = 3 };
		break;
	case PROTO_ACK:
		m.ack = (struct proto_ack){ .epoch = 5, .digest = 6 };
		break;
	case PROTO_HEARTBEAT:
		m.heartbeat = (struct proto_heartbeat){ 1, PROTO_NO_EPOCH, 3, 1 };
		break;
	case PROTO_HEARTBEAT_REPLY:
		m.reply = (struct proto_heartbeat_reply){ 1, 2, 3, 0 };
		break;
	case PROTO_HANDOVER:
		m.handover = (struct proto_handover){ .code = 21, .generation = 4 };
		break;
	case PROTO_BYE:
	case PROTO_LEAVE:
	case PROTO_YIELD_REQUEST:
		m.bye.code = 25;
		break;
	case PROTO_YIELD:
		m.yield = (struct proto_yield){ 25, PROTO_YIELD_NS_MAX, 7 };
		break;
	case PROTO_SETTLED:
		m.settled.epoch = 7;
		break;
	case PROTO_DURABLE:
		m.durable = (struct proto_durable){ .epoch = 7, .disk_ops = 8 };
		break;
	case PROTO_HASH:
		m.hash.epoch = 77;
		break;
	case PROTO_PAGE_HASHES:
		m.pages = (struct proto_pages){ .gfn = 5, .count = 2 };
		m.tail = "0123456789abcdef0123456789abcdef";
		m.tail_len = 32;
		break;
	case PROTO_PAGES_LACKED:
		m.pages = (struct proto_pages){ .gfn = 5, .count = 10 };
		m.tail = "\x01\x02";
		m.tail_len = 2;
		break;
	case PROTO_DISK_HASHES:
		m.chunks = (struct proto_chunks){ .disk = 7, .offset = 3 << 16, .count = 2 };
		m.tail = "0123456789abcdef0123456789abcdef";
		m.tail_len = 32;
		break;
	case PROTO_DISK_DIFFERS:
		m.chunks = (struct proto_chunks){ .disk = 7, .offset = 3 << 16, .count = 10 };
		m.tail = "\x01\x02";
		m.tail_len = 2;
		break;
	case PROTO_PAGES:
		m.tail = "{}";
		m.tail_len = 2;
		break;
	case PROTO_DISK_FLUSH:
		break;
	}
	return m;
}

static bool ends_in_free_bytes(uint16_t type)
{
	return type == PROTO_PAGES || type == PROTO_REFUSE ||
	       (type >= PROTO_HANDOVER && type <= PROTO_YIELD_REQUEST);
}

/* Each type there and back, and every shorter or longer payload refused where the layout
 * does not end in free bytes. */
static void test_messages(void **state)
{
	(void)state;
	for (uint16_t type = 1; type < 128; type++) {
		struct message m = sample(type), back;
		uint8_t head[MESSAGE_HEAD_MAX + 1], again[MESSAGE_HEAD_MAX];
		struct frame_body b, c;
		struct frame f = { .type = type, .generation = 3, .payload = head };

		if (!strcmp(proto_type_name(type), "UNKNOWN"))
			continue;
		assert_int_equal(message_encode(&m, head, &b, NULL), 0);
		if (b.tail_len)
			memcpy(head + b.head_len, b.tail, b.tail_len);
		f.length = b.head_len + b.tail_len;
		assert_int_equal(message_decode(&f, &back, NULL), 0);
		assert_int_equal(message_encode(&back, again, &c, NULL), 0);
		assert_int_equal(b.head_len, c.head_len);
		assert_memory_equal(head, again, b.head_len);
		assert_int_equal(back.tail_len, m.tail_len);

		for (f.length = 0; f.length < b.head_len; f.length++)
			assert_true(message_decode(&f, &back, NULL) < 0);
		f.length = b.head_len + b.tail_len + 1;
		head[f.length - 1] = 0;
		if (!ends_in_free_bytes(type))
			assert_true(message_decode(&f, &back, NULL) < 0);
	}
}

static void expect_bad(const struct message *m, enum proto_code code)
{
	uint8_t head[MESSAGE_HEAD_MAX];
	struct refusal why = { 0 };
	struct frame_body b;

	assert_true(message_encode(m, head, &b, &why) < 0);
	assert_string_equal(proto_code_name(why.code), proto_code_name(code));
}

#define BAD(type_, change, code)                                                                   \
	do {                                                                                       \
		struct message m = sample(type_);                                                  \
		change;                                                                            \
		expect_bad(&m, code);                                                              \
	} while (0)

static void test_message_limits(void **state)
{
	(void)state;
	BAD(PROTO_HELLO, m.hello.version_min = 2, PROTO_BAD_VERSION);
	BAD(PROTO_HELLO, m.hello.version_max = 0, PROTO_BAD_VERSION);
	BAD(PROTO_HELLO, m.hello.kind = 3, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.session = 0, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.generation = 0, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.page_bytes = 65536, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.memory_bytes = 4097, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.memory_bytes = 0, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.memory_bytes = PROTO_MEMORY_MAX + 4096, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.nr_disks = 9, PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, m.hello.vm[0] = '\0', PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, strcpy(m.hello.vm, "../x"), PROTO_BAD_HELLO);
	BAD(PROTO_HELLO, strcpy(m.hello.vm, "a b"), PROTO_BAD_HELLO);
	BAD(PROTO_WELCOME, m.welcome.version = 2, PROTO_BAD_VERSION);
	BAD(PROTO_WELCOME, m.welcome.features = 1 << 9, PROTO_BAD_HELLO);
	BAD(PROTO_DISK_WRITE, m.disk.disk = 8, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_WRITE, m.disk.length = 4, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_WRITE, m.disk.offset = INT64_MAX, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_DISCARD, m.disk.length = UINT64_MAX, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_DISCARD, m.disk.length = 0, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_FLUSH, m.disk.length = 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_STATE, m.state.offset = 6, PROTO_BAD_PAYLOAD);
	BAD(PROTO_STATE, m.state.offset = UINT32_MAX, PROTO_BAD_PAYLOAD);
	BAD(PROTO_STATE, m.state.total = PROTO_STATE_MAX + 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_STATE, m.tail_len = 0, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGE_HASHES, m.pages.count = 0, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGE_HASHES, m.pages.count = 3, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGE_HASHES, m.pages.count = PROTO_HASHES_MAX + 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGE_HASHES, m.pages.gfn = UINT64_MAX - 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGES_LACKED, m.pages.count = 8, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGES_LACKED, m.pages.count = 17, PROTO_BAD_PAYLOAD);
	BAD(PROTO_PAGES_LACKED, m.tail = "\0\4", PROTO_BAD_PAYLOAD); /* an eleventh of ten */
	BAD(PROTO_DISK_HASHES, m.chunks.disk = 8, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_HASHES, m.chunks.offset = 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_HASHES, m.chunks.offset = UINT64_C(1) << 63, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_HASHES, m.chunks.count = 0, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_HASHES, m.chunks.count = 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_HASHES, m.chunks.count = PROTO_CHUNKS_MAX + 1, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_DIFFERS, m.chunks.count = 17, PROTO_BAD_PAYLOAD);
	BAD(PROTO_DISK_DIFFERS, m.tail = "\0\4", PROTO_BAD_PAYLOAD);
	BAD(PROTO_HEARTBEAT, m.heartbeat.active = 2, PROTO_BAD_PAYLOAD);
	BAD(PROTO_HEARTBEAT_REPLY, m.reply.active = 2, PROTO_BAD_PAYLOAD);
	BAD(PROTO_BYE, m.tail_len = PROTO_TEXT_MAX + 1, PROTO_BAD_PAYLOAD);
}

static void test_text(void **state)
{
	struct message m = { .type = PROTO_BYE, .tail = "a\n\x1b[b", .tail_len = 5 };
	char text[16];

	(void)state;
	message_text(&m, text, sizeof(text));
	assert_string_equal(text, "a??[b");
	message_text(&m, text, 3);
	assert_string_equal(text, "a?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_generation),
		cmocka_unit_test(test_header_fields),
		cmocka_unit_test(test_epochs),
		cmocka_unit_test(test_digest_notices),
		cmocka_unit_test(test_digest_names_content),
		cmocka_unit_test(test_refused_for_good),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_message_limits),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
