/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Xen 4.17, by its own libraries. The stop is the guest's own suspend (suspend.h), and then its
 * device model's, if it is an HVM guest (emulator.h). Its memory
 * has holes, and pages that are Xen's: a page counts that Xen calls the domain's. The standby
 * is a domain that libxl restores, in the middle of its stream (pollux-xen, control.h): its
 * memory is there and is written by foreign mapping; the state makes it whole.
 */
#include <net/if.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <xenstore.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "ha/mapping.h"
#include "ha/platform.h"
#include "ha/xen/emulator.h"
#include "ha/xen/suspend.h"
#include "hypervisor/control/control.h"
#include "hypervisor/xen/state.h"

#define JUDGE_MAX	1024u /* pages a call, Xen's limit */
#define LEFT_PAUSES_MAX 4u    /* the throttle's, the backpressure's, open_emulator()'s */
#define DESTROYED_NS	(500 * NS_PER_MS)

/* Exported by libxenctrl, which has no prototype of it: gfns in, XEN_DOMCTL_PFINFO out. */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *pfns);

struct xen_domain {
	struct control *control;   /* pollux-xen's */
	struct suspend *suspend;   /* NULL: not a primary's */
	struct emulator *emulator; /* NULL: likewise, or a PVH guest's */
	uint32_t context_max;
	unsigned long nr_pages; /* by Xen's count, when it was mapped */
	int new_memory;		/* since then, at new_gfn, or why that is not known */
	uint64_t new_gfn;
};

/* --- memory ------------------------------------------------------------------------- */

static bool is_memory(xen_pfn_t type)
{
	return type != XEN_DOMCTL_PFINFO_XTAB && type != XEN_DOMCTL_PFINFO_BROKEN &&
	       type != XEN_DOMCTL_PFINFO_XALLOC;
}

/* Shared info and grant tables, which every domain has anew, are no memory of its own. */
static int judge(void *opaque, xen_pfn_t *gfns, unsigned int n)
{
	struct platform *p = opaque;
	xen_pfn_t types[JUDGE_MAX];

	for (unsigned int done = 0; done < n; done += JUDGE_MAX) {
		unsigned int count = MIN(n - done, JUDGE_MAX);

		memcpy(types, gfns + done, count * sizeof(types[0]));
		if (xc_get_pfn_type_batch(p->xch, p->domid, count, types))
			return -errno;
		for (unsigned int i = 0; i < count; i++)
			if (!is_memory(types[i]))
				gfns[done + i] = MAPPING_NO_GFN;
	}
	return 0;
}

static int map(struct platform *p, struct reason *why)
{
	struct mapping_config config = {
		.domid = p->domid, .nr_gfns = p->nr_gfns, .judge = judge, .opaque = p
	};
	int r = mapping_open(&config, &p->memory);

	if (r)
		return reason_set(why, -r,
				  "domain %u: its memory below page %llu cannot be mapped: %s",
				  p->domid, (unsigned long long)p->nr_gfns, strerror(-r));
	p->memory_bytes = mapping_pages(p->memory) * PLATFORM_PAGE_BYTES;
	return 0;
}

/* --- life --------------------------------------------------------------------------- */

static int get_info(struct platform *p, xc_dominfo_t *ret)
{
	if (xc_domain_getinfo(p->xch, p->domid, 1, ret) != 1 || ret->domid != p->domid)
		return -ESRCH;
	return 0;
}

static void xen_close(struct platform *p)
{
	struct xen_domain *d = p->priv;

	emulator_close(d->emulator);
	suspend_close(d->suspend);
	control_close(d->control);
	free(d);
	p->priv = NULL;
}

/* Who made the domain says so; Xen knows no difference. */
static int is_hvm(struct platform *p, bool *ret, struct reason *why)
{
	struct xs_handle *xs = xs_open(0);
	unsigned int len;
	char path[48], *type;
	bool known;

	if (!xs)
		return errno ? -errno : -EIO;
	snprintf(path, sizeof(path), "/libxl/%u/type", p->domid);
	type = xs_read(xs, XBT_NULL, path, &len);
	*ret = type && !strcmp(type, "hvm");
	known = *ret || (type && !strcmp(type, "pvh"));
	free(type);
	xs_close(xs);
	return known ? 0
		     : reason_set(why, EINVAL,
				  "xenstore does not say at %s whether domain %u is "
				  "PVH or HVM",
				  path, p->domid);
}

