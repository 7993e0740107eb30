/* SPDX-License-Identifier: Apache-2.0 */
#include "netbuf/valve.h"

#include <fcntl.h>
#include <linux/gen_stats.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netbuf/netlink.h"

/* So that ours is told from any other: its letters are "pl". */
#define PLUG_HANDLE TC_HANDLE(0x706c, 0)

static struct nl_msg *link_message(int type, int flags, uint32_t ifindex, unsigned int up)
{
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)ifindex,
				  .ifi_flags = up,
				  .ifi_change = up };

	return netlink_message(type, flags, &head, sizeof(head));
}

static int create_ifb(struct netlink *nl, const char *name)
{
	struct nl_msg *msg = link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
	struct nlattr *info;

	if (!msg)
		return -ENOMEM;
	if (nla_put_string(msg, IFLA_IFNAME, name) ||
	    !(info = nla_nest_start(msg, IFLA_LINKINFO)) ||
	    nla_put_string(msg, IFLA_INFO_KIND, "ifb")) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	nla_nest_end(msg, info);
	return netlink_do(nl, msg);
}

/* Else the host itself would speak into it as soon as it is up. Without IPv6 there is no file. */
static void silence_ipv6(const char *name)
{
	char path[96];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) < 0)
		return;
}

static struct nl_msg *plug_message(const struct valve *v, int flags,
				   int (*action)(struct rtnl_qdisc *, uint32_t), uint32_t value)
{
	struct rtnl_qdisc *qdisc = rtnl_qdisc_alloc();
	struct rtnl_tc *tc = TC_CAST(qdisc);
	struct nl_msg *msg = NULL;

	if (!qdisc)
		return NULL;
	rtnl_tc_set_ifindex(tc, (int)v->ifindex);
	rtnl_tc_set_parent(tc, TC_H_ROOT);
	rtnl_tc_set_handle(tc, PLUG_HANDLE);
	if (rtnl_tc_set_kind(tc, "plug") < 0 || action(qdisc, value) < 0 ||
	    rtnl_qdisc_build_add_request(qdisc, flags, &msg) < 0)
		msg = NULL;
	rtnl_qdisc_put(qdisc);
	return msg;
}

static int set_limit(struct rtnl_qdisc *qdisc, uint32_t bytes)
{
	return rtnl_qdisc_plug_set_limit(qdisc, (int)bytes);
}

static int set_buffer(struct rtnl_qdisc *qdisc, uint32_t unused)
{
	(void)unused;
	return rtnl_qdisc_plug_buffer(qdisc);
}

static int set_release(struct rtnl_qdisc *qdisc, uint32_t unused)
{
	(void)unused;
	return rtnl_qdisc_plug_release_indefinite(qdisc);
}

static struct nl_msg *count_message(const struct valve *v)
{
	struct tcmsg head = { .tcm_ifindex = (int)v->ifindex,
			      .tcm_parent = TC_H_ROOT,
			      .tcm_handle = PLUG_HANDLE };

	/* Without ECHO the answer would go to listeners alone. */
	return netlink_message(RTM_GETQDISC, NLM_F_ECHO, &head, sizeof(head));
}

static int prepare(struct valve *v)
{
	v->hold = plug_message(v, 0, set_buffer, 0);
	v->let_go = plug_message(v, 0, set_release, 0);
	v->count = count_message(v);
	return v->hold && v->let_go && v->count ? 0 : -ENOMEM;
}

/* A device that was there may have a plug with frames in it, or none yet. */
static int plug(struct netlink *nl, const struct valve *v, uint32_t limit)
{
	int r = netlink_do(nl, plug_message(v, NLM_F_CREATE | NLM_F_EXCL, set_limit, limit));

	return r == -EEXIST ? netlink_do(nl, plug_message(v, 0, set_limit, limit)) : r;
}

static int refuse(struct reason *why, int r, const char *what, const char *name)
{
	if (r == -EPERM)
		return reason_set(why, EPERM, "netbuf = plug needs CAP_NET_ADMIN: %s", what);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return reason_set(why, -r, "netbuf = plug: %s", what);
	return reason_set(why, -r, "netbuf = plug: %s: %s: %s", name, what, strerror(-r));
}

int valve_open(struct netlink *nl, const char *name, uint32_t limit_bytes, struct valve *ret,
	       struct reason *why)
{
	struct valve v = { 0 };
	int r = create_ifb(nl, name);
	bool made = !r;

	if (r && r != -EEXIST)
		return refuse(why, r,
			      r == -EOPNOTSUPP ? "this kernel has no ifb device"
					       : "no ifb device can be made",
			      name);
	snprintf(v.name, sizeof(v.name), "%s", name);
	v.ifindex = if_nametoindex(name);
	silence_ipv6(name);
	r = v.ifindex ? plug(nl, &v, limit_bytes) : -ENODEV;
	if (r) {
		refuse(why, r, r == -ENOENT ? "this kernel has no sch_plug" : "sch_plug refuses",
		       name);
		goto err_remove;
	}
	r = valve_up(nl, &v);
	if (!r)
		r = prepare(&v);
	if (r) {
		refuse(why, r, "the ifb device does not go up", name);
		goto err_remove;
	}
	*ret = v;
	return 0;
err_remove:
	if (made)
		valve_remove(nl, &v);
	valve_close(&v);
	return r;
}

void valve_close(struct valve *v)
{
	nlmsg_free(v->hold);
	nlmsg_free(v->let_go);
	nlmsg_free(v->count);
	*v = (struct valve){ 0 };
}

int valve_remove(struct netlink *nl, struct valve *v)
{
	int r = v->ifindex ? netlink_do(nl, link_message(RTM_DELLINK, 0, v->ifindex, 0)) : 0;

	if (r && r != -ENODEV)
		return r;
	valve_close(v);
	return 0;
}

void valve_read_count(const struct nlmsghdr *reply, struct valve_count *ret)
{
	struct nlmsghdr *h = (struct nlmsghdr *)(uintptr_t)reply;
	struct nlattr *stats = nlmsg_find_attr(h, sizeof(struct tcmsg), TCA_STATS2);
	struct nlattr *queue =
		stats ? nla_find(nla_data(stats), nla_len(stats), TCA_STATS_QUEUE) : NULL;
	struct gnet_stats_queue q;

	*ret = (struct valve_count){ 0 };
	if (!queue || nla_len(queue) < (int)sizeof(q))
		return;
	memcpy(&q, nla_data(queue), sizeof(q));
	*ret = (struct valve_count){ .frames = q.qlen, .bytes = q.backlog, .drops = q.drops };
}

bool valve_is_up(const struct valve *v)
{
	cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", v->name);
	return sock >= 0 && ioctl(sock, SIOCGIFFLAGS, &ifr) == 0 && ifr.ifr_flags & IFF_UP;
}

int valve_up(struct netlink *nl, const struct valve *v)
{
	return netlink_do(nl, link_message(RTM_NEWLINK, 0, v->ifindex, IFF_UP));
}
