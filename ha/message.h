/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payloads of all frames but PAGES, as numbers: one function a message both
 * writes and reads it, so that the two cannot drift. Layouts: ha/protocol.h.
 *
 * What a message carries in bulk (JSON, state, disk bytes, text, a whole PAGES
 * payload) is its `tail`: never copied, it points into the caller's memory when
 * sending and into the received payload when reading. Text is not NUL-terminated.
 */
#ifndef POLLUX_HA_MESSAGE_H
#define POLLUX_HA_MESSAGE_H

#include "ha/frame.h"
#include "ha/protocol.h"

#define MESSAGE_HEAD_MAX 192u

struct message {
	uint16_t type;
	uint64_t generation;
	uint64_t epoch;
	union {
		struct proto_hello hello;
		struct proto_welcome welcome;
		struct proto_refuse refuse;
		struct proto_disk disk;
		struct proto_state state;
		struct proto_epoch_end end;
		struct proto_ack ack;
		struct proto_durable durable;
		struct proto_settled settled;
		struct proto_heartbeat heartbeat;
		struct proto_heartbeat_reply reply;
		struct proto_handover handover;
		struct proto_bye bye;
		struct proto_yield yield;
		struct proto_hash hash;
		struct proto_pages pages;   /* PAGE_HASHES, PAGES_LACKED */
		struct proto_chunks chunks; /* DISK_HASHES, DISK_DIFFERS */
	};
	const void *tail;
	uint32_t tail_len;
};

/* Writes the fixed part into `head` and describes the payload. -EPROTO: a field or the
 * tail is beyond its limit. */
int message_encode(const struct message *m, uint8_t head[MESSAGE_HEAD_MAX], struct frame_body *ret,
		   struct refusal *why);

/* Reads and checks a frame's payload: lengths, limits, values that the layout bounds.
 * PAGES comes back as its tail only: decode.h reads it. */
int message_decode(const struct frame *f, struct message *ret, struct refusal *why);

/* Copies a tail that is text, made printable, with its NUL; cut to `size`. */
void message_text(const struct message *m, char *ret, size_t size);

#endif
