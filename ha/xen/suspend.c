/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/xen/suspend.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <xenevtchn.h>
#include <xenstore.h>

#include "base/clock.h"

/* A guest that needs longer does not suspend: Linux lets its tasks take 20 s to freeze, and runs
 * on, without a word, when they do not. Two processors that share one, on a busy emulated host,
 * were seen to take 7 s, since each waits for the other while that does not run. */
#define SUSPEND_NS (30 * NS_PER_S)
/* XSAVE area with its header: 11 KiB with all that processors have today. */
#define EXTENDED_PAGES 4u
#define EXTENDED_BYTES (EXTENDED_PAGES * XC_PAGE_SIZE)

struct suspend {
	xc_interface *xch;
	uint32_t domid;
	struct xs_handle *xs;
	xenevtchn_handle *evtchn;
	int port; /* our end; -1: none */
	char control[48], mark[72], kept[64];
	uint64_t asked_ns; /* 0: it was not */
	bool written;	   /* the word, since then */
	bool keeps;	   /* others out */
	xc_hypercall_buffer_t extended_buffer;
	void *extended; /* its memory */
	vcpu_guest_context_any_t context;
};

static void path_of(const struct suspend *s, const char *name, char *ret, size_t room)
{
	snprintf(ret, room, "/local/domain/%u/control/%s", s->domid, name);
}

/* --- asking ------------------------------------------------------------------------- */

static bool get_info(struct suspend *s, xc_dominfo_t *ret)
{
	return xc_domain_getinfo(s->xch, s->domid, 1, ret) == 1 && ret->domid == s->domid;
}

static bool is_suspended(struct suspend *s)
{
	xc_dominfo_t info;

	return get_info(s, &info) && info.shutdown && info.shutdown_reason == SHUTDOWN_suspend;
}

static bool is_paused(struct suspend *s)
{
	xc_dominfo_t info;

	return get_info(s, &info) && info.paused;
}

/* What somebody else has told the guest, to reboot for one, is not written over. */
static int write_word(struct suspend *s)
{
	static const char word[] = "suspend";
	unsigned int len = 0;
	char *before = xs_read(s->xs, XBT_NULL, s->control, &len);
	bool other = before && len && strcmp(before, word);

	free(before);
	if (other)
		return 0;
	if (!xs_write(s->xs, XBT_NULL, s->control, word, sizeof(word) - 1))
		return errno ? -errno : -EIO;
	s->written = true;
	return 0;
}

int suspend_ask(struct suspend *s)
{
	int r;

	s->written = false;
	r = write_word(s);
	if (!r)
		s->asked_ns = clock_now_ns();
	return r;
}

/* What the guest has not read yet it shall not find: true. One that has read it suspends, late. */
static bool take_back(struct suspend *s)
{
	bool done, unread;

	s->asked_ns = 0;
	if (!s->written)
		return true;
	do {
		xs_transaction_t t = xs_transaction_start(s->xs);
		unsigned int len = 0;

		if (t == XBT_NULL)
			return false;
		free(xs_read(s->xs, t, s->control, &len));
		unread = len > 0;
		done = !unread || xs_write(s->xs, t, s->control, "", 0);
		done &= xs_transaction_end(s->xs, t, !done);
	} while (!done && errno == EAGAIN);
	return done && unread;
}

static void drain(struct suspend *s)
{
	xenevtchn_port_or_error_t port;

	while ((port = xenevtchn_pending(s->evtchn)) >= 0)
		xenevtchn_unmask(s->evtchn, (evtchn_port_t)port);
}

int suspend_look(struct suspend *s)
{
	drain(s);
	if (is_suspended(s)) {
		s->asked_ns = 0;
		return 0;
	}
	if (!s->asked_ns)
		return -EINPROGRESS;
	if (!s->written)
		write_word(s); /* else the next look, or nobody any more */
	if (clock_now_ns() < s->asked_ns + SUSPEND_NS)
		return -EINPROGRESS;
	/* It cannot, until whoever did that lets it run. */
	if (is_paused(s)) {
		s->asked_ns = clock_now_ns();
		return -EINPROGRESS;
	}
	take_back(s);
	return -ETIMEDOUT;
}

/* --- letting go --------------------------------------------------------------------- */

