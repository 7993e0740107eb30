/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/xen/suspend.h against a stand-in for Xen, xenstored and the guest. Like Xen it forgets the
 * extended state of a processor whose context is set; like Linux the guest takes the word from
 * xenstore before it suspends.
 */
#include "tests/lib/test.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xenstore.h>

#include "base/clock.h"
#include "ha/xen/suspend.h"

#define DOMID	   7u
#define GUEST_PORT 21
#define OUR_PORT   4

static struct world {
	bool offers, suspended, paused, no_extended, marked, logged;
	bool slow_late; /* it has read the word, and suspends while somebody waits for it */
	char control[16], kept[16];
	unsigned int ports; /* of the guest that were taken */
	uint64_t now_ns, mask, extended[72];
	uint64_t rax;
	int subscribed;
	int event_fd;
	unsigned int resumed, told_xenstored, transactions;
} world;

/* --- Xen ---------------------------------------------------------------------------- */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	*ts = (struct timespec){ .tv_sec = (time_t)(world.now_ns / NS_PER_S),
				 .tv_nsec = (long)(world.now_ns % NS_PER_S) };
	return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
	(void)xch;
	(void)max;
	memset(info, 0, sizeof(*info));
	info->domid = first;
	info->hvm = 1;
	info->paused = world.paused;
	info->shutdown = world.suspended;
	info->shutdown_reason = world.suspended ? SHUTDOWN_suspend : 0;
	return 1;
}

int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned int op, unsigned int *mb,
		      unsigned int mode)
{
	bool on = op == XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY;

	(void)xch;
	(void)mb;
	(void)mode;
	assert_int_equal(domid, DOMID);
	assert_true(on || op == XEN_DOMCTL_SHADOW_OP_OFF);
	errno = EINVAL;
	if (on == world.logged)
		return -1;
	world.logged = on;
	return 0;
}

int xc_vcpu_getcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu,
		       vcpu_guest_context_any_t *context)
{
	(void)xch;
	assert_int_equal(domid, DOMID);
	assert_int_equal(vcpu, 0);
	memset(context, 0x5a, sizeof(*context));
	context->x64.user_regs.rax = world.rax;
	return 0;
}

int xc_vcpu_setcontext(xc_interface *xch, uint32_t domid, uint32_t vcpu,
		       vcpu_guest_context_any_t *context)
{
	(void)xch;
	(void)domid;
	(void)vcpu;
	assert_true(world.suspended);
	world.rax = context->x64.user_regs.rax;
	memset(world.extended, 0, sizeof(world.extended));
	return 0;
}

static int extended(struct xen_domctl *call, bool set)
{
	struct xen_domctl_vcpuextstate *e = &call->u.vcpuextstate;

	if (world.no_extended) {
		e->size = 0;
		return 0;
	}
	if (!set && !e->size && !e->xfeature_mask) {
		e->size = sizeof(world.extended);
		e->xfeature_mask = world.mask;
		return 0;
	}
	assert_int_equal(e->size, sizeof(world.extended));
	assert_int_equal(e->xfeature_mask, world.mask);
	if (set)
		memcpy(world.extended, e->buffer.p, e->size);
	else
		memcpy(e->buffer.p, world.extended, e->size);
	return 0;
}

int xc_domctl(xc_interface *xch, struct xen_domctl *call)
{
	(void)xch;
	assert_int_equal(call->domain, DOMID);
	if (call->cmd == XEN_DOMCTL_getvcpuextstate || call->cmd == XEN_DOMCTL_setvcpuextstate)
		return extended(call, call->cmd == XEN_DOMCTL_setvcpuextstate);
	assert_int_equal(call->cmd, XEN_DOMCTL_resumedomain);
	assert_true(world.suspended);
	assert_int_equal(world.rax, 1);
	world.suspended = false;
	world.resumed++;
	return 0;
}

void *xc__hypercall_buffer_alloc_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int pages)
{
	(void)xch;
	b->hbuf = calloc((size_t)pages, XC_PAGE_SIZE);
	return b->hbuf;
}

