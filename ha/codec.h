/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compression behind one table: none, lz4, zstd and zlib, the two latter at level 1.
 * Contexts are allocated and warmed by codec_open(): compressing allocates nothing.
 *
 * Decompression trusts nothing (P4): the exact raw size is given, the destination is
 * never overrun, and anything but exactly that size from exactly that input fails.
 */
#ifndef POLLUX_HA_CODEC_H
#define POLLUX_HA_CODEC_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* On the wire: never renumber. */
enum codec_id {
	CODEC_NONE = 0,
	CODEC_LZ4 = 1,
	CODEC_ZSTD = 2,
	CODEC_ZLIB = 3,
};
#define CODEC_COUNT 4u
#define CODEC_ALL   ((1u << CODEC_COUNT) - 1)

struct codec; /* one thread at a time */

/* -EINVAL: no such codec; -ENOMEM. codec_close() takes NULL. */
int codec_open(struct codec **ret, unsigned id);
void codec_close(struct codec *c);

/* `ret_len` holds the room at `dst` on entry, the length on return.
 * -ENOSPC: it does not fit, so it does not pay. */
int codec_compress(struct codec *c, const void *src, size_t len, void *dst, size_t *ret_len);
/* -EBADMSG: `src` is not exactly `raw_len` bytes compressed. */
int codec_decompress(struct codec *c, const void *src, size_t len, void *dst, size_t raw_len);

/* "lz4"; NULL for an unknown number. */
const char *codec_name(unsigned id);
/* The number of a name, or -EINVAL. */
int codec_by_name(const char *name);
/* The cheapest codec both sides have, the wanted one if it is among them. */
unsigned codec_choose(unsigned wanted, uint32_t ours, uint32_t theirs);

#endif