static int open_emulator(struct platform *p, const struct platform_config *c, struct reason *why)
{
	struct xen_domain *d = p->priv;
	char socket[64], state[128];
	struct emulator_config config = {
		.socket = socket, .state = state, .idle = c->idle, .opaque = c->opaque
	};
	bool hvm;
	int r = is_hvm(p, &hvm, why);

	if (r || !hvm)
		return r;
	snprintf(socket, sizeof(socket), "/var/run/xen/qmp-libxenstat-%u", p->domid);
	if (snprintf(state, sizeof(state), "%s/emulator", c->run_dir) >= (int)sizeof(state))
		return -ENAMETOOLONG;
	if (xc_domain_pause(p->xch, p->domid))
		return -errno;
	r = emulator_open(&config, &d->emulator, why);
	xc_domain_unpause(p->xch, p->domid);
	return r;
}

static int open_domain(struct platform *p, const struct platform_config *c, struct reason *why)
{
	struct xen_domain *d = p->priv;
	xc_dominfo_t info;
	int r = control_connect(c->run_dir, &d->control);

	if (r)
		return reason_set(why, -r, "%s: pollux-xen does not answer: %s", c->run_dir,
				  strerror(-r));
	if (c->use == PLATFORM_WATCH)
		return 0;
	r = get_info(p, &info);
	if (r)
		return reason_set(why, -r, "no domain %u", p->domid);
	d->nr_pages = info.nr_pages;
	r = map(p, why);
	if (r || c->use != PLATFORM_PRIMARY)
		return r;
	r = suspend_open(p->xch, p->domid, &d->suspend, why);
	if (!r)
		p->stop_fd = suspend_fd(d->suspend);
	return r ? r : open_emulator(p, c, why);
}

static int xen_open(struct platform *p, const struct platform_config *c, struct reason *why)
{
	int r;

	p->priv = calloc(1, sizeof(struct xen_domain));
	if (!p->priv)
		return -ENOMEM;
	r = open_domain(p, c, why);
	if (r) {
		xen_close(p);
		platform_unmap(p);
	}
	return r;
}

static enum platform_life look_once(struct platform *p)
{
	xc_dominfo_t info;

	if (get_info(p, &info) || info.dying || info.crashed)
		return PLATFORM_ENDED;
	return info.shutdown && info.shutdown_reason != SHUTDOWN_suspend ? PLATFORM_ENDED
									 : PLATFORM_RUNS;
}

/* A domain does not end by itself: who has it no more has ended it. An HVM guest without its device
 * model is lost; but xl, when it destroys a domain, ends that first. */
static enum platform_life xen_look(struct platform *p)
{
	struct xen_domain *d = p->priv;
	uint64_t deadline = clock_now_ns() + DESTROYED_NS;
	enum platform_life life;

	if (!d->emulator || !emulator_is_lost(d->emulator))
		return look_once(p);
	while ((life = look_once(p)) == PLATFORM_RUNS && clock_now_ns() < deadline)
		nanosleep(&(struct timespec){ .tv_nsec = 10 * NS_PER_MS }, NULL);
	return life == PLATFORM_RUNS ? PLATFORM_LOST : life;
}

static void xen_nic_name(const struct platform *p, unsigned int nic, char *ret, size_t room)
{
	snprintf(ret, room, CONTROL_VIF_FORMAT, p->domid, nic);
}

/* QEMU's tap: an HVM guest's NIC is there twice, until PV drivers unplug the emulated one. */
static bool xen_nic_twin(const struct platform *p, unsigned int nic, char *ret, size_t room)
{
	const struct xen_domain *d = p->priv;
	int n = snprintf(ret, room, CONTROL_VIF_FORMAT "-emu", p->domid, nic);

	return d->emulator && n < (int)room && if_nametoindex(ret);
}

