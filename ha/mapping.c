/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/mapping.h"

#include <string.h>
#include <sys/mman.h>
#include <xenforeignmemory.h>

#include "base/bitmap.h"
#include "base/err.h"

#define ASK_AT_ONCE 64u
#define CHUNK_SHIFT 14u /* 64 MiB of pages */
#define CHUNK_PAGES (UINT64_C(1) << CHUNK_SHIFT)
#define PAGE_BYTES  4096u

struct mapping {
	struct mapping_config config;
	xenforeignmemory_handle *foreign;
	uint64_t nr_pages;
	uint64_t nr_chunks;
	struct chunk {
		uint8_t *base; /* NULL: no memory in this chunk */
		uint64_t pages;
		uint64_t *present; /* a bit a page; NULL: all */
	} chunk[];
};

/* Where to look for the pages of a chunk, and what came of it. */
struct search {
	xen_pfn_t gfns[CHUNK_PAGES];
	int errors[CHUNK_PAGES];
};

static int name_pages(struct mapping *m, uint64_t first, struct search *s, uint64_t *ret_named)
{
	uint64_t pages = MIN(CHUNK_PAGES, m->config.nr_gfns - first), named = 0;
	int r;

	for (uint64_t i = 0; i < pages; i++)
		s->gfns[i] = first + i;
	r = m->config.judge ? m->config.judge(m->config.opaque, s->gfns, (unsigned int)pages) : 0;
	if (r)
		return r;
	for (uint64_t i = 0; i < pages; i++)
		named += s->gfns[i] != MAPPING_NO_GFN;
	*ret_named = named;
	return 0;
}

/* Of a page that is there by its judge, its contents must be. */
static int find_present(struct mapping *m, struct chunk *c, const struct search *s, uint64_t named)
{
	uint64_t found = 0;

	for (uint64_t i = 0; i < c->pages; i++)
		found += !s->errors[i] && s->gfns[i] != MAPPING_NO_GFN;
	m->nr_pages += found;
	if (m->config.judge && found != named)
		return -EIO;
	if (found == c->pages)
		return 0;
	c->present = calloc(CHUNK_PAGES / 64, sizeof(uint64_t));
	if (!c->present)
		return -ENOMEM;
	for (uint64_t i = 0; i < c->pages; i++)
		if (!s->errors[i] && s->gfns[i] != MAPPING_NO_GFN)
			c->present[i / 64] |= UINT64_C(1) << (i % 64);
	return 0;
}

static int map_chunk(struct mapping *m, uint64_t index, struct search *s)
{
	struct chunk *c = &m->chunk[index];
	uint64_t first = index << CHUNK_SHIFT, named = 0;
	int r = name_pages(m, first, s, &named);

	if (r || !named)
		return r;
	c->pages = MIN(CHUNK_PAGES, m->config.nr_gfns - first);
	c->base = xenforeignmemory_map(m->foreign, m->config.domid, PROT_READ | PROT_WRITE,
				       (size_t)c->pages, s->gfns, s->errors);
	if (!c->base) {
		bool hole = errno == EINVAL || errno == ENOENT || errno == EFAULT;

		return hole && !m->config.judge ? 0 : -errno;
	}
	return find_present(m, c, s, named);
}

int mapping_open(const struct mapping_config *config, struct mapping **ret)
{
	uint64_t nr_chunks = (config->nr_gfns + CHUNK_PAGES - 1) >> CHUNK_SHIFT;
	struct mapping *m = calloc(1, sizeof(*m) + nr_chunks * sizeof(m->chunk[0]));
	cleanup_free struct search *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!m || !s) {
		free(m);
		return -ENOMEM;
	}
	m->config = *config;
	m->nr_chunks = nr_chunks;
	m->foreign = xenforeignmemory_open(NULL, 0);
	if (!m->foreign)
		r = errno ? -errno : -EIO;
	for (uint64_t i = 0; !r && i < nr_chunks; i++)
		r = map_chunk(m, i, s);
	if (!r && !m->nr_pages)
		r = -ENXIO;
	if (r)
		mapping_close(m);
	else
		*ret = m;
	return r;
}

void mapping_close(struct mapping *m)
{
	if (!m)
		return;
	for (uint64_t i = 0; i < m->nr_chunks; i++) {
		struct chunk *c = &m->chunk[i];

		if (c->base)
			xenforeignmemory_unmap(m->foreign, c->base, (size_t)c->pages);
		free(c->present);
	}
	if (m->foreign)
		xenforeignmemory_close(m->foreign);
	free(m);
}

void *mapping_page(const struct mapping *m, uint64_t gfn)
{
	const struct chunk *c;
	uint64_t i = gfn & (CHUNK_PAGES - 1);

	if (gfn >= m->config.nr_gfns)
		return NULL;
	c = &m->chunk[gfn >> CHUNK_SHIFT];
	if (!c->base)
		return NULL;
	if (c->present && !(c->present[i / 64] >> (i % 64) & 1))
		return NULL;
	return c->base + i * PAGE_BYTES;
}

uint64_t mapping_pages(const struct mapping *m)
{
	return m->nr_pages;
}

static int judge_new(const struct mapping *m, const xen_pfn_t *gfns, unsigned int n,
		     uint64_t *ret_gfn)
{
	xen_pfn_t named[ASK_AT_ONCE];
	int r;

	memcpy(named, gfns, n * sizeof(named[0]));
	r = m->config.judge(m->config.opaque, named, n);
	for (unsigned int i = 0; !r && i < n; i++)
		if (named[i] != MAPPING_NO_GFN) {
			*ret_gfn = named[i];
			r = 1;
		}
	return r;
}

int mapping_find_new(const struct mapping *m, const uint64_t *gfns, uint64_t *ret_gfn)
{
	xen_pfn_t unknown[ASK_AT_ONCE];
	unsigned int n = 0;
	int r = 0;

	bitmap_for_each (gfn, gfns, m->config.nr_gfns) {
		if (mapping_page(m, gfn))
			continue;
		unknown[n++] = gfn;
		if (n == ASK_AT_ONCE) {
			r = judge_new(m, unknown, n, ret_gfn);
			n = 0;
		}
		if (r)
			return r;
	}
	return n ? judge_new(m, unknown, n, ret_gfn) : 0;
}
