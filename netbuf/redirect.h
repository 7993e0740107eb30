/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's network device (a tap, a vif) whose every frame goes into one of its valves: what the
 * guest sends is what arrives at the device, so a filter at its ingress (clsact) takes every
 * frame, whatever its protocol, and redirects it (act_mirred) to the ifb of the lane that is
 * open. When that is gone or down the frame is dropped: none goes past.
 *
 * To turn is one change of the action's target, which the kernel makes at once: a frame is in
 * the one lane or in the other. All of it stays when its process dies. linux/pkt_cls.h,
 * linux/tc_act/tc_mirred.h.
 */
#ifndef POLLUX_NETBUF_REDIRECT_H
#define POLLUX_NETBUF_REDIRECT_H

#include "netbuf/lanes.h"
#include "netbuf/valve.h"

struct redirect {
	char device[VALVE_NAME_ROOM];
	uint32_t ifindex;
	uint32_t limit_bytes; /* of each valve */
	struct valve valve[LANES];
	struct nl_msg *turn[LANES];
	struct nl_msg *look;
};

/* Of the reply to `look`. */
struct redirect_sight {
	bool bound;	 /* the filter is there */
	uint32_t target; /* ifindex of the ifb */
};

/* Whether this kernel and this process can do all that follows; changes nothing that stays. */
int redirect_probe(struct netlink *nl, struct reason *why);

/* The device's number, from its name; false: there is none. And whether it is there still. */
bool redirect_find(struct redirect *r);
bool redirect_exists(const struct redirect *r);

/* Whether its frames are redirected, by whatever process. */
bool redirect_is_there(struct netlink *nl, const struct redirect *r);

/* Makes what is missing, or takes up what a process before has left; `*ret_open` is the lane
 * that frames go to. On failure nothing that was made stays. */
int redirect_open(struct netlink *nl, struct redirect *ret, unsigned int *ret_open,
		  struct reason *why);
/* Lets go of the handle alone. */
void redirect_close(struct redirect *r);

/* The filter and, with it the last, the qdisc: from here on frames go as if it never was. */
int redirect_undo(struct netlink *nl, const struct redirect *r);
/* All valves, with what they hold. While the filter is there every frame is dropped. */
int redirect_remove_valves(struct netlink *nl, struct redirect *r);
/* What was deleted or set down under us is made anew. True in *ret: something was. */
int redirect_repair(struct netlink *nl, struct redirect *r, unsigned int open, bool *ret);

void redirect_read_sight(const struct nlmsghdr *reply, struct redirect_sight *ret);

/* Valves whose device is gone are removed: their process was killed, their VM is no more. */
void redirect_sweep(struct netlink *nl);

#endif