/* libxl takes its devices away, too; without its companion at least the domain is gone. */
static void xen_destroy(struct platform *p)
{
	struct xen_domain *d = p->priv;
	uint8_t reason = CONTROL_DESTROY;
	struct control_call call = { .op = CONTROL_SHUTDOWN,
				     .request = &reason,
				     .request_len = sizeof(reason) };

	xc_domain_pause(p->xch, p->domid);
	if (control_call(d->control, &call, NULL))
		xc_domain_destroy(p->xch, p->domid);
}

/* --- the primary's ------------------------------------------------------------------ */

static int xen_ask_stop(struct platform *p)
{
	return suspend_ask(((struct xen_domain *)p->priv)->suspend);
}

static int xen_stop(struct platform *p)
{
	struct xen_domain *d = p->priv;
	int r = suspend_look(d->suspend);

	return r || !d->emulator ? r : emulator_stop(d->emulator, &p->trouble);
}

static int xen_resume(struct platform *p)
{
	struct xen_domain *d = p->priv;
	int r = d->emulator ? emulator_run(d->emulator, &p->trouble) : 0;
	int err;

	if (r && emulator_is_lost(d->emulator))
		return r; /* a guest without devices: see xen_look() */
	err = suspend_resume(d->suspend);
	return r ? r : err;
}

static void xen_resumed(struct platform *p)
{
	suspend_resumed(((struct xen_domain *)p->priv)->suspend);
}

static unsigned int xen_revive(struct platform *p)
{
	unsigned int n = 0;

	while (n < LEFT_PAUSES_MAX && !xc_domain_unpause(p->xch, p->domid))
		n++;
	if (!xen_stop(p) && !xen_resume(p)) {
		xen_resumed(p);
		n++;
	}
	return n;
}

static int xen_state_room(struct platform *p, uint32_t *ret)
{
	struct xen_domain *d = p->priv;
	int len = xc_domain_hvm_getcontext(p->xch, p->domid, NULL, 0);

	if (len < 0)
		return -errno;
	if ((uint32_t)len > XEN_STATE_CONTEXT_MAX)
		return -E2BIG;
	d->context_max = (uint32_t)len;
	*ret = XEN_STATE_REST_MAX + d->context_max;
	if (d->emulator)
		*ret += emulator_room(d->emulator);
	return 0;
}

static int get_params(struct platform *p, struct xen_state *s)
{
	for (unsigned int i = 0; i < xen_state_nr_params; i++) {
		struct xen_state_param *param = &s->param[s->nr_params];

		param->index = xen_state_params[i];
		if (xc_hvm_param_get(p->xch, p->domid, xen_state_params[i], &param->value))
			return -errno;
		s->nr_params += param->value != 0;
	}
	return 0;
}

static void xen_note_dirty(struct platform *p, const uint64_t *dirty)
{
	struct xen_domain *d = p->priv;

	if (!d->new_memory)
		d->new_memory = mapping_find_new(p->memory, dirty, &d->new_gfn);
}

/*
 * A page that the guest gave away and took again is another one, and our mapping, like the
 * standby's memory, is that of before. What there is to see of it is Xen's count, and a page that
 * is written where there was none.
 */
static int check_shape(struct platform *p)
{
	struct xen_domain *d = p->priv;
	xc_dominfo_t info;
	int r = get_info(p, &info);

	if (r || d->new_memory < 0)
		return r ? r : d->new_memory;
	if (d->new_memory)
		return reason_set(&p->trouble, EREMCHG,
				  "the guest has memory at page %llu, where it had none: "
				  "protect it anew",
				  (unsigned long long)d->new_gfn);
	if (info.nr_pages == d->nr_pages)
		return 0;
	return reason_set(&p->trouble, EREMCHG,
			  "the guest's memory has changed from %lu pages to %lu (ballooning): "
			  "protect it anew",
			  d->nr_pages, info.nr_pages);
}

