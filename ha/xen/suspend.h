/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain of Xen brought to a consistent stop and let go on again: the guest's own suspend, as
 * for a migration, since its PV drivers must expect to find other backends.
 *
 * It is told by xenstore (control/shutdown) and Xen tells that it stands still by an event
 * channel that we alone have subscribed to; so no xenstored, and no polling, is in the way.
 *
 * Nobody else may follow the guest's writes or suspend it meanwhile, as `xl save` and `xl migrate`
 * do: libxc gives up, before it begins, when device/suspend/event-channel names a port that
 * it cannot bind. It lets the guest run then, even in a checkpoint, which is noticed.
 *
 * Resumed it learns that its suspend was cancelled, which costs it less than a new start. Xen
 * forgets the extended state (AVX) of the processor that is told so; it is put back here.
 *
 * Threads: one at a time. Source: Xen 4.17, docs/misc/xenstore-paths.pandoc (control/shutdown),
 * xc_resume.c.
 */
#ifndef POLLUX_HA_XEN_SUSPEND_H
#define POLLUX_HA_XEN_SUSPEND_H

#include <stdint.h>
#include <xenctrl.h>

#include "base/err.h"

struct suspend;

/* Refuses a guest that does not offer to suspend. -EBUSY: somebody else saves or
 * migrates it. */
int suspend_open(xc_interface *xch, uint32_t domid, struct suspend **ret, struct reason *why);
/* A domain that was asked to stop is awaited, for a while, and runs on. Takes NULL. */
void suspend_close(struct suspend *s);
/* Readable: suspend_look() has news. */
int suspend_fd(const struct suspend *s);

/* A word of others that the guest has not read yet goes first. */
int suspend_ask(struct suspend *s);
/* 0: it is suspended, asked or not; -EINPROGRESS: it runs, still, or `xl pause` holds it;
 * -ETIMEDOUT: it was asked and did not, and need not any more. */
int suspend_look(struct suspend *s);
/* Of a domain that is suspended. -ESTALE: it is so no more, somebody else has let it run: what was
 * read of it since suspend_look() is void. */
int suspend_resume(struct suspend *s);
/* xenstored is to hear that it runs again, else it might take its next shutdown for this one:
 * after suspend_resume(), when time does not press. */
void suspend_resumed(struct suspend *s);

#endif
