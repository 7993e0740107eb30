/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter is of matchall, or of u32 with no key where the kernel lacks that; its action has a
 * number made of the device's, by which it is changed and found again.
 */
#include "netbuf/redirect.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <signal.h>
#include <stdio.h>

#include "netbuf/netlink.h"

#define NAME_FORMAT  "plug%u.%u" /* device, lane; or 0 and a process, for the probe's own */
#define PRIORITY     1u
#define ACTION_FIRST 0x706c0000u
#define INGRESS	     TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
#define EGRESS	     TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)

/* --- messages ------------------------------------------------------------------------- */

static int put_mirred(struct nl_msg *msg, const struct redirect *r, uint32_t target)
{
	struct tc_mirred parms = { .index = ACTION_FIRST + r->ifindex,
				   .action = TC_ACT_STOLEN,
				   .eaction = TCA_EGRESS_REDIR,
				   .ifindex = target };
	struct nlattr *first = nla_nest_start(msg, 1), *options;

	if (!first || nla_put_string(msg, TCA_ACT_KIND, "mirred"))
		return -ENOMEM;
	options = nla_nest_start(msg, TCA_ACT_OPTIONS);
	if (!options || nla_put(msg, TCA_MIRRED_PARMS, sizeof(parms), &parms))
		return -ENOMEM;
	nla_nest_end(msg, options);
	nla_nest_end(msg, first);
	return 0;
}

static struct nl_msg *turn_message(const struct redirect *r, uint32_t target)
{
	struct tcamsg head = { .tca_family = AF_UNSPEC };
	struct nl_msg *msg = netlink_message(RTM_NEWACTION, NLM_F_REPLACE, &head, sizeof(head));
	struct nlattr *tab = msg ? nla_nest_start(msg, TCA_ACT_TAB) : NULL;

	if (!tab || put_mirred(msg, r, target)) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, tab);
	return msg;
}

/* RTM_GETACTION, RTM_DELACTION: the action by its number. */
static struct nl_msg *action_message(int type, const struct redirect *r)
{
	struct tcamsg head = { .tca_family = AF_UNSPEC };
	struct nl_msg *msg = netlink_message(type, 0, &head, sizeof(head));
	struct nlattr *tab = msg ? nla_nest_start(msg, TCA_ACT_TAB) : NULL;
	struct nlattr *first = tab ? nla_nest_start(msg, 1) : NULL;

	if (!first || nla_put_string(msg, TCA_ACT_KIND, "mirred") ||
	    nla_put_u32(msg, TCA_ACT_INDEX, ACTION_FIRST + r->ifindex)) {
		nlmsg_free(msg);
		return NULL;
	}
	nla_nest_end(msg, first);
	nla_nest_end(msg, tab);
	return msg;
}

static struct tcmsg filter_head(const struct redirect *r)
{
	return (struct tcmsg){ .tcm_ifindex = (int)r->ifindex,
			       .tcm_parent = INGRESS,
			       .tcm_info = TC_H_MAKE(PRIORITY << 16, htons(ETH_P_ALL)) };
}

/* u32 without a key takes what matchall takes: a key would pass over frames too short for it. */
static struct nl_msg *filter_message(const struct redirect *r, bool u32, uint32_t target)
{
	struct tc_u32_sel everything = { .flags = TC_U32_TERMINAL };
	struct tcmsg head = filter_head(r);
	struct nl_msg *msg =
		netlink_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof(head));
	struct nlattr *options, *actions;

	if (!msg || nla_put_string(msg, TCA_KIND, u32 ? "u32" : "matchall"))
		goto err_free;
	options = nla_nest_start(msg, TCA_OPTIONS);
	if (!options || (u32 && nla_put(msg, TCA_U32_SEL, sizeof(everything), &everything)))
		goto err_free;
	actions = nla_nest_start(msg, u32 ? TCA_U32_ACT : TCA_MATCHALL_ACT);
	if (!actions || put_mirred(msg, r, target))
		goto err_free;
	nla_nest_end(msg, actions);
	nla_nest_end(msg, options);
	return msg;
err_free:
	nlmsg_free(msg);
	return NULL;
}

static struct nl_msg *qdisc_message(int type, int flags, const struct redirect *r)
{
	struct tcmsg head = { .tcm_ifindex = (int)r->ifindex,
			      .tcm_parent = TC_H_CLSACT,
			      .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0) };
	struct nl_msg *msg = netlink_message(type, flags, &head, sizeof(head));

	if (msg && type == RTM_NEWQDISC && nla_put_string(msg, TCA_KIND, "clsact")) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* --- the filter ----------------------------------------------------------------------- */

