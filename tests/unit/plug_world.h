/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of netbuf/plug.h on the real kernel, in a network namespace of their own: the guest
 * is who writes to two taps of a bridge, the LAN is who reads a third. Every frame says in which
 * epoch it was sent. What needs sch_plug is skipped where the kernel has none;
 * tests/lab/plug.sh runs these programs on a kernel that has it.
 */
#ifndef POLLUX_TESTS_PLUG_WORLD_H
#define POLLUX_TESTS_PLUG_WORLD_H

#include "tests/lib/test.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/err.h"
#include "netbuf/netbuf.h"
#include "netbuf/plug.h"

#define LIMIT	   (256u << 10)
#define NR_KINDS   6u
#define FRAME_ROOM 2048u

/* Whether this process and kernel could be asked at all. */
static char no_network[128], no_plug[256];

struct world {
	int guest[2], lan;
	struct netbuf *nb;
	struct plug_config config;
};

/* --- the network ---------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static int shell(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	return system(line);
}

static int open_tap(const char *name)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A namespace for each test: what one leaves behind disturbs no other. */
static int make_network(struct world *w)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	shell("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 2>/dev/null");
	w->guest[0] = open_tap("guest0");
	w->guest[1] = open_tap("guest1");
	w->lan = open_tap("lan");
	if (w->guest[0] < 0 || w->guest[1] < 0 || w->lan < 0)
		return -ENODEV;
	return shell("ip link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0 && "
		     "ip link set br0 up && for d in guest0 guest1 lan; do "
		     "ip link set $d master br0 up || exit 1; done")
		       ? -ENODEV
		       : 0;
}

/* --- frames --------------------------------------------------------------------------- */

/* IPv4, ARP, IPv6, a VLAN's, one of no known protocol, and the shortest there is. */
static size_t make_frame(unsigned int kind, uint8_t mark, uint8_t *ret)
{
	static const uint16_t types[NR_KINDS] = { 0x0800, 0x0806, 0x86dd, 0x8100, 0x9999, 0x9998 };
	size_t len = kind == NR_KINDS - 1 ? 15 : 120;

	memset(ret, 0, len);
	memset(ret, 0xff, 6);
	memcpy(ret + 6, "\x52\x54\x00\x77\x01\x00", 6);
	ret[12] = (uint8_t)(types[kind] >> 8);
	ret[13] = (uint8_t)types[kind];
	if (types[kind] == 0x8100)
		memcpy(ret + 14, "\x00\x07\x99\x99", 4);
	ret[len - 1] = mark;
	return len;
}

static inline void guest_sends(struct world *w, unsigned int nic, unsigned int kind, uint8_t mark)
{
	uint8_t frame[FRAME_ROOM];
	size_t len = make_frame(kind, mark, frame);

	assert_int_equal(write(w->guest[nic], frame, len), len);
}

/* The mark of the next frame on the LAN; -1: none came in so many ms. */
static int lan_hears(struct world *w, int patience_ms)
{
	struct pollfd p = { .fd = w->lan, .events = POLLIN };
	uint8_t frame[FRAME_ROOM];
	ssize_t n;

	do {
		if (poll(&p, 1, patience_ms) <= 0)
			return -1;
		n = read(w->lan, frame, sizeof(frame));
	} while (n <= 0 || memcmp(frame + 6, "\x52\x54\x00\x77\x01\x00", 6));
	return frame[n - 1];
}

static void lan_hears_only(struct world *w, const uint8_t *marks, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(lan_hears(w, 2000), marks[i]);
	assert_int_equal(lan_hears(w, 50), -1);
}

static inline void lan_hears_nothing(struct world *w)
{
	lan_hears_only(w, NULL, 0);
}

/* --- life ----------------------------------------------------------------------------- */

static int plug_open(struct world *w)
{
	struct reason why = { 0 };
	int r = netbuf_plug_open(&w->config, &w->nb, &why);

	if (r)
		print_message("%s\n", why.text);
	return r;
}

static inline int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	if (!w || no_plug[0])
		return 0;
	w->config = (struct plug_config){ .device = { "guest0", "guest1" },
					  .nr_devices = 2,
					  .look_ns = 5 * NS_PER_MS };
	if (make_network(w) || plug_open(w))
		return -1;
	return netbuf_start(w->nb, LIMIT);
}

static inline int teardown(void **state)
{
	struct world *w = *state;

	netbuf_close(w->nb);
	/* A frame that is held keeps its tap's socket, and that the namespace, for ever. */
	if (!no_plug[0])
		shell("for i in $(ip -br link | grep -o '^plug[0-9.]*'); do ip link del $i; done");
	if (w->lan)
		close(w->lan);
	for (unsigned int i = 0; i < 2; i++)
		if (w->guest[i])
			close(w->guest[i]);
	free(w);
	return 0;
}

static inline void need_plug(void)
{
	if (!no_plug[0])
		return;
	print_message("skipped: %s\n", no_plug);
	skip();
}

static inline unsigned int ours_left(void)
{
	return (unsigned int)shell("! ip -br link | grep ^plug && "
				   "! tc qdisc show | grep -E 'plug|clsact' && "
				   "! tc actions list action mirred | grep mirred");
}

static inline bool wait_for_notice(struct world *w, int patience_ms)
{
	struct pollfd p = { .fd = netbuf_output_fd(w->nb), .events = POLLIN };
	uint64_t until = clock_now_ns() + (uint64_t)patience_ms * NS_PER_MS;

	while (clock_now_ns() < until && poll(&p, 1, patience_ms) > 0)
		if (netbuf_output_waits(w->nb))
			return true;
	return false;
}

/* After a look at the queues that began now. */
static inline struct netbuf_stats stats_now(struct world *w)
{
	struct pollfd p = { .fd = netbuf_output_fd(w->nb), .events = POLLIN };
	struct netbuf_stats s = { 0 };

	for (unsigned int looks = 0; looks < 2; looks++) {
		assert_int_equal(poll(&p, 1, 10000), 1);
		netbuf_output_waits(w->nb);
	}
	assert_int_equal(netbuf_stats(w->nb, &s), 0);
	return s;
}

/* Asks the kernel once: with no device there is nothing to hold, only to find out. */
static inline void find_out(void)
{
	struct plug_config none = { .look_ns = NS_PER_MS };
	struct world w = { 0 };
	struct reason why = { "" };

	if (geteuid() || make_network(&w)) {
		snprintf(no_network, sizeof(no_network), "needs root, taps and a bridge");
		snprintf(no_plug, sizeof(no_plug), "%s", no_network);
		return;
	}
	if (netbuf_plug_open(&none, &w.nb, &why))
		snprintf(no_plug, sizeof(no_plug), "%s", why.text);
	netbuf_close(w.nb);
	close(w.lan);
	close(w.guest[0]);
	close(w.guest[1]);
}

#define on_plug(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