static int extended_call(struct suspend *s, uint32_t cmd, uint64_t *mask, uint64_t *size)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(void, extended, &s->extended_buffer);
	struct xen_domctl call = { .cmd = cmd, .domain = (domid_t)s->domid };

	(void)extended;
	call.u.vcpuextstate.xfeature_mask = *mask;
	call.u.vcpuextstate.size = *size;
	if (*size)
		set_xen_guest_handle(call.u.vcpuextstate.buffer, extended);
	if (xc_domctl(s->xch, &call))
		return -errno;
	*mask = call.u.vcpuextstate.xfeature_mask;
	*size = call.u.vcpuextstate.size;
	return 0;
}

/* Size 0: the processor has none, or the guest never used it. */
static int get_extended(struct suspend *s, uint64_t *ret_mask, uint64_t *ret_size)
{
	int r;

	*ret_mask = *ret_size = 0;
	r = extended_call(s, XEN_DOMCTL_getvcpuextstate, ret_mask, ret_size);
	if (r || !*ret_size)
		return r;
	if (*ret_size > EXTENDED_BYTES)
		return -E2BIG;
	return extended_call(s, XEN_DOMCTL_getvcpuextstate, ret_mask, ret_size);
}

/* The hypercall that it is in, on processor 0, returns 1: cancelled. */
static int tell_cancelled(struct suspend *s)
{
	uint64_t mask, size;
	int r = get_extended(s, &mask, &size);

	if (r)
		return r;
	if (xc_vcpu_getcontext(s->xch, s->domid, 0, &s->context))
		return -errno;
	s->context.x64.user_regs.rax = 1;
	if (xc_vcpu_setcontext(s->xch, s->domid, 0, &s->context))
		return -errno;
	return size ? extended_call(s, XEN_DOMCTL_setvcpuextstate, &mask, &size) : 0;
}

int suspend_resume(struct suspend *s)
{
	struct xen_domctl call = { .cmd = XEN_DOMCTL_resumedomain, .domain = (domid_t)s->domid };
	int r = is_suspended(s) ? tell_cancelled(s) : -ESTALE;

	if (!r && xc_domctl(s->xch, &call))
		r = -errno;
	return r;
}

void suspend_resumed(struct suspend *s)
{
	xs_resume_domain(s->xs, s->domid);
}

/* --- life --------------------------------------------------------------------------- */

static bool offers_suspend(struct suspend *s)
{
	char path[64], *word;
	unsigned int len;
	bool offers;

	path_of(s, "feature-suspend", path, sizeof(path));
	word = xs_read(s->xs, XBT_NULL, path, &len);
	offers = word && !strcmp(word, "1");
	free(word);
	return offers;
}

/* Xen refuses what is on already. */
static int is_logged(struct suspend *s, bool *ret)
{
	if (xc_shadow_control(s->xch, s->domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0) <
	    0) {
		*ret = true;
		return errno == EINVAL ? 0 : -errno;
	}
	*ret = false;
	return xc_shadow_control(s->xch, s->domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0) < 0 ? -errno
											  : 0;
}

static bool is_marked(struct suspend *s)
{
	unsigned int len;
	char *word = xs_read(s->xs, XBT_NULL, s->mark, &len);
	bool marked = word && !strcmp(word, "0");

	free(word);
	return marked;
}

/* `xl migrate` has its writes followed, `xl save` has it suspended. */
static int is_moved(struct suspend *s, bool *ret)
{
	if (!is_suspended(s))
		return is_logged(s, ret);
	*ret = true;
	return 0;
}

/*
 * Port 0 is none. The guest's driver does not look there; older ones, that did, wrote it. Under
 * the mark it is an engine that has done so, be it one that died; without it somebody else has,
 * and would have a torn copy of the guest that we let run, or whose writes we take.
 */
static int keep_others_out(struct suspend *s, struct reason *why)
{
	bool moved = false;
	int r = is_marked(s) ? 0 : is_moved(s, &moved);

	if (r)
		return reason_set(why, -r, "the writes of domain %u cannot be followed: %s",
				  s->domid, strerror(-r));
	if (moved)
		return reason_set(why, EBUSY,
				  "domain %u is being saved or migrated by somebody else; protect "
				  "it when that has ended; if it broke off, `xl save -c %u "
				  "/dev/null` first",
				  s->domid, s->domid);
	s->keeps = xs_write(s->xs, XBT_NULL, s->mark, "0", 1);
	return s->keeps ? 0 : reason_set(why, EIO, "%s cannot be written", s->mark);
}

/* What is still followed the next engine takes up. */
static void let_others_in(struct suspend *s)
{
	bool logged;

	if (s->keeps && !is_logged(s, &logged) && !logged)
		xs_rm(s->xs, XBT_NULL, s->mark);
}

/*
 * The guest's end stays behind, unbound, when this process ends: Xen offers no way to close it.
 * The next one takes it again, else each would cost the guest one of its ports. Its number is
 * kept where the guest cannot write.
 */