void redirect_read_sight(const struct nlmsghdr *reply, struct redirect_sight *ret)
{
	struct nlmsghdr *h = (struct nlmsghdr *)(uintptr_t)reply;
	struct nlattr *at = nlmsg_find_attr(h, sizeof(struct tcamsg), TCA_ACT_TAB);
	static const int path[] = { 1, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS };
	struct tc_mirred parms;

	*ret = (struct redirect_sight){ 0 };
	for (size_t i = 0; at && i < ARRAY_SIZE(path); i++)
		at = nla_find(nla_data(at), nla_len(at), path[i]);
	if (!at || nla_len(at) < (int)sizeof(parms))
		return;
	memcpy(&parms, nla_data(at), sizeof(parms));
	*ret = (struct redirect_sight){ .bound = parms.bindcnt > 0, .target = parms.ifindex };
}

static void see(void *opaque, unsigned int i, const struct nlmsghdr *reply)
{
	(void)i;
	redirect_read_sight(reply, opaque);
}

/* Not there is nothing seen. */
static struct redirect_sight look(struct netlink *nl, const struct redirect *r)
{
	struct redirect_sight sight = { 0 };

	netlink_dump(nl, action_message(RTM_GETACTION, r), see, &sight);
	return sight;
}

bool redirect_is_there(struct netlink *nl, const struct redirect *r)
{
	return look(nl, r).bound;
}

static int install(struct netlink *nl, const struct redirect *r, uint32_t target,
		   struct reason *why)
{
	int err = netlink_do(nl, qdisc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, r));

	if (err && err != -EEXIST)
		return reason_set(why, -err, "netbuf = plug: no clsact qdisc on %s: %s", r->device,
				  strerror(-err));
	/* One that lost its filter would be bound to again, with the target it had. */
	netlink_do(nl, action_message(RTM_DELACTION, r));
	err = netlink_do(nl, filter_message(r, false, target));
	if (err == -ENOENT)
		err = netlink_do(nl, filter_message(r, true, target));
	if (err)
		return reason_set(why, -err,
				  "netbuf = plug: the ingress of %s cannot be redirected "
				  "(cls_matchall or cls_u32, act_mirred): %s",
				  r->device, strerror(-err));
	return 0;
}

static void found_filter(void *opaque, unsigned int i, const struct nlmsghdr *reply)
{
	(void)i;
	*(bool *)opaque |= reply->nlmsg_type == RTM_NEWTFILTER;
}

static bool has_filters(struct netlink *nl, const struct redirect *r, uint32_t parent)
{
	struct tcmsg head = { .tcm_ifindex = (int)r->ifindex, .tcm_parent = parent };
	bool found = false;

	netlink_dump(nl, netlink_message(RTM_GETTFILTER, NLM_F_DUMP, &head, sizeof(head)),
		     found_filter, &found);
	return found;
}

int redirect_undo(struct netlink *nl, const struct redirect *r)
{
	struct tcmsg head = filter_head(r);
	int err = netlink_do(nl, netlink_message(RTM_DELTFILTER, 0, &head, sizeof(head)));

	/* No device, no qdisc, no filter: nothing is left to undo. */
	if (err && err != -ENODEV && err != -ENOENT && err != -EINVAL)
		return err;
	netlink_do(nl, action_message(RTM_DELACTION, r));
	if (!has_filters(nl, r, INGRESS) && !has_filters(nl, r, EGRESS))
		netlink_do(nl, qdisc_message(RTM_DELQDISC, 0, r));
	return 0;
}

/* --- the whole ------------------------------------------------------------------------ */

bool redirect_find(struct redirect *r)
{
	r->ifindex = if_nametoindex(r->device);
	return r->ifindex != 0;
}

bool redirect_exists(const struct redirect *r)
{
	char name[IF_NAMESIZE];

	return if_indextoname(r->ifindex, name) != NULL;
}

static int open_valve(struct netlink *nl, struct redirect *r, unsigned int lane, struct reason *why)
{
	char name[64];
	int err;

	snprintf(name, sizeof(name), NAME_FORMAT, r->ifindex, lane);
	if (strlen(name) >= VALVE_NAME_ROOM)
		return reason_set(why, ENAMETOOLONG, "netbuf = plug: %s is no name of a device",
				  name);
	err = valve_open(nl, name, r->limit_bytes, &r->valve[lane], why);
	if (err)
		return err;
	nlmsg_free(r->turn[lane]);
	r->turn[lane] = turn_message(r, r->valve[lane].ifindex);
	return r->turn[lane] ? 0 : -ENOMEM;
}