static int xen_state(struct platform *p, void *ret, uint32_t room)
{
	struct xen_domain *d = p->priv;
	struct cursor out = cursor_over(ret, room);
	struct xen_state s = { 0 };
	uint8_t *context;
	int r = check_shape(p);

	if (!r)
		r = get_params(p, &s);
	if (r)
		return r;
	if (xc_domain_get_tsc_info(p->xch, p->domid, &s.tsc_mode, &s.tsc_nsec, &s.tsc_khz,
				   &s.tsc_incarnation))
		return -errno;
	context = (uint8_t *)ret + xen_state_context_offset(s.nr_params);
	r = xc_domain_hvm_getcontext(p->xch, p->domid, context, d->context_max);
	if (r <= 0)
		return r ? -errno : -EIO;
	s.context = context;
	s.context_len = (uint32_t)r;
	s.emulator = context + s.context_len + sizeof(uint32_t);
	if (d->emulator) {
		r = emulator_state(d->emulator, context + s.context_len + sizeof(uint32_t),
				   emulator_room(d->emulator), &p->trouble);
		if (r < 0)
			return r;
		s.emulator_len = (uint32_t)r;
	}
	xen_state_put(&out, &s);
	return cursor_ok(&out) ? (int)(out.pos - (uint8_t *)ret) : -E2BIG;
}

/* A ring and what it speaks of is written by backends through grants that stay mapped. */
static void mark_granted(struct platform *p, const grant_entry_v1_t *entry, int n, uint64_t *bitmap)
{
	for (int i = 0; i < n; i++)
		if ((entry[i].flags & GTF_type_mask) == GTF_permit_access &&
		    !(entry[i].flags & GTF_readonly) && entry[i].frame < p->nr_gfns)
			bitmap_set(bitmap, entry[i].frame);
}

static int xen_mark_shared(struct platform *p, uint64_t *bitmap)
{
	static const uint32_t rings[] = { HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN };
	int n = 0;
	grant_entry_v1_t *table = xc_gnttab_map_table_v1(p->xch, p->domid, &n);
	uint64_t gfn;

	if (!table)
		return errno ? -errno : -EIO;
	mark_granted(p, table, n, bitmap);
	munmap(table, (size_t)n * sizeof(*table));
	for (unsigned int i = 0; i < ARRAY_SIZE(rings); i++)
		if (!xc_hvm_param_get(p->xch, p->domid, rings[i], &gfn) && gfn && gfn < p->nr_gfns)
			bitmap_set(bitmap, gfn);
	return 0;
}

/* --- the standby's ------------------------------------------------------------------ */

static int make_memfd(const void *bytes, uint32_t len)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (pwrite(fd, bytes, len, 0) == (ssize_t)len)
		return fd;
	close(fd);
	return -EIO;
}

static int xen_standby_load(struct platform *p, struct reason *why)
{
	struct xen_domain *d = p->priv;
	uint8_t request[8];
	struct cursor put = cursor_over(request, sizeof(request));
	int fd;
	struct control_call call = { .op = CONTROL_SET_CONTEXT,
				     .request = request,
				     .request_len = sizeof(request),
				     .request_fds = &fd,
				     .nr_request_fds = 1,
				     .why = why };
	int r;

	if (!p->state_len)
		return reason_set(why, ENODATA, "domain %u: no epoch is committed", p->domid);
	fd = make_memfd(p->state, p->state_len);
	if (fd < 0)
		return reason_set(why, -fd, "no memory for %u bytes of state", p->state_len);
	cursor_put_u64(&put, p->state_len);
	r = control_call(d->control, &call, NULL);
	close(fd);
	return r;
}

/* Its pages are its own from here on: mapped by us, a domain that ends would not be gone. */
static int xen_standby_run(struct platform *p, struct reason *why)
{
	struct xen_domain *d = p->priv;
	struct control_call call = { .op = CONTROL_UNPAUSE, .why = why };
	int r = control_call(d->control, &call, NULL);

	if (!r)
		platform_unmap(p);
	return r;
}

const struct platform_ops platform_ops = {
	.name = "xen",
	.open = xen_open,
	.close = xen_close,
	.look = xen_look,
	.nic_name = xen_nic_name,
	.nic_twin = xen_nic_twin,
	.note_dirty = xen_note_dirty,
	.destroy = xen_destroy,
	.ask_stop = xen_ask_stop,
	.stop = xen_stop,
	.resume = xen_resume,
	.resumed = xen_resumed,
	.revive = xen_revive,
	.page = platform_mapped_page,
	.state_room = xen_state_room,
	.state = xen_state,
	.mark_shared = xen_mark_shared,
	.standby_load = xen_standby_load,
	.standby_run = xen_standby_run,
};
