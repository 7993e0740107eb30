/* SPDX-License-Identifier: Apache-2.0 */
/* A domain made anew from a description, as xl would: one that no xl looks after any more. */
#ifndef POLLUX_XEN_CREATE_H
#define POLLUX_XEN_CREATE_H

#include "base/err.h"

struct xen_domain;

/* Reads the description, makes the domain and lets it run; `d` is it then. -EEXIST: there is one
 * of that name or uuid. */
int xen_create(struct xen_domain *d, const char *path, struct reason *why);

#endif
