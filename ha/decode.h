/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGES payloads to page records, and the assembly of what spans frames. Everything is
 * checked before the first record is handed out, so that a refused frame changes
 * nothing (P4): codec, sizes, count, kinds, lengths, gfns, deltas.
 *
 * One thread per decoder; nothing is allocated after decode_open().
 */
#ifndef POLLUX_HA_DECODE_H
#define POLLUX_HA_DECODE_H

#include "ha/codec.h"
#include "ha/message.h"
#include "ha/protocol.h"

#include <stddef.h>
#include <stdint.h>

struct decoder;

/* One page: `bytes` is NULL and `len` 0 for ZERO, 4096 bytes for WHOLE, and a delta that
 * delta_check() accepted for DELTA. Valid during the call. */
struct page_record {
	uint64_t gfn;
	enum proto_page_kind kind;
	const uint8_t *bytes;
	uint16_t len;
};

/* A negative return ends decode_pages() with it: for the caller's own troubles. */
typedef int (*decode_page)(void *opaque, const struct page_record *r);

struct decode_options {
	uint64_t nr_gfns; /* gfns are below it */
	uint32_t codecs;  /* bits of the codecs that were negotiated; NONE always is */
	bool delta;	  /* PROTO_FEATURE_DELTA was negotiated */
};

int decode_open(struct decoder **ret, const struct decode_options *o);
void decode_close(struct decoder *d);

/* Returns the number of records, all handed to `page`, or a refusal, none handed out. */
int decode_pages(struct decoder *d, const void *payload, size_t len, decode_page page,
		 void *opaque);
/* Why the last decode_pages() refused. */
const struct refusal *decode_refusal(const struct decoder *d);

/* Writes one record to its page: the only way records become memory. */
int decode_apply(void *page, const struct page_record *r);

/* The state of one epoch as its STATE frames arrive: in order, no gap, one total. */
struct state_assembly {
	uint8_t *bytes; /* room of `room` bytes, the owner's */
	uint32_t room;
	uint32_t total;
	uint32_t have;
};
void state_assembly_init(struct state_assembly *a, void *bytes, uint32_t room);
/* Adds the tail of a STATE message. */
int state_assembly_add(struct state_assembly *a, const struct message *m, struct refusal *why);
static inline bool state_assembly_whole(const struct state_assembly *a)
{
	return a->total > 0 && a->have == a->total;
}

#endif