void xc__hypercall_buffer_free_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int pages)
{
	(void)xch;
	(void)pages;
	free(b->hbuf);
}

xc_evtchn_port_or_error_t xc_evtchn_alloc_unbound(xc_interface *xch, uint32_t dom, uint32_t remote)
{
	(void)xch;
	assert_int_equal(dom, DOMID);
	assert_int_equal(remote, 0);
	world.ports++;
	return GUEST_PORT;
}

int xc_domain_subscribe_for_suspend(xc_interface *xch, uint32_t domid, evtchn_port_t port)
{
	(void)xch;
	(void)domid;
	world.subscribed = (int)port;
	return 0;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
	(void)logger;
	(void)flags;
	world.event_fd = eventfd(0, EFD_CLOEXEC);
	return (xenevtchn_handle *)&world;
}

int xenevtchn_close(xenevtchn_handle *h)
{
	(void)h;
	return close(world.event_fd);
}

int xenevtchn_fd(xenevtchn_handle *h)
{
	(void)h;
	return world.event_fd;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid,
						     evtchn_port_t remote)
{
	(void)h;
	assert_int_equal(domid, DOMID);
	assert_int_equal(remote, GUEST_PORT);
	return OUR_PORT;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
	eventfd_t ignored;

	(void)h;
	return eventfd_read(world.event_fd, &ignored) ? -1 : OUR_PORT;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port)
{
	(void)h;
	assert_int_equal(port, OUR_PORT);
	return 0;
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t port)
{
	(void)h;
	assert_int_equal(port, OUR_PORT);
	return 0;
}

/* --- xenstored ---------------------------------------------------------------------- */

struct xs_handle *xs_open(unsigned long flags)
{
	(void)flags;
	return (struct xs_handle *)&world;
}

void xs_close(struct xs_handle *xs)
{
	(void)xs;
}

void *xs_read(struct xs_handle *xs, xs_transaction_t t, const char *path, unsigned int *len)
{
	const char *value = world.control;

	(void)xs;
	(void)t;
	if (strstr(path, "/7/control/feature-suspend"))
		value = world.offers ? "1" : NULL;
	if (strstr(path, "/7/device/suspend/event-channel"))
		value = world.marked ? "0" : NULL;
	if (strstr(path, "/7/pollux-suspend-port"))
		value = world.kept[0] ? world.kept : NULL;
	if (value)
		*len = (unsigned int)strlen(value);
	return value ? strdup(value) : NULL;
}

bool xs_write(struct xs_handle *xs, xs_transaction_t t, const char *path, const void *data,
	      unsigned int len)
{
	(void)xs;
	(void)t;
	if (!strcmp(path, "/local/domain/7/device/suspend/event-channel")) {
		assert_memory_equal(data, "0", len);
		return world.marked = true;
	}
	if (!strcmp(path, "/local/domain/7/pollux-suspend-port")) {
		snprintf(world.kept, sizeof(world.kept), "%.*s", (int)len, (const char *)data);
		return true;
	}
	assert_string_equal(path, "/local/domain/7/control/shutdown");
	snprintf(world.control, sizeof(world.control), "%.*s", (int)len, (const char *)data);
	return true;
}

bool xs_rm(struct xs_handle *xs, xs_transaction_t t, const char *path)
{
	(void)xs;
	(void)t;
	assert_string_equal(path, "/local/domain/7/device/suspend/event-channel");
	world.marked = false;
	return true;
}

xs_transaction_t xs_transaction_start(struct xs_handle *xs)
{
	(void)xs;
	return ++world.transactions;
}

/* The first of two meets with somebody else's. */
bool xs_transaction_end(struct xs_handle *xs, xs_transaction_t t, bool abort)
{
	(void)xs;
	assert_false(abort);
	errno = EAGAIN;
	return t % 2 == 0;
}

