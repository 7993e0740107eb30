/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the hypervisors differ, and nothing else: how a domain is brought to a
 * consistent stop, how its pages are reached, what a standby is and how an epoch gets
 * into it. All the rest of the engine calls libxenctrl directly, which is Xen's own or
 * Pollux's over pollux-vmm.
 *
 * One domain a handle. Between stop and resume nothing here allocates or logs.
 */
#ifndef POLLUX_HA_PLATFORM_H
#define POLLUX_HA_PLATFORM_H

#include <stdint.h>
#include <xenctrl.h>

#include "base/err.h"
#include "ha/decode.h"

#define PLATFORM_PAGE_BYTES 4096u

struct platform;

struct platform_ops {
	const char *name; /* "kvm", "xen" */

	int (*open)(struct platform *p, struct reason *why);
	void (*close)(struct platform *p);
	/* A consistent stop: neither processors nor devices change memory or state. */
	int (*stop)(struct platform *p);
	int (*resume)(struct platform *p);
	/* A page of the domain, to read; NULL where the gfn has no memory. Any thread. */
	const void *(*page)(struct platform *p, uint64_t gfn);

	/* The standby: one page record, or the state that ends an epoch. The epoch's records come
	 * in order; nothing is visible of it to the guest before standby_run(). */
	int (*standby_page)(struct platform *p, const struct page_record *r);
	int (*standby_state)(struct platform *p, const void *state, uint32_t len);
	/* Loads the state set aside last. The domain is ready and still paused. */
	int (*standby_load)(struct platform *p, struct reason *why);
	int (*standby_run)(struct platform *p, struct reason *why);
};

struct platform {
	const struct platform_ops *ops;
	xc_interface *xch;
	uint32_t domid;
	uint64_t nr_gfns;      /* gfns are below it; some have no memory */
	uint64_t memory_bytes; /* what there is */
	void *priv;
};

int platform_open(struct platform *ret, uint32_t domid, struct reason *why);
void platform_close(struct platform *p);

/* XXH3-64 of all memory in the order of gfns: the memory oracle. The domain stands still. */
uint64_t platform_hash(struct platform *p);

extern const struct platform_ops platform_kvm_ops;

#endif
