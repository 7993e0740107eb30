/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte ring between one producer and one consumer, which may be two processes:
 * all of it lies in one shared mapping. Positions only grow; `data` starts at the
 * second page and its size is a power of two.
 *
 * The header is written by both sides, so neither trusts it: each keeps its own
 * position privately, reads the other's once per call, and refuses one that is
 * further than the size away (-EPROTO).
 *
 * Records are {u32 length, bytes} and do not wrap logically: ring_put() writes the
 * pieces, ring_get() reads them, both split at the end of the buffer. The producer
 * publishes with release, the consumer reads with acquire.
 */
#ifndef POLLUX_RING_H
#define POLLUX_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring_shared {
	uint64_t head; /* bytes ever produced; producer writes */
	uint8_t pad[56];
	uint64_t tail; /* bytes ever consumed; consumer writes */
};

struct ring {
	struct ring_shared *shared;
	uint8_t *data;
	uint64_t size;
	uint64_t pos; /* own position: the producer's head or the consumer's tail */
};

#define RING_HEADER_BYTES 4096u

/* Bytes to map for a ring of `size` data bytes (a power of two). */
static inline size_t ring_map_bytes(uint64_t size)
{
	return RING_HEADER_BYTES + (size_t)size;
}

/* Lays a view over a mapping of ring_map_bytes(size); a fresh one is all zero. */
void ring_attach_producer(struct ring *ret, void *mapping, uint64_t size);
void ring_attach_consumer(struct ring *ret, void *mapping, uint64_t size);

struct ring_piece {
	const void *data;
	size_t len;
};

/* Appends one record of `n` pieces. -ENOBUFS: no room now; -EMSGSIZE: never. */
int ring_put(struct ring *r, const struct ring_piece *pieces, size_t n);
/* Where the producer stands now: everything before it was put before this call. */
uint64_t ring_head(const struct ring *r);
/* Takes the next record that ends at or before `limit` (a value of ring_head()).
 * -EAGAIN: none; -EMSGSIZE: larger than `max`; -EPROTO: the header lies. */
int ring_get(struct ring *r, uint64_t limit, void *ret, size_t max, size_t *ret_len);
/* Bytes waiting, from either side. */
uint64_t ring_used(const struct ring *r);

#endif
