/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sparse delta of a page against the copy sent before, and the cache of those
 * copies. After Remus (Cully et al. 2008, 5.4) and XBZRLE (Svard et al., VEE 2011).
 *
 * A delta is a list of runs {u16 skip, u16 len, len bytes}: step over `skip` bytes that
 * did not change, then store `len` new ones. Bytes are stored, not xored, so that
 * applying a delta twice is harmless. A run is never empty, runs never leave the page,
 * and a delta has at least one.
 */
#ifndef POLLUX_HA_DELTA_H
#define POLLUX_HA_DELTA_H

#include "ha/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room that delta_encode() needs to write to. */
#define DELTA_ROOM PROTO_DELTA_MAX

/* Bytes written to `dst`: 0 when the pages are equal, -ENOSPC when the delta would be
 * larger than PROTO_DELTA_MAX, so that the whole page is the better record. */
int delta_encode(const void *before, const void *after, uint8_t dst[DELTA_ROOM]);
/* 0 when delta_apply() would succeed; touches nothing. */
int delta_check(const void *delta, size_t len);
/* -EBADMSG, the page untouched, unless delta_check() holds. */
int delta_apply(void *page, const void *delta, size_t len);

bool page_is_zero(const void *page);

/*
 * Copies of the pages sent last, by gfn. Preallocated within a bound in bytes, sets of
 * PAGE_CACHE_WAYS entries with a clock hand each: every operation touches one set, so
 * no choice of gfns by a hostile guest makes it slow.
 */
#define PAGE_CACHE_WAYS 8u

struct page_cache;

/* `bytes` bounds copies and index together; below one set's worth there is no cache and
 * *ret is NULL, which every function here takes. -ENOMEM. */
int page_cache_open(struct page_cache **ret, uint64_t bytes);
void page_cache_close(struct page_cache *c);
/* The copy for `gfn`, to compare with and then overwrite, or NULL. */
void *page_cache_find(struct page_cache *c, uint64_t gfn);
/* A place for a copy of `gfn`, which is not in the cache; another one may have to go. NULL
 * without a cache. */
void *page_cache_add(struct page_cache *c, uint64_t gfn);
void page_cache_drop(struct page_cache *c, uint64_t gfn);
void page_cache_reset(struct page_cache *c);
uint64_t page_cache_capacity(const struct page_cache *c); /* in pages */

#endif
