/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One frame: header and payload to bytes, and bytes to a frame that was checked in
 * full (P4). Layout: ha/protocol.h, docs/protocol.md.
 *
 * `struct frame_stream` is one direction of one connection: it numbers what is sent,
 * or refuses what was replayed, dropped, reordered, stale or of another session, with
 * or without TLS beneath. After a refusal the connection must end: the stream stays
 * refused. Pure: no clock, socket or allocation. One thread a stream.
 */
#ifndef POLLUX_HA_FRAME_H
#define POLLUX_HA_FRAME_H

#include "ha/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame {
	uint16_t type;
	uint32_t length;
	uint64_t generation;
	uint64_t epoch;
	uint64_t sequence;
	uint64_t checksum;
	const uint8_t *payload; /* whoever decoded says how long it stays */
};

/* The payload to send, in two pieces so that bulk data need not be copied. */
struct frame_body {
	const void *head;
	uint32_t head_len;
	const void *tail;
	uint32_t tail_len;
};

/* Chained over the checksums of an epoch's data frames, in the order of sending:
 * value = XXH3-64(le64(value) || le64(checksum)), from 0. A missing frame shows. */
struct frame_digest {
	uint64_t frames;
	uint64_t value;
};

struct frame_stream {
	uint64_t seed;	     /* session id, 0 until HELLO and WELCOME have passed */
	uint64_t sequence;   /* of the frame sent or accepted last */
	uint64_t generation; /* receiving: what frames must carry; 0: anything */
	uint64_t next_epoch; /* the first epoch that has not ended */
	struct frame_digest open[PROTO_EPOCHS_OPEN]; /* by epoch modulo */
	bool refused;
};

void frame_stream_init(struct frame_stream *s);
/* From here on epochs start at `epoch` (default 0). */
void frame_stream_start(struct frame_stream *s, uint64_t epoch);

/* True for frames that are part of an epoch and count into its digest. */
bool frame_is_data(uint16_t type);
/* What the data frames of an open epoch come to so far. */
struct frame_digest frame_stream_digest(const struct frame_stream *s, uint64_t epoch);

/*
 * Writes the header that makes `body` a frame, and counts it as sent. `f` gives type,
 * generation and epoch; sequence, length and checksum are filled in. PROTO_TOO_LARGE
 * and PROTO_BAD_EPOCH refuse, and then nothing was counted.
 */
int frame_encode(struct frame_stream *s, struct frame *f, const struct frame_body *body,
		 uint8_t ret_header[PROTO_HEADER_BYTES], struct refusal *why);

/* Checks what a header alone shows, before a payload is waited for: magic, version,
 * type, flags, length, sequence. Fills everything but `payload`. Counts nothing. */
int frame_decode_header(struct frame_stream *s, const uint8_t header[PROTO_HEADER_BYTES],
			struct frame *ret, struct refusal *why);

/* Checks the rest: checksum, generation, epoch order, digest at EPOCH_END; then counts
 * the frame as accepted. `f` comes from frame_decode_header over the same header. */
int frame_decode_payload(struct frame_stream *s, const uint8_t header[PROTO_HEADER_BYTES],
			 struct frame *f, const void *payload, struct refusal *why);

#endif
