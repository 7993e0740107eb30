/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: frames out and in. Invariant: a frame counts as accepted only after every
 * check has passed, and a stream that refused once accepts nothing more (P4). Threads:
 * one per stream. Source: docs/protocol.md, "Frames".
 */
#include "ha/frame.h"

#include "base/cursor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#define XXH_STATIC_LINKING_ONLY /* a checksum state on the stack */
#include <xxhash.h>

static const struct code_entry {
	const char *name;
	int err;
} codes[] = {
	[PROTO_OK] = { "OK", EPROTO },
	[PROTO_BAD_MAGIC] = { "BAD_MAGIC", EPROTO },
	[PROTO_BAD_VERSION] = { "BAD_VERSION", EPROTONOSUPPORT },
	[PROTO_BAD_TYPE] = { "BAD_TYPE", EPROTO },
	[PROTO_BAD_FLAGS] = { "BAD_FLAGS", EPROTO },
	[PROTO_TOO_LARGE] = { "TOO_LARGE", EMSGSIZE },
	[PROTO_BAD_CHECKSUM] = { "BAD_CHECKSUM", EBADMSG },
	[PROTO_BAD_SEQUENCE] = { "BAD_SEQUENCE", EPROTO },
	[PROTO_STALE_GENERATION] = { "STALE_GENERATION", ESTALE },
	[PROTO_NEWER_GENERATION] = { "NEWER_GENERATION", ESTALE },
	[PROTO_BAD_EPOCH] = { "BAD_EPOCH", EPROTO },
	[PROTO_BAD_DIGEST] = { "BAD_DIGEST", EBADMSG },
	[PROTO_BAD_PAYLOAD] = { "BAD_PAYLOAD", EPROTO },
	[PROTO_BAD_PAGES] = { "BAD_PAGES", EPROTO },
	[PROTO_BAD_CODEC] = { "BAD_CODEC", EPROTO },
	[PROTO_TRUNCATED] = { "TRUNCATED", EPROTO },
	[PROTO_BAD_HELLO] = { "BAD_HELLO", EPROTO },
	[PROTO_BAD_SESSION] = { "BAD_SESSION", EPROTO },
	[PROTO_UNEXPECTED] = { "UNEXPECTED", EPROTO },
	[PROTO_EPOCH_TOO_LARGE] = { "EPOCH_TOO_LARGE", EMSGSIZE },
	[PROTO_NO_MEMORY] = { "NO_MEMORY", ENOMEM },
	[PROTO_DISK_FAILED] = { "DISK_FAILED", EIO },
	[PROTO_VM_UNKNOWN] = { "VM_UNKNOWN", ENOENT },
	[PROTO_VM_BUSY] = { "VM_BUSY", EBUSY },
	[PROTO_IS_ACTIVE] = { "IS_ACTIVE", ESTALE },
	[PROTO_LEAVING] = { "LEAVING", ESHUTDOWN },
	[PROTO_INTERNAL] = { "INTERNAL", EIO },
	[PROTO_CONNECT_FAILED] = { "CONNECT_FAILED", ECONNREFUSED },
	[PROTO_CLOSED] = { "CLOSED", ECONNRESET },
	[PROTO_TIMED_OUT] = { "TIMED_OUT", ETIMEDOUT },
	[PROTO_INTERRUPTED] = { "INTERRUPTED", ECANCELED },
	[PROTO_TLS_CONFIG] = { "TLS_CONFIG", EINVAL },
	[PROTO_TLS_FAILED] = { "TLS_FAILED", EPROTO },
	[PROTO_TLS_BAD_CERTIFICATE] = { "TLS_BAD_CERTIFICATE", EACCES },
	[PROTO_TLS_BAD_NAME] = { "TLS_BAD_NAME", EACCES },
	[PROTO_TLS_NOT_SPOKEN] = { "TLS_NOT_SPOKEN", EPROTO },
};

const char *proto_code_name(unsigned code)
{
	if (code >= ARRAY_SIZE(codes) || !codes[code].name)
		return "UNKNOWN";
	return codes[code].name;
}

