/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hashes in PAGE_HASHES and DISK_HASHES: XXH3-128, seeded with the link's session id, the low
 * half before the high one. They find chance differences, not those of an attacker, who would
 * have to know the seed. Threads: pure.
 */
#ifndef POLLUX_HA_HASHES_H
#define POLLUX_HA_HASHES_H

#include <xxhash.h>

#include "base/cursor.h"

static inline void hashes_put(struct cursor *c, uint64_t seed, const void *bytes, size_t len)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(bytes, len, seed);

	cursor_put_u64(c, h.low64);
	cursor_put_u64(c, h.high64);
}

/* Whether the next one is that of these bytes. */
static inline bool hashes_same(struct cursor *c, uint64_t seed, const void *bytes, size_t len)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(bytes, len, seed);
	uint64_t low = cursor_get_u64(c), high = cursor_get_u64(c);

	return cursor_ok(c) && low == h.low64 && high == h.high64;
}

#endif
