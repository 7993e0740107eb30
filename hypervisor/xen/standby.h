/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain that waits: libxl restores it from a pipe (stream.h) which stays silent once the
 * memory is there. Who replicates writes that memory by foreign mapping. The state ends the
 * stream; libxl builds the devices, and the domain stands paused until it is let run.
 *
 * Until it runs it is dropped with the process, or by the next one: a mark in xenstore,
 * /tool/pollux/standby/UUID, says that a domain of that uuid is half made.
 */
#ifndef POLLUX_XEN_STANDBY_H
#define POLLUX_XEN_STANDBY_H

#include <stddef.h>

#include "base/err.h"

struct xen_domain;
struct xen_standby;

/* Reads the description, checks that this host can run it, and returns when its memory is there
 * and `d` is the domain. */
int xen_standby_open(struct xen_domain *d, const char *path, struct xen_standby **ret,
		     struct reason *why);
/* A state (state.h). -EBUSY: it has one. An error other than -EINVAL is its end. Any thread. */
int xen_standby_load(struct xen_standby *s, const void *state, size_t len, struct reason *why);
/* -EBUSY: it has no state. From here on the domain is one of this host. Any thread. */
int xen_standby_run(struct xen_standby *s, struct reason *why);
/* It was let run. */
bool xen_standby_ran(struct xen_standby *s);
/* One that has not run is destroyed. NULL is fine. No other thread is in here. */
void xen_standby_close(struct xen_standby *s);

#endif