int refusal_set(struct refusal *why, enum proto_code code, const char *fmt, ...)
{
	char text[sizeof(struct reason)];
	va_list ap;

	assert(code != PROTO_OK && code < ARRAY_SIZE(codes) && codes[code].name);
	if (!why)
		return -codes[code].err;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	why->code = code;
	return reason_set(&why->why, codes[code].err, "%s: %s", codes[code].name, text);
}

static const char *const type_names[] = {
	[PROTO_HELLO] = "HELLO",
	[PROTO_WELCOME] = "WELCOME",
	[PROTO_REFUSE] = "REFUSE",
	[PROTO_PAGES] = "PAGES",
	[PROTO_DISK_DATA] = "DISK_DATA",
	[PROTO_DISK_WRITE] = "DISK_WRITE",
	[PROTO_DISK_FLUSH] = "DISK_FLUSH",
	[PROTO_DISK_DISCARD] = "DISK_DISCARD",
	[PROTO_DISK_ZEROES] = "DISK_ZEROES",
	[PROTO_STATE] = "STATE",
	[PROTO_EPOCH_END] = "EPOCH_END",
	[PROTO_ACK] = "ACK",
	[PROTO_HEARTBEAT] = "HEARTBEAT",
	[PROTO_HEARTBEAT_REPLY] = "HEARTBEAT_REPLY",
	[PROTO_HANDOVER] = "HANDOVER",
	[PROTO_BYE] = "BYE",
	[PROTO_LEAVE] = "LEAVE",
	[PROTO_YIELD] = "YIELD",
	[PROTO_DURABLE] = "DURABLE",
	[PROTO_SETTLED] = "SETTLED",
	[PROTO_YIELD_REQUEST] = "YIELD_REQUEST",
	[PROTO_HASH] = "HASH",
	[PROTO_PAGE_HASHES] = "PAGE_HASHES",
	[PROTO_PAGES_LACKED] = "PAGES_LACKED",
	[PROTO_DISK_HASHES] = "DISK_HASHES",
	[PROTO_DISK_DIFFERS] = "DISK_DIFFERS",
};

static bool type_known(unsigned type)
{
	return type < ARRAY_SIZE(type_names) && type_names[type];
}

const char *proto_type_name(unsigned type)
{
	return type_known(type) ? type_names[type] : "UNKNOWN";
}

bool frame_is_data(uint16_t type)
{
	return type >= PROTO_PAGES && type <= PROTO_STATE;
}

void frame_stream_init(struct frame_stream *s)
{
	*s = (struct frame_stream){ 0 };
}

void frame_stream_start(struct frame_stream *s, uint64_t epoch)
{
	s->next_epoch = epoch;
	memset(s->open, 0, sizeof(s->open));
}

static bool epoch_is_open(const struct frame_stream *s, uint64_t epoch)
{
	return epoch >= s->next_epoch && epoch - s->next_epoch < PROTO_EPOCHS_OPEN;
}

struct frame_digest frame_stream_digest(const struct frame_stream *s, uint64_t epoch)
{
	if (!epoch_is_open(s, epoch))
		return (struct frame_digest){ 0 };
	return s->open[epoch % PROTO_EPOCHS_OPEN];
}

/* Epochs end one after the other; data may run a few ahead, never behind (P2). */
static int check_epoch(const struct frame_stream *s, const struct frame *f, struct refusal *why)
{
	if (frame_is_data(f->type) && !epoch_is_open(s, f->epoch))
		return refusal_set(why, PROTO_BAD_EPOCH,
				   "%s of epoch %" PRIu64 ", open are %" PRIu64 " and %u more",
				   proto_type_name(f->type), f->epoch, s->next_epoch,
				   PROTO_EPOCHS_OPEN - 1);
	if (f->type == PROTO_EPOCH_END && f->epoch != s->next_epoch)
		return refusal_set(why, PROTO_BAD_EPOCH,
				   "end of epoch %" PRIu64 ", expected that of %" PRIu64, f->epoch,
				   s->next_epoch);
	return 0;
}

