/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/platform.h"

#define XXH_INLINE_ALL
/* The same hash by 64-bit words: emulated processors are many times slower with vectors, and
 * the others are quick enough for a test. */
#define XXH_VECTOR 0 /* XXH_SCALAR */
#include <xxhash.h>

int platform_open(struct platform *ret, uint32_t domid, struct reason *why)
{
	struct platform p = { .ops = &platform_kvm_ops, .domid = domid };
	xen_pfn_t max_gfn;
	int r;

	p.xch = xc_interface_open(NULL, NULL, 0);
	if (!p.xch)
		return reason_set(why, errno ? errno : EIO, "the hypervisor cannot be reached: %s",
				  strerror(errno));
	if (xc_domain_nr_gpfns(p.xch, domid, &max_gfn) < 0) {
		r = reason_set(why, errno ? errno : EIO, "domain %u: %s", domid, strerror(errno));
		goto err_close;
	}
	p.nr_gfns = max_gfn;
	*ret = p;
	r = p.ops->open(ret, why);
	if (!r)
		return 0;
err_close:
	xc_interface_close(p.xch);
	return r;
}

void platform_close(struct platform *p)
{
	if (!p->xch)
		return;
	p->ops->close(p);
	xc_interface_close(p->xch);
	p->xch = NULL;
}

uint64_t platform_hash(struct platform *p)
{
	XXH3_state_t *state = XXH3_createState();
	uint64_t hash;

	if (!state)
		return 0;
	XXH3_64bits_reset(state);
	for (uint64_t gfn = 0; gfn < p->nr_gfns; gfn++) {
		const void *page = p->ops->page(p, gfn);

		if (page)
			XXH3_64bits_update(state, page, PLATFORM_PAGE_BYTES);
	}
	hash = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return hash;
}
