/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the kernel's rtnetlink, several in one system call, without allocation once
 * the messages are built: so they can be sent while a VM stands still. Messages are built with
 * libnl; errors are the kernel's own errno, which libnl's would hide. One thread a handle.
 */
#ifndef POLLUX_NETBUF_NETLINK_H
#define POLLUX_NETBUF_NETLINK_H

#include <stddef.h>
#include <stdint.h>

#define NETLINK_BATCH_MAX 64u

struct netlink;
struct nl_msg;
struct nlmsghdr;

/* A reply that is no mere acknowledgement; `i` is the request's place in the batch. */
typedef void (*netlink_reply)(void *opaque, unsigned int i, const struct nlmsghdr *reply);

struct netlink_batch {
	struct nl_msg *msg[NETLINK_BATCH_MAX];
	int error[NETLINK_BATCH_MAX]; /* of each: 0 or -errno */
	unsigned int n;
	netlink_reply reply; /* or NULL */
	void *opaque;
};

int netlink_open(struct netlink **ret);
void netlink_close(struct netlink *nl);

/* Appends a request; the batch does not own it. */
void netlink_add(struct netlink_batch *b, struct nl_msg *msg);

/* Sends all and waits for the kernel, which does them in order. The first error of any, and all
 * in b->error; what the kernel did not answer has -EPROTO. */
int netlink_run(struct netlink *nl, struct netlink_batch *b);

/* One request, which is freed. A NULL one is the -ENOMEM of its builder. */
int netlink_do(struct netlink *nl, struct nl_msg *msg);

/* A dump: calls back for each part. The request is freed. */
int netlink_dump(struct netlink *nl, struct nl_msg *msg, netlink_reply reply, void *opaque);

/* A request with its fixed header; NULL: no memory. */
struct nl_msg *netlink_message(int type, int flags, const void *head, size_t len);

#endif