static unsigned int lane_of(const struct redirect *r, uint32_t ifindex)
{
	for (unsigned int i = 0; i < LANES; i++)
		if (r->valve[i].ifindex == ifindex)
			return i;
	return LANE_NONE;
}

int redirect_open(struct netlink *nl, struct redirect *ret, unsigned int *ret_open,
		  struct reason *why)
{
	struct redirect r = { .limit_bytes = ret->limit_bytes };
	struct redirect_sight sight;
	unsigned int open;
	int err = 0;

	memcpy(r.device, ret->device, sizeof(r.device));
	if (!redirect_find(&r))
		return reason_set(why, ENODEV, "netbuf = plug: there is no device %s", r.device);
	sight = look(nl, &r);
	for (unsigned int i = 0; i < LANES && !err; i++)
		err = open_valve(nl, &r, i, why);
	r.look = action_message(RTM_GETACTION, &r);
	if (!err && !r.look)
		err = -ENOMEM;
	open = sight.bound ? lane_of(&r, sight.target) : 0;
	if (!err && !sight.bound)
		err = install(nl, &r, r.valve[0].ifindex, why);
	/* Its lane was deleted, and has another number now. */
	else if (!err && open == LANE_NONE)
		err = netlink_do(nl, turn_message(&r, r.valve[open = 0].ifindex));
	if (err && !sight.bound) {
		redirect_undo(nl, &r);
		redirect_remove_valves(nl, &r);
	}
	if (err) {
		redirect_close(&r);
		return err;
	}
	*ret = r;
	*ret_open = open;
	return 0;
}

void redirect_close(struct redirect *r)
{
	for (unsigned int i = 0; i < LANES; i++) {
		valve_close(&r->valve[i]);
		nlmsg_free(r->turn[i]);
		r->turn[i] = NULL;
	}
	nlmsg_free(r->look);
	r->look = NULL;
}

int redirect_remove_valves(struct netlink *nl, struct redirect *r)
{
	int first = 0;

	for (unsigned int i = 0; i < LANES; i++) {
		struct valve *v = &r->valve[i];
		char name[64];
		int err;

		/* Perhaps of a process before this one. */
		snprintf(name, sizeof(name), NAME_FORMAT, r->ifindex, i);
		v->ifindex = if_nametoindex(name);
		err = valve_remove(nl, v);
		valve_close(v);
		first = first ? first : err;
	}
	return first;
}

int redirect_repair(struct netlink *nl, struct redirect *r, unsigned int open, bool *ret)
{
	struct redirect_sight sight;
	char name[IF_NAMESIZE];
	int err = 0;

	if (!redirect_exists(r))
		return -ENODEV;
	for (unsigned int i = 0; i < LANES && !err; i++) {
		struct valve *v = &r->valve[i];

		if (!if_indextoname(v->ifindex, name)) {
			valve_close(v);
			err = open_valve(nl, r, i, NULL);
		} else if (!valve_is_up(v)) {
			err = valve_up(nl, v);
		} else {
			continue;
		}
		*ret = true;
	}
	if (err)
		return err;
	sight = look(nl, r);
	if (sight.bound && sight.target == r->valve[open].ifindex)
		return 0;
	*ret = true;
	return sight.bound ? netlink_do(nl, turn_message(r, r->valve[open].ifindex))
			   : install(nl, r, r->valve[open].ifindex, NULL);
}

/* --- before and after ----------------------------------------------------------------- */

int redirect_probe(struct netlink *nl, struct reason *why)
{
	struct redirect scratch = { .limit_bytes = 65536 };
	struct valve v;
	char name[64];
	int err;

	snprintf(name, sizeof(name), NAME_FORMAT, 0u, (unsigned int)getpid());
	err = valve_open(nl, name, scratch.limit_bytes, &v, why);
	if (err)
		return err;
	/* Itself is as good a device as any. */
	memcpy(scratch.device, v.name, sizeof(scratch.device));
	scratch.ifindex = v.ifindex;
	err = install(nl, &scratch, v.ifindex, why);
	redirect_undo(nl, &scratch);
	valve_remove(nl, &v);
	return err;
}

void redirect_sweep(struct netlink *nl)
{
	struct if_nameindex *all = if_nameindex();
	char name[IF_NAMESIZE];
	unsigned int device, lane;
	int end;

	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		struct valve v = { .ifindex = i->if_index };

		if (sscanf(i->if_name, NAME_FORMAT "%n", &device, &lane, &end) != 2 ||
		    i->if_name[end])
			continue;
		if (device ? if_indextoname(device, name) != NULL : kill((pid_t)lane, 0) == 0)
			continue;
		valve_remove(nl, &v);
	}
	if_freenameindex(all);
}