static void count_epoch(struct frame_stream *s, const struct frame *f)
{
	struct frame_digest *d = &s->open[f->epoch % PROTO_EPOCHS_OPEN];
	uint8_t link[16];
	struct cursor c = cursor_over(link, sizeof(link));

	if (frame_is_data(f->type)) {
		cursor_put_u64(&c, d->value);
		cursor_put_u64(&c, f->checksum);
		d->value = XXH3_64bits(link, sizeof(link));
		d->frames++;
	} else if (f->type == PROTO_EPOCH_END) {
		*d = (struct frame_digest){ 0 };
		s->next_epoch++;
	}
}

/* Over the header with its checksum field zero, then the payload. */
static uint64_t checksum(uint64_t seed, const uint8_t *header, const struct frame_body *body)
{
	static const uint8_t zero[PROTO_HEADER_BYTES - PROTO_CHECKSUM_AT];
	XXH3_state_t state;

	/* The reset takes a secret that seems to be of this seed for one that is there: what the
	 * stack held before must not look like it. */
	XXH3_INITSTATE(&state);
	XXH3_64bits_reset_withSeed(&state, seed);
	XXH3_64bits_update(&state, header, PROTO_CHECKSUM_AT);
	XXH3_64bits_update(&state, zero, sizeof(zero));
	if (body->head_len)
		XXH3_64bits_update(&state, body->head, body->head_len);
	if (body->tail_len)
		XXH3_64bits_update(&state, body->tail, body->tail_len);
	return XXH3_64bits_digest(&state);
}

int frame_encode(struct frame_stream *s, struct frame *f, const struct frame_body *body,
		 uint8_t ret_header[PROTO_HEADER_BYTES], struct refusal *why)
{
	uint64_t length = (uint64_t)body->head_len + body->tail_len;
	struct cursor c = cursor_over(ret_header, PROTO_HEADER_BYTES);
	int r;

	assert(type_known(f->type));
	if (length > PROTO_PAYLOAD_MAX)
		return refusal_set(why, PROTO_TOO_LARGE,
				   "payload of %" PRIu64 " bytes, the limit is %u", length,
				   PROTO_PAYLOAD_MAX);
	r = check_epoch(s, f, why);
	if (r < 0)
		return r;

	f->length = (uint32_t)length;
	f->sequence = ++s->sequence;
	cursor_put_u32(&c, PROTO_MAGIC);
	cursor_put_u16(&c, PROTO_VERSION);
	cursor_put_u16(&c, f->type);
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, f->length);
	cursor_put_u64(&c, f->generation);
	cursor_put_u64(&c, f->epoch);
	cursor_put_u64(&c, f->sequence);
	f->checksum = checksum(s->seed, ret_header, body);
	cursor_put_u64(&c, f->checksum);
	assert(cursor_done(&c));
	count_epoch(s, f);
	return 0;
}

static int check_header(const struct frame_stream *s, const struct frame *f, uint32_t flags,
			struct refusal *why)
{
	if (!type_known(f->type))
		return refusal_set(why, PROTO_BAD_TYPE, "frame type %u is none of version %u",
				   f->type, PROTO_VERSION);
	if (flags)
		return refusal_set(why, PROTO_BAD_FLAGS, "flags 0x%x, version %u has none", flags,
				   PROTO_VERSION);
	if (f->length > PROTO_PAYLOAD_MAX)
		return refusal_set(why, PROTO_TOO_LARGE, "payload of %u bytes, the limit is %u",
				   f->length, PROTO_PAYLOAD_MAX);
	if (f->sequence != s->sequence + 1)
		return refusal_set(why, PROTO_BAD_SEQUENCE, "frame %" PRIu64 ", expected %" PRIu64,
				   f->sequence, s->sequence + 1);
	return 0;
}

int frame_decode_header(struct frame_stream *s, const uint8_t header[PROTO_HEADER_BYTES],
			struct frame *ret, struct refusal *why)
{
	struct cursor c = cursor_over(header, PROTO_HEADER_BYTES);
	struct frame f = { 0 };
	uint32_t magic = cursor_get_u32(&c), flags;
	uint16_t version = cursor_get_u16(&c);
	int r;

