/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket is libnl's; what is sent and received on it is counted here: each request asks
 * for an acknowledgement and has a sequence number of its own.
 */
#include "netbuf/netlink.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include "base/err.h"

#define ANSWER_ROOM 16384u

struct netlink {
	struct nl_sock *sock;
	uint32_t seq; /* of the last request */
};

int netlink_open(struct netlink **ret)
{
	struct netlink *nl = calloc(1, sizeof(*nl));
	int one = 1;

	if (!nl)
		return -ENOMEM;
	nl->sock = nl_socket_alloc();
	if (!nl->sock || nl_connect(nl->sock, NETLINK_ROUTE) < 0) {
		netlink_close(nl);
		return -ENOTCONN;
	}
	/* Errors without a copy of the request: an answer is short. */
	setsockopt(nl_socket_get_fd(nl->sock), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	*ret = nl;
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	nl_socket_free(nl->sock);
	free(nl);
}

struct nl_msg *netlink_message(int type, int flags, const void *head, size_t len)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);

	if (msg && nlmsg_append(msg, (void *)(uintptr_t)head, len, NLMSG_ALIGNTO) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

void netlink_add(struct netlink_batch *b, struct nl_msg *msg)
{
	assert(b->n < NETLINK_BATCH_MAX && msg);
	b->msg[b->n++] = msg;
}

static int send_all(struct netlink *nl, struct netlink_batch *b)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct iovec part[NETLINK_BATCH_MAX];
	struct msghdr m = { .msg_name = &kernel,
			    .msg_namelen = sizeof(kernel),
			    .msg_iov = part,
			    .msg_iovlen = b->n };
	ssize_t n;

	for (unsigned int i = 0; i < b->n; i++) {
		struct nlmsghdr *h = nlmsg_hdr(b->msg[i]);

		h->nlmsg_seq = ++nl->seq;
		h->nlmsg_pid = 0;
		h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
		part[i] = (struct iovec){ h, NLMSG_ALIGN(h->nlmsg_len) };
		b->error[i] = -EPROTO;
	}
	do {
		n = sendmsg(nl_socket_get_fd(nl->sock), &m, 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* One message of an answer. True: a request is done. */
static bool take(struct netlink_batch *b, uint32_t first, const struct nlmsghdr *h)
{
	uint32_t i = h->nlmsg_seq - first;
	const struct nlmsgerr *e = NLMSG_DATA(h);

	if (i >= b->n)
		return false; /* of a call that was given up */
	if (h->nlmsg_type == NLMSG_DONE) {
		b->error[i] = 0;
		return true;
	}
	if (h->nlmsg_type != NLMSG_ERROR) {
		if (b->reply)
			b->reply(b->opaque, i, h);
		return false;
	}
	b->error[i] = h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) ? -EPROTO : e->error;
	return true;
}

int netlink_run(struct netlink *nl, struct netlink_batch *b)
{
	char answer[ANSWER_ROOM] __attribute__((aligned(NLMSG_ALIGNTO)));
	uint32_t first = nl->seq + 1;
	unsigned int done = 0;
	int r = send_all(nl, b);

	if (r)
		return r;
	while (done < b->n) {
		ssize_t n = recv(nl_socket_get_fd(nl->sock), answer, sizeof(answer), 0);
		unsigned int left = n < 0 ? 0 : (unsigned int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (struct nlmsghdr *h = (struct nlmsghdr *)answer; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left))
			done += take(b, first, h);
	}
	for (unsigned int i = 0; i < b->n; i++)
		if (b->error[i])
			return b->error[i];
	return 0;
}

int netlink_do(struct netlink *nl, struct nl_msg *msg)
{
	return netlink_dump(nl, msg, NULL, NULL);
}

int netlink_dump(struct netlink *nl, struct nl_msg *msg, netlink_reply reply, void *opaque)
{
	struct netlink_batch b = { .reply = reply, .opaque = opaque };
	int r;

	if (!msg)
		return -ENOMEM;
	netlink_add(&b, msg);
	r = netlink_run(nl, &b);
	nlmsg_free(msg);
	return r;
}
