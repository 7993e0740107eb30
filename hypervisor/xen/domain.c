/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/domain.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <xenstore.h>

#include "base/log.h"
#include "hypervisor/xen/describe.h"
#include "hypervisor/xen/journal.h"

#define LIST_STEP 64

int xen_domain_failed(struct reason *why, const char *what)
{
	char text[160];

	xen_journal_error(text, sizeof(text));
	return reason_set(why, EIO, "%s: %s", what, text[0] ? text : "libxl does not say why");
}

int xen_domain_open(struct xen_domain *d, struct reason *why)
{
	struct xentoollog_logger *log = xen_journal();

	pthread_mutex_init(&d->lock, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(d->watcher); i++)
		d->watcher[i] = -1;
	d->domid = XEN_NO_DOMAIN;
	d->state = CONTROL_PAUSED;
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->wake_fd < 0)
		return -errno;
	if (libxl_ctx_alloc(&d->ctx, LIBXL_VERSION, 0, log))
		return reason_set(why, ENXIO, "libxl cannot be used: is this host a Xen dom0?");
	d->xch = xc_interface_open(log, log, 0);
	d->xs = xs_open(0);
	if (!d->xch || !d->xs)
		return reason_set(why, ENXIO, "%s cannot be reached: %s",
				  d->xch ? "xenstored" : "the hypervisor", strerror(errno));
	return 0;
}

void xen_domain_close(struct xen_domain *d)
{
	if (d->xs)
		xs_close(d->xs);
	if (d->xch)
		xc_interface_close(d->xch);
	if (d->ctx)
		libxl_ctx_free(d->ctx);
	if (d->wake_fd > 0)
		close(d->wake_fd);
	xen_description_free(&d->about);
	pthread_mutex_destroy(&d->lock);
}

/* --- finding it -------------------------------------------------------------------------- */

