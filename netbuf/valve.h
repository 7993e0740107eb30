/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue in the kernel that holds frames until it is let go: an ifb device whose root qdisc is
 * sch_plug (linux/pkt_sched.h, TCQ_PLUG_*). A frame that tc redirects to the ifb waits in the
 * qdisc and, let go, is taken up again by the device from which it came, just behind the point
 * of the redirect: there the bridge sees it as if it had arrived now.
 *
 * A valve outlives the process that made it. The messages are built once: holding, letting go
 * and counting need no memory.
 */
#ifndef POLLUX_NETBUF_VALVE_H
#define POLLUX_NETBUF_VALVE_H

#include <stdint.h>

#include "base/err.h"

#define VALVE_NAME_ROOM 16u

struct netlink;
struct nl_msg;
struct nlmsghdr;

struct valve {
	char name[VALVE_NAME_ROOM];
	uint32_t ifindex; /* 0: none */
	struct nl_msg *hold, *let_go, *count;
};

struct valve_count {
	uint32_t frames; /* in the queue */
	uint32_t bytes;
	uint32_t drops; /* since it was made: frames beyond the limit */
};

/* Makes the device, or takes up one of that name; a new one holds from the start. */
int valve_open(struct netlink *nl, const char *name, uint32_t limit_bytes, struct valve *ret,
	       struct reason *why);
/* Lets go of the handle alone. */
void valve_close(struct valve *v);
/* The device goes, and what it holds with it, never to be emitted. */
int valve_remove(struct netlink *nl, struct valve *v);

/* Of the reply to `count`; zeros when it cannot be read. */
void valve_read_count(const struct nlmsghdr *reply, struct valve_count *ret);
/* Whether the device is up: while it is not, what is redirected to it is lost. */
bool valve_is_up(const struct valve *v); /* by ioctl: cheap */
int valve_up(struct netlink *nl, const struct valve *v);

#endif