bool xs_resume_domain(struct xs_handle *xs, unsigned int domid)
{
	(void)xs;
	assert_int_equal(domid, DOMID);
	world.told_xenstored++;
	return true;
}

/* --- the guest ---------------------------------------------------------------------- */

static void guest_reads(void)
{
	world.control[0] = 0;
}

static void guest_suspends(void)
{
	world.suspended = true;
	world.rax = 0;
	if (world.subscribed)
		eventfd_write(world.event_fd, 1);
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	(void)n;
	assert_in_range(timeout, 29000, 31000); /* what the guest may take, less what it took */
	assert_int_equal(fds->fd, world.event_fd);
	if (world.slow_late)
		guest_suspends();
	return world.slow_late;
}

static struct suspend *begin(void)
{
	struct reason why;
	struct suspend *s;

	world = (struct world){ .offers = true, .mask = 7, .now_ns = NS_PER_S };
	for (unsigned int i = 0; i < ARRAY_SIZE(world.extended); i++)
		world.extended[i] = i * 0x0101010101010101u;
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), 0);
	assert_int_equal(world.subscribed, GUEST_PORT);
	assert_true(world.marked);
	return s;
}

static void end(struct suspend *s)
{
	suspend_close(s);
	assert_int_equal(world.subscribed, 0);
	assert_false(world.marked);
}

/* --- tests -------------------------------------------------------------------------- */

static void test_stop_and_go_on(void **state)
{
	struct suspend *s = begin();

	(void)state;
	for (unsigned int i = 1; i <= 3; i++) {
		assert_int_equal(suspend_look(s), -EINPROGRESS);
		assert_int_equal(suspend_ask(s), 0);
		assert_string_equal(world.control, "suspend");
		assert_int_equal(suspend_look(s), -EINPROGRESS);
		guest_reads();
		guest_suspends();
		assert_int_equal(suspend_look(s), 0);
		assert_int_equal(suspend_resume(s), 0);
		suspend_resumed(s);
		assert_int_equal(world.resumed, i);
		assert_int_equal(world.told_xenstored, i);
	}
	end(s);
}

/* What Xen forgets at the return value is put back, or there is none. */
static void test_extended_state(void **state)
{
	struct suspend *s = begin();

	(void)state;
	guest_suspends();
	assert_int_equal(suspend_resume(s), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(world.extended); i++)
		assert_int_equal(world.extended[i], i * 0x0101010101010101u);
	world.no_extended = true;
	guest_suspends();
	assert_int_equal(suspend_resume(s), 0);
	assert_int_equal(world.resumed, 2);
	end(s);
}

static void test_guest_that_cannot(void **state)
{
	struct suspend *s = NULL;
	struct reason why;

	(void)state;
	world = (struct world){ 0 };
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), -ENOTSUP);
	assert_non_null(strstr(why.text, "control/feature-suspend"));
	assert_null(s);
}

/* `xl save` or `xl migrate` is at it. Not so what an engine has left, by its mark. */
static void test_moved_by_others(void **state)
{
	struct suspend *s = NULL;
	struct reason why;

	(void)state;
	world = (struct world){ .offers = true, .mask = 7, .now_ns = NS_PER_S, .logged = true };
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), -EBUSY);
	assert_non_null(strstr(why.text, "domain 7 is being saved or migrated"));
	assert_true(world.logged);
	assert_false(world.marked);
	world.logged = false;
	world.suspended = true;
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), -EBUSY);
	assert_false(world.marked);
	assert_int_equal(world.resumed, 0);
	world.logged = true;
	world.suspended = false;

	world.marked = true;
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), 0);
	assert_true(world.logged);
	suspend_close(s);
	assert_true(world.marked); /* the next engine's */
	assert_int_equal(suspend_open(NULL, DOMID, &s, &why), 0);
	assert_int_equal(world.ports, 1); /* the one that the engine before had */
	world.logged = false;
	end(s);
	assert_false(world.logged);
}

