/* SPDX-License-Identifier: Apache-2.0 */
/* A description (description.h) of a domain that runs here, as it is now. */
#ifndef POLLUX_XEN_DESCRIBE_H
#define POLLUX_XEN_DESCRIBE_H

#include "base/err.h"

struct xen_domain;
struct xen_description;

/* -EPERM: it cannot be protected (refuse.h). Any thread; the caller frees. */
int xen_describe(struct xen_domain *d, struct xen_description *ret, struct reason *why);
/* The version of this host's Xen. */
int xen_describe_version(struct xen_domain *d, char *ret, size_t size);

#endif