int xen_domain_find(struct xen_domain *d, const uint8_t uuid[16], uint32_t *ret_domid)
{
	uint32_t from = 1; /* dom0 is none of ours */
	int err = 1;

	pthread_mutex_lock(&d->lock);
	while (err > 0) {
		xc_domaininfo_t list[LIST_STEP];
		int n = xc_domain_getinfolist(d->xch, from, LIST_STEP, list);

		if (n < 0)
			err = -errno;
		else if (n == 0)
			err = -ESRCH;
		for (int i = 0; i < n && err > 0; i++) {
			from = list[i].domain + 1u;
			if (memcmp(list[i].handle, uuid, sizeof(list[i].handle)) ||
			    (list[i].flags & XEN_DOMINF_dying))
				continue;
			*ret_domid = list[i].domain;
			err = 0;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return err;
}

static void own_path(const struct xen_domain *d, char *ret, size_t size)
{
	snprintf(ret, size, "/libxl/%u/pollux", d->domid);
}

static bool is_own(struct xen_domain *d)
{
	char path[64];
	unsigned int len;
	void *value;
	bool is;

	own_path(d, path, sizeof(path));
	value = xs_read(d->xs, XBT_NULL, path, &len);
	is = value != NULL;
	free(value);
	return is;
}

void xen_domain_set_own(struct xen_domain *d)
{
	char path[64];

	own_path(d, path, sizeof(path));
	if (!xs_write(d->xs, XBT_NULL, path, "1", 1))
		log_warning("event=unmarked path=%s reason=\"%s\"", path, strerror(errno));
	pthread_mutex_lock(&d->lock);
	d->own = true;
	d->state = CONTROL_RUNNING;
	pthread_mutex_unlock(&d->lock);
}

int xen_domain_adopt(struct xen_domain *d, const char *which, struct reason *why)
{
	uint32_t domid;
	xc_dominfo_t info;
	int err;

	if (libxl_domain_qualifier_to_domid(d->ctx, which, &domid) || domid == 0)
		return reason_set(why, ESRCH, "there is no domain %.100s", which);
	if (xc_domain_getinfo(d->xch, domid, 1, &info) != 1 || info.domid != domid || info.dying)
		return reason_set(why, ESRCH, "there is no domain %.100s (%u)", which, domid);
	d->domid = domid;
	err = xen_describe(d, &d->about, why);
	if (err)
		return err;
	d->memory_pages = d->about.nr_pages;
	d->own = is_own(d);
	d->state = CONTROL_RUNNING;
	return 0;
}

/* --- is it alive ------------------------------------------------------------------------- */

/* The lock held. */
static bool get(struct xen_domain *d, xc_dominfo_t *ret)
{
	return xc_domain_getinfo(d->xch, d->domid, 1, ret) == 1 && ret->domid == d->domid;
}

static enum control_reason reason_of(unsigned int shutdown)
{
	switch (shutdown) {
	case SHUTDOWN_poweroff:
		return CONTROL_POWEROFF;
	case SHUTDOWN_reboot:
	case SHUTDOWN_soft_reset:
		return CONTROL_REBOOT;
	default:
		return CONTROL_CRASH;
	}
}

/* The lock held. */
static void tell(struct xen_domain *d)
{
	uint64_t one = 1;

	for (size_t i = 0; i < ARRAY_SIZE(d->watcher); i++)
		if (d->watcher[i] >= 0 && write(d->watcher[i], &one, sizeof(one)) < 0)
			continue; /* it is raised already */
}

void xen_domain_ended(struct xen_domain *d, enum control_reason reason)
{
	pthread_mutex_lock(&d->lock);
	if (d->state != CONTROL_STOPPED) {
		d->state = CONTROL_STOPPED;
		d->reason = reason;
		tell(d);
	}
	pthread_mutex_unlock(&d->lock);
}

void xen_domain_look(struct xen_domain *d)
{
	enum control_reason reason = CONTROL_DESTROY;
	xc_dominfo_t info;
	bool gone, ended;

	pthread_mutex_lock(&d->lock);
	gone = ended = !get(d, &info) || info.dying;
	if (!ended && info.shutdown && info.shutdown_reason != SHUTDOWN_suspend) {
		ended = true;
		reason = reason_of(info.shutdown_reason);
	}
	/* A soft reset has it run again, as the same domain. */
	d->taken_away |= d->state == CONTROL_STOPPED && (gone || !ended);
	pthread_mutex_unlock(&d->lock);
	if (ended)
		xen_domain_ended(d, reason);
}

void xen_domain_info(struct xen_domain *d, struct xen_info *ret)
{
	xc_dominfo_t info;

	pthread_mutex_lock(&d->lock);
	*ret = (struct xen_info){ .state = d->state, .reason = d->reason };
	if (d->domid != XEN_NO_DOMAIN && get(d, &info)) {
		ret->cpu_time_ns = info.cpu_time;
		if (ret->state == CONTROL_RUNNING && info.paused)
			ret->state = CONTROL_PAUSED;
	}
	/* Xen counts its pauses, and keeps the number to itself. */
	ret->pause_count = ret->state == CONTROL_PAUSED;
	pthread_mutex_unlock(&d->lock);
}

/* --- watchers ---------------------------------------------------------------------------- */

void xen_domain_wake(struct xen_domain *d)
{
	uint64_t one = 1;

	while (write(d->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

int xen_domain_watch(struct xen_domain *d, int event_fd)
{
	int err = -ENOSPC;

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < ARRAY_SIZE(d->watcher) && err; i++) {
		if (d->watcher[i] >= 0)
			continue;
		d->watcher[i] = event_fd;
		err = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return err;
}

void xen_domain_unwatch(struct xen_domain *d, int event_fd)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < ARRAY_SIZE(d->watcher); i++)
		if (d->watcher[i] == event_fd)
			d->watcher[i] = -1;
	pthread_mutex_unlock(&d->lock);
	xen_domain_wake(d);
}

bool xen_domain_watched(struct xen_domain *d)
{
	bool any = false;

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < ARRAY_SIZE(d->watcher); i++)
		any |= d->watcher[i] >= 0;
	pthread_mutex_unlock(&d->lock);
	return any;
}

/* --- the end ----------------------------------------------------------------------------- */

void xen_domain_order_destroy(struct xen_domain *d)
{
	pthread_mutex_lock(&d->lock);
	if (d->domid != XEN_NO_DOMAIN)
		xc_domain_pause(d->xch, d->domid); /* it may be gone */
	d->destroy = true;
	pthread_mutex_unlock(&d->lock);
	xen_domain_wake(d);
}

int xen_domain_destroy(struct xen_domain *d)
{
	int rc = libxl_domain_destroy(d->ctx, d->domid, NULL);

	return rc == 0 || rc == ERROR_DOMAIN_NOTFOUND ? 0 : -EIO;
}
