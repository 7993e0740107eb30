/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: sparse page deltas and the cache of copies they refer to. Invariant: a delta
 * that delta_check() accepts writes only inside its page. Threads: pure; a cache
 * belongs to one encoder. Source: XBZRLE (Svard et al., VEE 2011), stored, not xored.
 */
#include "ha/delta.h"

#include "base/cursor.h"

#include <endian.h>
#include <sys/mman.h>

#define PAGE	 PROTO_PAGE_BYTES
#define RUN_HEAD 4u
/* Eight bytes at a time; memcpy keeps it legal for any alignment and compiles to a load. */
static uint64_t word_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Four words a step, which the compiler turns into vector compares. */
static bool block_equal(const uint8_t *a, const uint8_t *b)
{
	uint64_t diff = 0;

	for (unsigned i = 0; i < 64; i += 8)
		diff |= word_at(a + i) ^ word_at(b + i);
	return !diff;
}

static uint64_t word_diff(const uint8_t *a, const uint8_t *b, unsigned at)
{
	return le64toh(word_at(a + at) ^ word_at(b + at));
}

/* The first byte at or after `at` that differs, or the page's size. */
static unsigned next_change(const uint8_t *a, const uint8_t *b, unsigned at)
{
	if (at % 8) {
		uint64_t diff = word_diff(a, b, at & ~7u) >> at % 8 * 8;

		if (diff)
			return at + (unsigned)__builtin_ctzll(diff) / 8;
		at = (at | 7) + 1;
	}
	while (at < PAGE) {
		uint64_t diff;

		if (at % 64 == 0 && block_equal(a + at, b + at)) {
			at += 64;
			continue;
		}
		diff = word_diff(a, b, at);
		if (diff)
			return at + (unsigned)__builtin_ctzll(diff) / 8;
		at += 8;
	}
	return PAGE;
}

/*
 * The end of the run that starts at the changed byte `at`: before the first stretch of
 * eight equal bytes. A shorter one is carried along, which costs less than the head and
 * the time of another run. Word by word: `equal` counts the equal bytes just before `at`.
 */
static unsigned run_end(const uint8_t *a, const uint8_t *b, unsigned at)
{
	unsigned equal = 0;

	for (at &= ~7u; at < PAGE; at += 8) {
		uint64_t diff = word_diff(a, b, at);

		if (!diff || (equal && equal + (unsigned)__builtin_ctzll(diff) / 8 >= 8))
			return at - equal;
		equal = (unsigned)__builtin_clzll(diff) / 8;
	}
	return PAGE - equal;
}

int delta_encode(const void *before, const void *after, uint8_t dst[DELTA_ROOM])
{
	struct cursor c = cursor_over(dst, DELTA_ROOM);
	const uint8_t *a = before, *b = after;
	unsigned done = 0, at;

	while ((at = next_change(a, b, done)) < PAGE) {
		unsigned end = run_end(a, b, at);

		cursor_put_u16(&c, (uint16_t)(at - done));
		cursor_put_u16(&c, (uint16_t)(end - at));
		cursor_put_bytes(&c, b + at, end - at);
		if (!cursor_ok(&c))
			return -ENOSPC;
		done = end;
	}
	return (int)(c.pos - dst);
}

/* One walk for both: with a page it writes, without one it only looks. */
static int walk(uint8_t *page, const void *delta, size_t len)
{
	struct cursor c = cursor_over(delta, len);
	unsigned at = 0;

	if (!len || len > PROTO_DELTA_MAX)
		return -EBADMSG;
	while (cursor_left(&c)) {
		unsigned skip = cursor_get_u16(&c);
		unsigned run = cursor_get_u16(&c);
		const void *bytes = cursor_get_view(&c, run);

		if (!bytes || !run || skip + run > PAGE - at)
			return -EBADMSG;
		at += skip;
		if (page)
			memcpy(page + at, bytes, run);
		at += run;
	}
	return cursor_done(&c) ? 0 : -EBADMSG;
}

int delta_check(const void *delta, size_t len)
{
	return walk(NULL, delta, len);
}

int delta_apply(void *page, const void *delta, size_t len)
{
	int r = walk(NULL, delta, len);

	return r < 0 ? r : walk(page, delta, len);
}

bool page_is_zero(const void *page)
{
	const uint8_t *p = page;

	for (unsigned i = 0; i < PAGE; i += 128) {
		uint64_t any = 0;

		for (unsigned j = 0; j < 128; j += 8)
			any |= word_at(p + i + j);
		if (any)
			return false;
	}
	return true;
}

