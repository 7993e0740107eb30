/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/capture.h"

#include "base/bitmap.h"
#include "base/clock.h"
#include "disk-replica/mirror.h"
#include "ha/copier.h"
#include "netbuf/netbuf.h"

static size_t bitmap_pages(const struct capture *c)
{
	return (bitmap_bytes(c->platform->nr_gfns) + PLATFORM_PAGE_BYTES - 1) / PLATFORM_PAGE_BYTES;
}

int capture_open(struct capture *ret, struct platform *p, struct netbuf *nb)
{
	struct capture c = { .platform = p, .netbuf = nb };
	DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, dirty, &c.hbuf);
	int r;

	dirty = xc_hypercall_buffer_alloc_pages(p->xch, dirty, bitmap_pages(&c));
	c.dirty = dirty;
	c.round = calloc(bitmap_words(p->nr_gfns), sizeof(uint64_t));
	c.carry = calloc(bitmap_words(p->nr_gfns), sizeof(uint64_t));
	r = c.dirty && c.round && c.carry ? copier_open(copier_helpers(), &c.copier) : -ENOMEM;
	if (r) {
		capture_close(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void capture_close(struct capture *c)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(uint64_t, dirty, &c->hbuf);

	if (!c->platform)
		return;
	if (c->dirty)
		xc_hypercall_buffer_free_pages(c->platform->xch, dirty, bitmap_pages(c));
	free(c->round);
	free(c->carry);
	copier_close(c->copier);
	*c = (struct capture){ 0 };
}

static int control(struct capture *c, unsigned int op, unsigned int mode)
{
	long long r = xc_logdirty_control(c->platform->xch, c->platform->domid, op, &c->hbuf,
					  c->platform->nr_gfns, mode, NULL);

	if (r < 0)
		return -errno;
	if (op == XEN_DOMCTL_SHADOW_OP_CLEAN && c->platform->ops->note_dirty)
		c->platform->ops->note_dirty(c->platform, c->dirty);
	return 0;
}

static int enable(struct capture *c)
{
	return xc_shadow_control(c->platform->xch, c->platform->domid,
				 XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0) < 0
		       ? -errno
		       : 0;
}

/* Xen refuses what is on already: the last link's, or of an engine that died. */
int capture_begin(struct capture *c)
{
	int r = enable(c);

	if (r == -EINVAL) {
		capture_end(c);
		r = enable(c);
	}
	if (r)
		return r;
	/* All pages are owed to the peer, whatever was logged or sent before. */
	memset(c->carry, 0, bitmap_bytes(c->platform->nr_gfns));
	bitmap_set_range(c->carry, 0, c->platform->nr_gfns);
	c->carrying = true;
	return 0;
}

int capture_end(struct capture *c)
{
	return xc_shadow_control(c->platform->xch, c->platform->domid, XEN_DOMCTL_SHADOW_OP_OFF,
				 NULL, 0) < 0
		       ? -errno
		       : 0;
}

static void carry_over(struct capture *c)
{
	bitmap_or(c->carry, c->dirty, c->platform->nr_gfns);
	c->carrying = true;
}

int capture_round(struct capture *c, uint64_t *ret_pages)
{
	uint64_t bits = c->platform->nr_gfns;
	int r = control(c, XEN_DOMCTL_SHADOW_OP_CLEAN, 0);

	if (r)
		return r;
	if (c->carrying) {
		bitmap_or(c->dirty, c->carry, bits);
		memset(c->carry, 0, bitmap_bytes(bits));
		c->carrying = false;
	}
	memcpy(c->round, c->dirty, bitmap_bytes(bits));
	*ret_pages = bitmap_count(c->round, bits);
	return 0;
}

int capture_peek(struct capture *c, uint64_t *ret_pages)
{
	int r = control(c, XEN_DOMCTL_SHADOW_OP_PEEK, 0);

	if (r)
		return r;
	if (c->carrying)
		bitmap_or(c->dirty, c->carry, c->platform->nr_gfns);
	*ret_pages = bitmap_count(c->dirty, c->platform->nr_gfns);
	return 0;
}

static void copy_dirty(struct capture *c, struct stage *stage, struct stage_slot *slot)
{
	const struct platform *p = c->platform;
	uint64_t n = 0;

	bitmap_for_each (gfn, c->dirty, p->nr_gfns) {
		const void *page = p->ops->page(c->platform, gfn);

		if (!page)
			continue;
		slot->gfn[n] = gfn;
		stage->from[n] = page;
		n++;
	}
	copier_copy(c->copier, stage->from, slot->pages, n);
	slot->nr_pages = n;
}

static uint64_t hash_memory(struct capture *c, const struct stage_slot *slot)
{
	struct platform_copied copied = { .gfn = slot->gfn,
					  .pages = slot->pages,
					  .nr_pages = slot->nr_pages };

	return platform_hash(c->platform, &copied);
}

/* The domain stands still. */
static int capture_stopped(struct capture *c, struct stage *stage, struct stage_slot *slot,
			   struct capture_steps *steps)
{
	struct platform *p = c->platform;
	uint64_t t0 = clock_now_ns(), t1, t2;
	int r = control(c, XEN_DOMCTL_SHADOW_OP_CLEAN, XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL);

	if (r)
		return r;
	if (c->carrying)
		bitmap_or(c->dirty, c->carry, p->nr_gfns);
	if (c->oracle && p->ops->mark_shared && (r = p->ops->mark_shared(p, c->dirty)))
		goto err_carry;
	steps->nr_dirty = bitmap_count(c->dirty, p->nr_gfns);
	t1 = clock_now_ns();
	steps->dirty = t1 - t0;
	if (steps->nr_dirty > stage->slot_pages) {
		carry_over(c);
		return -E2BIG;
	}
	r = netbuf_mark(c->netbuf, slot->epoch);
	if (r)
		goto err_carry;
	if (c->mirror)
		mirror_boundary(c->mirror, &slot->disk_limit);
	r = p->ops->state(p, slot->state, stage->state_room);
	if (r < 0)
		goto err_carry;
	slot->state_len = (uint32_t)r;
	t2 = clock_now_ns();
	steps->state = t2 - t1;
	copy_dirty(c, stage, slot);
	slot->hashed = c->oracle;
	if (c->oracle)
		slot->memory_hash = hash_memory(c, slot);
	steps->copy = clock_now_ns() - t2;
	if (c->carrying) {
		memset(c->carry, 0, bitmap_bytes(p->nr_gfns));
		c->carrying = false;
	}
	return 0;
err_carry:
	carry_over(c);
	return r;
}

int capture_epoch(struct capture *c, uint64_t epoch, struct stage *stage, struct stage_slot *slot,
		  struct capture_steps *ret)
{
	struct platform *p = c->platform;
	struct capture_steps steps = { 0 };
	uint64_t start = p->asked_ns ? p->asked_ns : clock_now_ns(), before;
	int r = p->stopping ? 0 : platform_stop(p), resumed = 0;

	if (r)
		return r;
	slot->epoch = epoch;
	slot->captured_ns = before = clock_now_ns();
	steps.stop = before - start;
	r = capture_stopped(c, stage, slot, &steps);
	before = clock_now_ns();
	if (r || !c->stay)
		resumed = platform_resume(p);
	steps.resume = clock_now_ns() - before;
	steps.pause = clock_now_ns() - start;
	if (r || !c->stay)
		platform_resumed(p);
	*ret = steps;
	return r ? r : resumed;
}
