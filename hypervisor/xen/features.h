/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a host's processor has what a domain was given. Xen would quietly take away
 * what it has not, under a kernel that has seen it. Pure.
 */
#ifndef POLLUX_XEN_FEATURES_H
#define POLLUX_XEN_FEATURES_H

#include <stdint.h>

#include "base/err.h"

/* A CPU policy of Xen's, as it serialises one. */
struct xen_policy {
	const uint8_t *leaves; /* XEN_LEAF_BYTES each, as xen_cpuid_leaf_t */
	uint32_t nr_leaves;
	const uint8_t *msrs; /* XEN_MSR_BYTES each, as xen_msr_entry_t */
	uint32_t nr_msrs;
};

/* -EOPNOTSUPP names the makers, or the leaf or MSR and the bits that `host` lacks. */
int xen_features_check(const struct xen_policy *guest, const struct xen_policy *host,
		       struct reason *why);

#endif
