/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Purpose: TCP with deadlines. Invariant: nothing here waits past its deadline, name
 * lookup by the system's resolver excepted. Threads: none of its own. Source: tcp(7).
 */
#include "ha/socket.h"

#include "base/clock.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define BUFFER_BYTES (4 << 20)
#define BACKLOG	     16

/* Milliseconds for poll(2), rounded up so that it cannot spin just before a deadline. */
static int poll_timeout(uint64_t deadline_ns)
{
	uint64_t now, left;

	if (!deadline_ns)
		return -1;
	now = clock_now_ns();
	left = deadline_ns > now ? (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
	return (int)MIN(left, (uint64_t)INT32_MAX);
}

int socket_wait(int fd, short events, int interrupt_fd, uint64_t deadline_ns, struct refusal *why)
{
	struct pollfd p[2] = {
		{ .fd = fd, .events = events },
		{ .fd = interrupt_fd, .events = POLLIN },
	};
	int n;

	for (;;) {
		n = poll(p, 2, poll_timeout(deadline_ns));
		if (n < 0 && errno != EINTR)
			return refusal_set(why, PROTO_INTERNAL, "poll: %s", strerror(errno));
		if (n > 0 && p[1].revents)
			return refusal_set(why, PROTO_INTERRUPTED, "told to stop waiting");
		if (n > 0)
			return 0;
		if (deadline_ns && clock_now_ns() >= deadline_ns)
			return refusal_set(why, PROTO_TIMED_OUT, "nothing before the deadline");
	}
}

void socket_tune(int fd)
{
	int on = 1, idle = PROTO_KEEPALIVE_S, count = 3, bytes = BUFFER_BYTES;
	unsigned timeout_ms = (unsigned)(PROTO_SEND_NS / NS_PER_MS);

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	/* Without the privilege the kernel's own tuning does better than SO_SNDBUF, which
	 * would end it and stop at net.core.wmem_max. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
}

/* One address: connected, or why not. */
static int dial_one(const struct addrinfo *ai, uint64_t deadline_ns, int *ret_fd,
		    struct refusal *why)
{
	cleanup_close int fd =
		socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = 0, r;
	socklen_t len = sizeof(err);

	if (fd < 0)
		return refusal_set(why, PROTO_CONNECT_FAILED, "socket: %s", strerror(errno));
	socket_tune(fd);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return refusal_set(why, PROTO_CONNECT_FAILED, "%s", strerror(errno));
		r = socket_wait(fd, POLLOUT, -1, deadline_ns, why);
		if (r < 0)
			return r;
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			return refusal_set(why, PROTO_CONNECT_FAILED, "%s", strerror(err));
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret,
		   struct refusal *why)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags,
	};
	char service[8];
	int r;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, ret);
	if (r)
		return refusal_set(why, PROTO_CONNECT_FAILED, "%s: %s", host, gai_strerror(r));
	return 0;
}

int socket_dial(const struct socket_address *to, uint64_t deadline_ns, int *ret_fd,
		struct refusal *why)
{
	struct addrinfo *list;
	struct refusal last = { 0 };
	int r;

	r = resolve(to->host, to->port, AI_ADDRCONFIG, &list, why);
	if (r < 0)
		return r;
	for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
		r = dial_one(ai, deadline_ns, ret_fd, &last);
		if (r == 0)
			break;
	}
	freeaddrinfo(list);
	/* The text begins with the code's name, which is put in front again. */
	if (r < 0)
		return refusal_set(why, last.code, "%s port %u: %.160s", to->host, to->port,
				   last.why.text + strlen(proto_code_name(last.code)) + 2);
	return 0;
}

static int listen_one(const struct addrinfo *ai, int *ret_fd, struct refusal *why)
{
	cleanup_close int fd =
		socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return refusal_set(why, PROTO_CONNECT_FAILED, "socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return refusal_set(why, PROTO_CONNECT_FAILED, "listen: %s", strerror(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

static int listen_host(const char *host, uint16_t port, int *ret_fd, struct refusal *why)
{
	struct addrinfo *list;
	int r = resolve(host, port, AI_PASSIVE, &list, why);

	if (r < 0)
		return r;
	r = listen_one(list, ret_fd, why);
	freeaddrinfo(list);
	return r;
}

int socket_listen(const struct socket_address *at, int *ret_fd, struct refusal *why)
{
	if (at->host)
		return listen_host(at->host, at->port, ret_fd, why);
	/* One socket for both families where the kernel has IPv6. */
	if (listen_host("::", at->port, ret_fd, NULL) == 0)
		return 0;
	return listen_host("0.0.0.0", at->port, ret_fd, why);
}

int socket_port(int fd, uint16_t *ret)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	if (ss.ss_family == AF_INET6)
		*ret = ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
	else if (ss.ss_family == AF_INET)
		*ret = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	else
		return -EAFNOSUPPORT;
	return 0;
}

int socket_accept(int listen_fd, int interrupt_fd, uint64_t deadline_ns, int *ret_fd,
		  struct refusal *why)
{
	int fd, r;

	for (;;) {
		fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			break;
		/* A caller that left again before we came is nobody's error. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return refusal_set(why, PROTO_CONNECT_FAILED, "accept: %s",
					   strerror(errno));
		r = socket_wait(listen_fd, POLLIN, interrupt_fd, deadline_ns, why);
		if (r < 0)
			return r;
	}
	socket_tune(fd);
	*ret_fd = fd;
	return 0;
}
