/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/platform.h"

#include "base/clock.h"
#include "ha/mapping.h"

#define XXH_INLINE_ALL
/* The same hash by 64-bit words: emulated processors are many times slower with vectors, and
 * the others are quick enough for a test. */
#define XXH_VECTOR 0 /* XXH_SCALAR */
#include <xxhash.h>

int platform_open(struct platform *ret, const struct platform_config *config, struct reason *why)
{
	struct platform p = { .ops = &platform_ops, .domid = config->domid, .stop_fd = -1 };
	xen_pfn_t max_gfn;
	int r;

	p.xch = xc_interface_open(NULL, NULL, 0);
	if (!p.xch)
		return reason_set(why, errno ? errno : EIO, "the hypervisor cannot be reached: %s",
				  strerror(errno));
	if (xc_domain_nr_gpfns(p.xch, p.domid, &max_gfn) < 0) {
		r = reason_set(why, errno ? errno : EIO, "domain %u: %s", p.domid, strerror(errno));
		goto err_close;
	}
	p.nr_gfns = max_gfn;
	*ret = p;
	r = p.ops->open(ret, config, why);
	if (!r)
		return 0;
err_close:
	xc_interface_close(p.xch);
	ret->xch = NULL;
	return r;
}

void platform_close(struct platform *p)
{
	if (!p->xch)
		return;
	p->ops->close(p);
	platform_unmap(p);
	free(p->state);
	p->state = NULL;
	xc_interface_close(p->xch);
	p->xch = NULL;
}

void platform_unmap(struct platform *p)
{
	mapping_close(p->memory);
	p->memory = NULL;
}

const void *platform_mapped_page(struct platform *p, uint64_t gfn)
{
	return p->memory ? mapping_page(p->memory, gfn) : NULL;
}

int platform_pause(struct platform *p)
{
	if (!p->stopping && xc_domain_pause(p->xch, p->domid))
		return -errno;
	p->pauses++;
	return 0;
}

void platform_unpause(struct platform *p)
{
	if (!p->pauses)
		return;
	p->pauses--;
	if (!p->stopping)
		xc_domain_unpause(p->xch, p->domid);
}

static void lift_pauses(struct platform *p)
{
	for (unsigned int i = 0; i < p->pauses; i++)
		xc_domain_unpause(p->xch, p->domid);
	p->stopping = true;
	p->asked_ns = clock_now_ns();
}

static void lower_pauses(struct platform *p)
{
	for (unsigned int i = 0; p->stopping && i < p->pauses; i++)
		xc_domain_pause(p->xch, p->domid);
	p->stopping = false;
	p->asked_ns = 0;
}

int platform_ask_stop(struct platform *p)
{
	int r;

	if (!p->ops->ask_stop || p->stopping)
		return 0;
	lift_pauses(p);
	r = p->ops->ask_stop(p);
	if (r)
		lower_pauses(p);
	return r;
}

int platform_stop(struct platform *p)
{
	int r = p->ops->stop(p);

	if (r == -ETIMEDOUT)
		lower_pauses(p);
	return r;
}

int platform_resume(struct platform *p)
{
	lower_pauses(p);
	return p->ops->resume(p);
}

void platform_resumed(struct platform *p)
{
	if (p->ops->resumed)
		p->ops->resumed(p);
}

int platform_apply(struct platform *p, const struct page_record *r)
{
	/* The standby's own memory, which nobody else writes. */
	void *page = (void *)(uintptr_t)p->ops->page(p, r->gfn);

	return page ? decode_apply(page, r) : -EFAULT;
}

int platform_keep_state(struct platform *p, const void *state, uint32_t len)
{
	if (len > p->state_room) {
		uint8_t *room = realloc(p->state, len);

		if (!room)
			return -ENOMEM;
		p->state = room;
		p->state_room = len;
	}
	memcpy(p->state, state, len);
	p->state_len = len;
	return 0;
}

uint64_t platform_hash(struct platform *p, const struct platform_copied *copied)
{
	XXH3_state_t *state = XXH3_createState();
	uint64_t hash, n = 0;

	if (!state)
		return 0;
	XXH3_64bits_reset(state);
	for (uint64_t gfn = 0; gfn < p->nr_gfns; gfn++) {
		const void *page = p->ops->page(p, gfn);

		if (copied && n < copied->nr_pages && copied->gfn[n] == gfn)
			page = copied->pages + n++ * PLATFORM_PAGE_BYTES;
		if (page)
			XXH3_64bits_update(state, page, PLATFORM_PAGE_BYTES);
	}
	hash = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return hash;
}
