/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's memory, mapped once for as long as it is replicated, in chunks; with its holes, of
 * which a domain of Xen has large ones.
 *
 * Threads: mapping_page() anybody's.
 */
#ifndef POLLUX_HA_MAPPING_H
#define POLLUX_HA_MAPPING_H

#include <stdint.h>
#include <xenctrl.h>

struct mapping;

struct mapping_config {
	uint32_t domid;
	uint64_t nr_gfns;
	/* Which of these pages are memory of the domain's own: makes the others MAPPING_NO_GFN.
	 * NULL: all that can be mapped. 0 or -errno. */
	int (*judge)(void *opaque, xen_pfn_t *gfns, unsigned int n);
	void *opaque;
};
#define MAPPING_NO_GFN (~(xen_pfn_t)0)

/* -ENXIO: there is none. */
int mapping_open(const struct mapping_config *config, struct mapping **ret);
/* Takes NULL. */
void mapping_close(struct mapping *m);

/* NULL: the domain has no memory there. */
void *mapping_page(const struct mapping *m, uint64_t gfn);
uint64_t mapping_pages(const struct mapping *m);
/* Whether one of these pages, a bit a gfn, is memory by the judge and was not when it was mapped:
 * 1 and which, 0, or what the judge says. */
int mapping_find_new(const struct mapping *m, const uint64_t *gfns, uint64_t *ret_gfn);

#endif
