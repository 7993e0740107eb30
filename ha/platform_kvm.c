/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollux's own hypervisor, by its libxenctrl API. A plain pause is a consistent stop:
 * pollux-vmm parks the processors and closes the gate on its devices. All memory is
 * mapped once, in chunks, since it neither moves nor balloons. The standby is a paused
 * domain whose memory is written directly: until it runs, nobody else looks at it.
 */
#include "ha/platform.h"

#include <sys/mman.h>
#include <xenforeignmemory.h>

#define CHUNK_SHIFT 14u /* 64 MiB of pages */
#define CHUNK_PAGES (UINT64_C(1) << CHUNK_SHIFT)

struct kvm_domain {
	xenforeignmemory_handle *foreign;
	uint64_t nr_chunks;
	struct chunk {
		uint8_t *base; /* NULL: no memory in this chunk */
		uint64_t pages;
		uint64_t *present; /* a bit a page; NULL: all */
	} * chunk;
	uint8_t *state; /* set aside by standby_state() */
	uint32_t state_len, state_room;
};

/* Maps one chunk. Where part of it is no memory, `present` says which. */
static int map_chunk(struct platform *p, uint64_t index, xen_pfn_t *gfns, int *errors)
{
	struct kvm_domain *d = p->priv;
	struct chunk *c = &d->chunk[index];
	uint64_t first = index << CHUNK_SHIFT, found = 0;

	c->pages = MIN(CHUNK_PAGES, p->nr_gfns - first);
	for (uint64_t i = 0; i < c->pages; i++)
		gfns[i] = first + i;
	c->base = xenforeignmemory_map(d->foreign, p->domid, PROT_READ | PROT_WRITE,
				       (size_t)c->pages, gfns, errors);
	if (!c->base)
		return errno == EINVAL || errno == ENOENT || errno == EFAULT ? 0 : -errno;
	for (uint64_t i = 0; i < c->pages; i++)
		found += !errors[i];
	p->memory_bytes += found * PLATFORM_PAGE_BYTES;
	if (found == c->pages)
		return 0;
	c->present = calloc(CHUNK_PAGES / 64, sizeof(uint64_t));
	if (!c->present)
		return -ENOMEM;
	for (uint64_t i = 0; i < c->pages; i++)
		if (!errors[i])
			c->present[i / 64] |= UINT64_C(1) << (i % 64);
	return 0;
}

static int map_all(struct platform *p)
{
	struct kvm_domain *d = p->priv;
	cleanup_free xen_pfn_t *gfns = calloc(CHUNK_PAGES, sizeof(*gfns));
	cleanup_free int *errors = calloc(CHUNK_PAGES, sizeof(*errors));
	int r;

	if (!gfns || !errors)
		return -ENOMEM;
	for (uint64_t i = 0; i < d->nr_chunks; i++) {
		r = map_chunk(p, i, gfns, errors);
		if (r)
			return r;
	}
	return p->memory_bytes ? 0 : -ENXIO;
}

static void kvm_close(struct platform *p)
{
	struct kvm_domain *d = p->priv;

	for (uint64_t i = 0; i < d->nr_chunks; i++) {
		if (d->chunk[i].base)
			xenforeignmemory_unmap(d->foreign, d->chunk[i].base,
					       (size_t)d->chunk[i].pages);
		free(d->chunk[i].present);
	}
	if (d->foreign)
		xenforeignmemory_close(d->foreign);
	free(d->chunk);
	free(d->state);
	free(d);
	p->priv = NULL;
}

static int kvm_open(struct platform *p, struct reason *why)
{
	struct kvm_domain *d = calloc(1, sizeof(*d));
	int r = -ENOMEM;

	if (!d)
		return -ENOMEM;
	p->priv = d;
	d->nr_chunks = (p->nr_gfns + CHUNK_PAGES - 1) >> CHUNK_SHIFT;
	d->chunk = calloc(d->nr_chunks, sizeof(*d->chunk));
	d->foreign = xenforeignmemory_open(NULL, 0);
	if (d->chunk && d->foreign)
		r = map_all(p);
	if (r) {
		reason_set(why, -r, "domain %u: its memory of %llu pages cannot be mapped: %s",
			   p->domid, (unsigned long long)p->nr_gfns, strerror(-r));
		kvm_close(p);
	}
	return r;
}

static int kvm_stop(struct platform *p)
{
	return xc_domain_pause(p->xch, p->domid) ? -errno : 0;
}

static int kvm_resume(struct platform *p)
{
	return xc_domain_unpause(p->xch, p->domid) ? -errno : 0;
}

static void *page_at(struct platform *p, uint64_t gfn)
{
	struct kvm_domain *d = p->priv;
	struct chunk *c = &d->chunk[gfn >> CHUNK_SHIFT];
	uint64_t i = gfn & (CHUNK_PAGES - 1);

	if (gfn >= p->nr_gfns || !c->base)
		return NULL;
	if (c->present && !(c->present[i / 64] >> (i % 64) & 1))
		return NULL;
	return c->base + i * PLATFORM_PAGE_BYTES;
}

static const void *kvm_page(struct platform *p, uint64_t gfn)
{
	return page_at(p, gfn);
}

static int kvm_standby_page(struct platform *p, const struct page_record *r)
{
	void *page = page_at(p, r->gfn);

	return page ? decode_apply(page, r) : -EFAULT;
}

static int kvm_standby_state(struct platform *p, const void *state, uint32_t len)
{
	struct kvm_domain *d = p->priv;

	if (len > d->state_room) {
		uint8_t *room = realloc(d->state, len);

		if (!room)
			return -ENOMEM;
		d->state = room;
		d->state_room = len;
	}
	memcpy(d->state, state, len);
	d->state_len = len;
	return 0;
}

static int kvm_standby_load(struct platform *p, struct reason *why)
{
	struct kvm_domain *d = p->priv;

	if (!d->state_len)
		return reason_set(why, ENODATA, "domain %u: no epoch is committed", p->domid);
	if (xc_domain_hvm_setcontext(p->xch, p->domid, d->state, d->state_len))
		return reason_set(why, errno ? errno : EIO, "domain %u refuses its state: %s",
				  p->domid, strerror(errno));
	return 0;
}

static int kvm_standby_run(struct platform *p, struct reason *why)
{
	if (xc_domain_unpause(p->xch, p->domid))
		return reason_set(why, errno ? errno : EIO, "domain %u does not run: %s", p->domid,
				  strerror(errno));
	return 0;
}

const struct platform_ops platform_kvm_ops = {
	.name = "kvm",
	.open = kvm_open,
	.close = kvm_close,
	.stop = kvm_stop,
	.resume = kvm_resume,
	.page = kvm_page,
	.standby_page = kvm_standby_page,
	.standby_state = kvm_standby_state,
	.standby_load = kvm_standby_load,
	.standby_run = kvm_standby_run,
};
