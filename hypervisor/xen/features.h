/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a host's processor has what a domain was given. Xen would quietly take away
 * what it has not, under a kernel that has seen it. Pure.
 */
#ifndef POLLUX_XEN_FEATURES_H
#define POLLUX_XEN_FEATURES_H

#include <stdint.h>

#include "base/err.h"

struct xen_leaves {
	const uint8_t *bytes; /* XEN_LEAF_BYTES each, as xen_cpuid_leaf_t */
	uint32_t nr;
};

/* -EOPNOTSUPP names the leaf, the register and the bits that `host` lacks. */
int xen_features_check(struct xen_leaves guest, struct xen_leaves host, struct reason *why);

#endif
