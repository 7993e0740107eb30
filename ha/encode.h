/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages to PAGES payloads: zero, delta against the last copy sent, or whole; then
 * compressed when that pays. Layout: ha/protocol.h.
 *
 * A delta refers to the record sent before for that gfn, in whatever epoch: what is
 * emitted must be sent, all of it, in that order, on one connection. When it was not
 * (an emit that failed, a new connection), encode_reset() forgets what was sent.
 *
 * A page that equals the copy sent last is not sent at all: the backup has it.
 *
 * One thread per encoder. Several may work side by side if each gfn always goes to the
 * same one. Nothing is allocated after encode_open().
 */
#ifndef POLLUX_HA_ENCODE_H
#define POLLUX_HA_ENCODE_H

#include "ha/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct encoder;

/* Takes one whole PAGES payload, valid only during the call, of `records` records. A
 * negative return ends the encoding: every call returns it until encode_reset(). */
typedef int (*encode_emit)(void *opaque, const void *payload, uint32_t len, unsigned records);

struct encode_options {
	enum codec_id codec;
	bool delta;	      /* the peer has PROTO_FEATURE_DELTA */
	uint64_t cache_bytes; /* bound of the cache of copies; 0: none */
	encode_emit emit;
	void *opaque;
};

/* Since encode_open(); encode_reset() keeps them. */
struct encode_counters {
	uint64_t pages_zero;
	uint64_t pages_whole;
	uint64_t pages_delta;
	uint64_t pages_same; /* not sent: nothing had changed */
	uint64_t bytes_raw;  /* 4096 a page given */
	uint64_t bytes_wire; /* payload bytes emitted */
	uint64_t batches;
	uint64_t batches_plain; /* sent uncompressed because compressing did not pay */
};

int encode_open(struct encoder **ret, const struct encode_options *o);
void encode_close(struct encoder *e);
/* `page`: 4096 bytes. Should they change during the call, then what is sent is a mixture,
 * as with any copy of running memory, but what is remembered is what was sent. */
int encode_page(struct encoder *e, uint64_t gfn, const void *page);
/* Emits what waits; call it before EPOCH_END. */
int encode_flush(struct encoder *e);
/* The peer does not have the copy of this page that it was sent: next time it goes whole. */
void encode_forget(struct encoder *e, uint64_t gfn);
/* Forgets what was sent, and what waits. */
void encode_reset(struct encoder *e);
const struct encode_counters *encode_counters(const struct encoder *e);

#endif