	f.type = cursor_get_u16(&c);
	flags = cursor_get_u32(&c);
	f.length = cursor_get_u32(&c);
	f.generation = cursor_get_u64(&c);
	f.epoch = cursor_get_u64(&c);
	f.sequence = cursor_get_u64(&c);
	f.checksum = cursor_get_u64(&c);
	assert(cursor_done(&c));

	if (s->refused)
		r = refusal_set(why, PROTO_UNEXPECTED, "the stream was refused before");
	else if (magic != PROTO_MAGIC)
		r = refusal_set(why, PROTO_BAD_MAGIC, "0x%08x, expected 0x%08x", magic,
				PROTO_MAGIC);
	else if (version < PROTO_VERSION_MIN || version > PROTO_VERSION)
		r = refusal_set(why, PROTO_BAD_VERSION,
				"protocol version %u, this program speaks %u to %u", version,
				PROTO_VERSION_MIN, PROTO_VERSION);
	else
		r = check_header(s, &f, flags, why);
	if (r < 0) {
		s->refused = true;
		return r;
	}
	*ret = f;
	return 0;
}

/* P3: an older sender has lost its right; a newer one means that we have lost ours. */
static int check_generation(const struct frame_stream *s, const struct frame *f,
			    struct refusal *why)
{
	bool may_raise = f->type == PROTO_REFUSE || f->type == PROTO_HANDOVER;

	if (!s->generation || f->generation == s->generation)
		return 0;
	if (f->generation < s->generation)
		return refusal_set(why, PROTO_STALE_GENERATION,
				   "%s of generation %" PRIu64 ", ours is %" PRIu64,
				   proto_type_name(f->type), f->generation, s->generation);
	if (may_raise)
		return 0;
	return refusal_set(why, PROTO_NEWER_GENERATION,
			   "%s of generation %" PRIu64 ", ours is %" PRIu64,
			   proto_type_name(f->type), f->generation, s->generation);
}

/* EPOCH_END begins with {frames, digest}: compared here, where they are counted. */
static int check_digest(const struct frame_stream *s, const struct frame *f, const void *payload,
			struct refusal *why)
{
	struct cursor c = cursor_over(payload, f->length);
	struct frame_digest got = frame_stream_digest(s, f->epoch);
	uint64_t frames, value;

	if (f->type != PROTO_EPOCH_END)
		return 0;
	frames = cursor_get_u64(&c);
	value = cursor_get_u64(&c);
	if (!cursor_ok(&c))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "EPOCH_END of %u bytes", f->length);
	if (frames != got.frames || value != got.value)
		return refusal_set(why, PROTO_BAD_DIGEST,
				   "epoch %" PRIu64 ": %" PRIu64 " frames 0x%016" PRIx64
				   " sent, %" PRIu64 " frames 0x%016" PRIx64 " arrived",
				   f->epoch, frames, value, got.frames, got.value);
	return 0;
}

static int check_payload(struct frame_stream *s, const uint8_t *header, const struct frame *f,
			 struct refusal *why)
{
	struct frame_body body = { .tail = f->payload, .tail_len = f->length };
	uint64_t sum = checksum(s->seed, header, &body);
	int r;

	if (sum != f->checksum)
		return refusal_set(why, PROTO_BAD_CHECKSUM,
				   "%s frame %" PRIu64 ": 0x%016" PRIx64 ", computed 0x%016" PRIx64,
				   proto_type_name(f->type), f->sequence, f->checksum, sum);
	r = check_generation(s, f, why);
	if (r < 0)
		return r;
	r = check_epoch(s, f, why);
	if (r < 0)
		return r;
	return check_digest(s, f, f->payload, why);
}

int frame_decode_payload(struct frame_stream *s, const uint8_t header[PROTO_HEADER_BYTES],
			 struct frame *f, const void *payload, struct refusal *why)
{
	int r;

	if (s->refused)
		return refusal_set(why, PROTO_UNEXPECTED, "the stream was refused before");
	f->payload = payload;
	r = check_payload(s, header, f, why);
	if (r < 0) {
		s->refused = true;
		return r;
	}
	s->sequence = f->sequence;
	count_epoch(s, f);
	return 0;
}