/* --- the cache ---------------------------------------------------------------------------- */

#define NO_GFN UINT64_MAX

struct cache_set {
	uint64_t gfn[PAGE_CACHE_WAYS];
	uint8_t used; /* one bit a way: found since the hand passed */
	uint8_t hand;
};

struct page_cache {
	struct cache_set *sets;
	uint8_t *pages; /* ways of set 0, ways of set 1, ... */
	uint64_t nr_sets;
};

static size_t pages_bytes(uint64_t nr_sets)
{
	return nr_sets * PAGE_CACHE_WAYS * PAGE;
}

int page_cache_open(struct page_cache **ret, uint64_t bytes)
{
	uint64_t per_set = pages_bytes(1) + sizeof(struct cache_set);
	uint64_t fixed = sizeof(struct page_cache);
	uint64_t nr_sets = bytes > fixed ? (bytes - fixed) / per_set : 0;
	struct page_cache *c;

	if (!nr_sets) {
		*ret = NULL;
		return 0;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->nr_sets = nr_sets;
	c->sets = calloc(nr_sets, sizeof(*c->sets));
	if (!c->sets)
		goto err_free;
	c->pages = mmap(NULL, pages_bytes(nr_sets), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->pages == MAP_FAILED)
		goto err_sets;
	page_cache_reset(c);
	*ret = c;
	return 0;

err_sets:
	free(c->sets);
err_free:
	free(c);
	return -ENOMEM;
}

void page_cache_close(struct page_cache *c)
{
	if (!c)
		return;
	munmap(c->pages, pages_bytes(c->nr_sets));
	free(c->sets);
	free(c);
}

static uint8_t *way_page(struct page_cache *c, uint64_t set, unsigned way)
{
	return c->pages + (set * PAGE_CACHE_WAYS + way) * PAGE;
}

/* The way that holds `gfn`, or -1. */
static int way_of(const struct cache_set *s, uint64_t gfn)
{
	for (unsigned w = 0; w < PAGE_CACHE_WAYS; w++)
		if (s->gfn[w] == gfn)
			return (int)w;
	return -1;
}

void *page_cache_find(struct page_cache *c, uint64_t gfn)
{
	struct cache_set *s;
	int way;

	if (!c)
		return NULL;
	s = &c->sets[gfn % c->nr_sets];
	way = way_of(s, gfn);
	if (way < 0)
		return NULL;
	s->used |= (uint8_t)(1u << way);
	return way_page(c, gfn % c->nr_sets, (unsigned)way);
}

/* CLOCK: the hand passes over what was used since, and clears the mark. */
static unsigned choose_victim(struct cache_set *s)
{
	unsigned way = s->hand;

	while (s->gfn[way] != NO_GFN && s->used >> way & 1) {
		s->used &= (uint8_t) ~(1u << way);
		way = (way + 1) % PAGE_CACHE_WAYS;
	}
	s->hand = (uint8_t)((way + 1) % PAGE_CACHE_WAYS);
	return way;
}

void *page_cache_add(struct page_cache *c, uint64_t gfn)
{
	struct cache_set *s;
	unsigned way;
	int empty;

	if (!c)
		return NULL;
	s = &c->sets[gfn % c->nr_sets];
	assert(gfn != NO_GFN && way_of(s, gfn) < 0);
	empty = way_of(s, NO_GFN);
	way = empty >= 0 ? (unsigned)empty : choose_victim(s);
	s->gfn[way] = gfn;
	s->used &= (uint8_t) ~(1u << way);
	return way_page(c, gfn % c->nr_sets, way);
}

void page_cache_drop(struct page_cache *c, uint64_t gfn)
{
	struct cache_set *s;
	int way;

	if (!c)
		return;
	s = &c->sets[gfn % c->nr_sets];
	way = way_of(s, gfn);
	if (way >= 0)
		s->gfn[way] = NO_GFN;
}

void page_cache_reset(struct page_cache *c)
{
	if (!c)
		return;
	for (uint64_t i = 0; i < c->nr_sets; i++) {
		c->sets[i] = (struct cache_set){ 0 };
		for (unsigned w = 0; w < PAGE_CACHE_WAYS; w++)
			c->sets[i].gfn[w] = NO_GFN;
	}
}

uint64_t page_cache_capacity(const struct page_cache *c)
{
	return c ? c->nr_sets * PAGE_CACHE_WAYS : 0;
}