static void test_guest_that_does_not(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	world.now_ns += 29 * NS_PER_S;
	assert_int_equal(suspend_look(s), -EINPROGRESS);
	world.now_ns += 2 * NS_PER_S;
	assert_int_equal(suspend_look(s), -ETIMEDOUT);
	assert_string_equal(world.control, ""); /* nor will it, later */
	assert_int_equal(suspend_look(s), -EINPROGRESS);
	end(s);
	assert_int_equal(world.resumed, 0);
}

/* `xl pause` is no failure of the guest's: its time begins anew when it may run. */
static void test_guest_that_is_paused(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	world.paused = true;
	for (unsigned int i = 0; i < 100; i++) {
		world.now_ns += 17 * NS_PER_S;
		assert_int_equal(suspend_look(s), -EINPROGRESS);
	}
	world.paused = false;
	world.now_ns += 2 * NS_PER_S;
	assert_int_equal(suspend_look(s), -EINPROGRESS);
	guest_reads();
	guest_suspends();
	assert_int_equal(suspend_look(s), 0);
	assert_int_equal(suspend_resume(s), 0);
	end(s);
}

/* It had begun, and is found suspended when nobody asks any more. */
static void test_guest_that_is_late(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	guest_reads();
	world.now_ns += 31 * NS_PER_S;
	assert_int_equal(suspend_look(s), -ETIMEDOUT);
	guest_suspends();
	assert_int_equal(suspend_look(s), 0);
	assert_int_equal(suspend_resume(s), 0);
	end(s);
	assert_int_equal(world.resumed, 1);
}

/* `xl reboot` came first: the guest reads that, and ends. */
static void test_word_of_others(void **state)
{
	struct suspend *s = begin();

	(void)state;
	strcpy(world.control, "reboot");
	assert_int_equal(suspend_ask(s), 0);
	assert_string_equal(world.control, "reboot");
	assert_int_equal(suspend_look(s), -EINPROGRESS);
	assert_string_equal(world.control, "reboot");
	guest_reads();
	assert_int_equal(suspend_look(s), -EINPROGRESS);
	assert_string_equal(world.control, "suspend");
	end(s);
	assert_string_equal(world.control, "");

	s = begin();
	strcpy(world.control, "poweroff");
	assert_int_equal(suspend_ask(s), 0);
	end(s); /* what was not ours is not taken back */
	assert_string_equal(world.control, "poweroff");
}

/* An `xl save` that gives up lets the guest run, whoever suspended it. */
static void test_resumed_by_others(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	guest_reads();
	guest_suspends();
	assert_int_equal(suspend_look(s), 0);
	world.suspended = false;
	assert_int_equal(suspend_resume(s), -ESTALE);
	assert_int_equal(world.resumed, 0);
	end(s);
}

static void test_close_while_asked(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	end(s); /* it had not read the word */
	assert_string_equal(world.control, "");
	assert_int_equal(world.resumed, 0);

	s = begin();
	assert_int_equal(suspend_ask(s), 0);
	guest_reads();
	world.slow_late = true;
	end(s);
	assert_int_equal(world.resumed, 1);
	assert_false(world.suspended);
}

/* One that stands still for good is not let go by the end of who looks after it. */
static void test_close_while_still(void **state)
{
	struct suspend *s = begin();

	(void)state;
	assert_int_equal(suspend_ask(s), 0);
	guest_reads();
	guest_suspends();
	assert_int_equal(suspend_look(s), 0);
	end(s);
	assert_true(world.suspended);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stop_and_go_on),
		cmocka_unit_test(test_extended_state),
		cmocka_unit_test(test_guest_that_cannot),
		cmocka_unit_test(test_moved_by_others),
		cmocka_unit_test(test_guest_that_does_not),
		cmocka_unit_test(test_guest_that_is_paused),
		cmocka_unit_test(test_guest_that_is_late),
		cmocka_unit_test(test_word_of_others),
		cmocka_unit_test(test_resumed_by_others),
		cmocka_unit_test(test_close_while_asked),
		cmocka_unit_test(test_close_while_still),
	};

	return test_main(tests);
}