static int bind_kept(struct suspend *s)
{
	unsigned int len = 0;
	char *word = xs_read(s->xs, XBT_NULL, s->kept, &len), *end = word;
	unsigned long port = word ? strtoul(word, &end, 10) : 0;

	if (end == word || *end || port > INT_MAX)
		port = 0;
	free(word);
	if (port)
		s->port = xenevtchn_bind_interdomain(s->evtchn, s->domid, (evtchn_port_t)port);
	return s->port < 0 ? 0 : (int)port;
}

static int bind_new(struct suspend *s)
{
	int port = xc_evtchn_alloc_unbound(s->xch, s->domid, 0);
	char word[16];

	if (port < 0)
		return -errno;
	snprintf(word, sizeof(word), "%d", port);
	if (!xs_write(s->xs, XBT_NULL, s->kept, word, (unsigned int)strlen(word)))
		return errno ? -errno : -EIO;
	s->port = xenevtchn_bind_interdomain(s->evtchn, s->domid, (evtchn_port_t)port);
	return s->port < 0 ? -errno : port;
}

static int subscribe(struct suspend *s)
{
	int fd = xenevtchn_fd(s->evtchn), port = bind_kept(s);

	if (!port)
		port = bind_new(s);
	if (port < 0)
		return port;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
		return -errno;
	return xc_domain_subscribe_for_suspend(s->xch, s->domid, (evtchn_port_t)port) ? -errno : 0;
}

static int open_all(struct suspend *s, struct reason *why)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(void, extended, &s->extended_buffer);
	int r;

	s->xs = xs_open(0);
	if (!s->xs)
		return reason_set(why, errno ? errno : EIO, "xenstore cannot be reached: %s",
				  strerror(errno));
	if (!offers_suspend(s))
		return reason_set(
			why, ENOTSUP,
			"the guest does not offer to suspend (control/feature-suspend): it "
			"has no PV drivers, or is not up yet");
	s->evtchn = xenevtchn_open(NULL, 0);
	if (!s->evtchn)
		return reason_set(why, errno ? errno : EIO, "no event channels: %s",
				  strerror(errno));
	extended = xc_hypercall_buffer_alloc_pages(s->xch, extended, EXTENDED_PAGES);
	s->extended = extended;
	if (!s->extended)
		return -ENOMEM;
	r = keep_others_out(s, why);
	if (r)
		return r;
	r = subscribe(s);
	return r ? reason_set(why, -r, "domain %u: its suspend cannot be subscribed to: %s",
			      s->domid, strerror(-r))
		 : 0;
}

int suspend_open(xc_interface *xch, uint32_t domid, struct suspend **ret, struct reason *why)
{
	struct suspend *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->xch = xch;
	s->domid = domid;
	s->port = -1;
	path_of(s, "shutdown", s->control, sizeof(s->control));
	snprintf(s->mark, sizeof(s->mark), "/local/domain/%u/device/suspend/event-channel", domid);
	snprintf(s->kept, sizeof(s->kept), "/local/domain/%u/pollux-suspend-port", domid);
	r = open_all(s, why);
	if (r)
		suspend_close(s);
	else
		*ret = s;
	return r;
}

/* Nobody would let it run on. */
static void await_late(struct suspend *s)
{
	struct pollfd p = { .fd = xenevtchn_fd(s->evtchn), .events = POLLIN };
	uint64_t now = clock_now_ns(), end = s->asked_ns + SUSPEND_NS;

	if (!s->asked_ns)
		return;
	if (!take_back(s) && !is_suspended(s) && now < end)
		poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1);
	if (is_suspended(s) && !suspend_resume(s))
		suspend_resumed(s);
}

static void free_extended(struct suspend *s)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(void, extended, &s->extended_buffer);

	if (s->extended)
		xc_hypercall_buffer_free_pages(s->xch, extended, EXTENDED_PAGES);
}

void suspend_close(struct suspend *s)
{
	if (!s)
		return;
	if (s->port >= 0) {
		await_late(s);
		xc_domain_subscribe_for_suspend(s->xch, s->domid, 0);
		xenevtchn_unbind(s->evtchn, (evtchn_port_t)s->port);
	}
	let_others_in(s);
	free_extended(s);
	if (s->evtchn)
		xenevtchn_close(s->evtchn);
	if (s->xs)
		xs_close(s->xs);
	free(s);
}

int suspend_fd(const struct suspend *s)
{
	return xenevtchn_fd(s->evtchn);
}
