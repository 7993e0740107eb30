/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one domain that this process is the companion of: the libraries' handles, what never
 * changes of it, and whether it lives.
 *
 * That it has ended is seen by the main thread (xenstore's @releaseDomain), which calls
 * xen_domain_look(); others read the state. A suspend is no end: who checkpoints does it.
 */
#ifndef POLLUX_XEN_DOMAIN_H
#define POLLUX_XEN_DOMAIN_H

#include <libxl.h>
#include <libxl_utils.h>
#include <pthread.h>
#include <xenctrl.h>

#include "hypervisor/control/control.h"
#include "hypervisor/xen/description.h"

#define XEN_NO_DOMAIN UINT32_MAX /* INVALID_DOMID, which is signed */

struct xs_handle;

struct xen_domain {
	libxl_ctx *ctx; /* any thread */
	uint32_t domid;
	struct xen_description about; /* without the parts of libxl */
	uint64_t memory_pages;

	pthread_mutex_t lock; /* all that follow; the last of all locks */
	xc_interface *xch;
	struct xs_handle *xs;
	enum control_state state; /* PAUSED while it is not found to be otherwise */
	enum control_reason reason;
	bool own;	 /* no xl looks after it: it ends here */
	bool taken_away; /* it had ended, and who looks after it has done what is to be done */
	int watcher[CONTROL_MAX_CLIENTS];
	int wake_fd;  /* eventfd: the main thread is to look */
	bool destroy; /* it is to be destroyed, and the process to end */
};

/* The handles, no domain yet. */
int xen_domain_open(struct xen_domain *d, struct reason *why);
void xen_domain_close(struct xen_domain *d);

/* A name or a number. -ESRCH: there is none. -EPERM: it cannot be protected. */
int xen_domain_adopt(struct xen_domain *d, const char *which, struct reason *why);
/* No xl looks after it; written down, so that a companion after this one knows, too. */
void xen_domain_set_own(struct xen_domain *d);
/* By its uuid. -ESRCH: there is none. */
int xen_domain_find(struct xen_domain *d, const uint8_t uuid[16], uint32_t *ret_domid);

struct xen_info {
	enum control_state state;
	enum control_reason reason;
	uint32_t pause_count;
	uint64_t cpu_time_ns;
};
/* What is so now. */
void xen_domain_info(struct xen_domain *d, struct xen_info *ret);
/* The main thread: finds out whether it has ended, and tells the watchers if so. */
void xen_domain_look(struct xen_domain *d);
/* It has ended, whatever Xen says; the watchers are told. */
void xen_domain_ended(struct xen_domain *d, enum control_reason reason);
void xen_domain_wake(struct xen_domain *d);

int xen_domain_watch(struct xen_domain *d, int event_fd);
void xen_domain_unwatch(struct xen_domain *d, int event_fd);
bool xen_domain_watched(struct xen_domain *d);

/* Stops it at once, so that nothing of it goes out, and has it destroyed by the main thread. */
void xen_domain_order_destroy(struct xen_domain *d);
/* With its devices; takes its time. */
int xen_domain_destroy(struct xen_domain *d);

/* An error of libxl, with what it said. */
int xen_domain_failed(struct reason *why, const char *what);

#endif
