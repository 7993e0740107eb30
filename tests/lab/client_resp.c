/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redis's protocol, as little of it as the lab's client asks for, and connecting.
 * Source: the RESP2 specification at redis.io/docs/reference/protocol-spec.
 */
#include "tests/lab/client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"

/* The connection must live through an outage of any length a test has. */
#define USER_TIMEOUT_MS (15u * 60 * 1000)

uint64_t resp_number(const char *text, size_t len)
{
	uint64_t n = 0;

	if (len == 0 || len > 18)
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return 0;
		n = n * 10 + (uint64_t)(text[i] - '0');
	}
	return n;
}

static void reply_set(struct resp_reply *ret, enum resp_type type, const char *text, size_t len)
{
	ret->type = type;
	ret->nil = false;
	ret->len = MIN(len, RESP_VALUE_MAX);
	memcpy(ret->value, text, ret->len);
	ret->value[ret->len] = '\0';
}

static long parse_bulk(const char *buf, size_t len, size_t head, struct resp_reply *ret)
{
	size_t value = resp_number(buf + 1, head - 3);

	if (head == 5 && memcmp(buf, "$-1", 3) == 0) {
		reply_set(ret, RESP_BULK, "", 0);
		ret->nil = true;
		return (long)head;
	}
	if (value > RESP_VALUE_MAX || (value == 0 && buf[1] != '0'))
		return -EPROTO;
	if (len < head + value + 2)
		return 0;
	if (memcmp(buf + head + value, "\r\n", 2) != 0)
		return -EPROTO;
	reply_set(ret, RESP_BULK, buf + head, value);
	return (long)(head + value + 2);
}

long resp_parse(const char *buf, size_t len, struct resp_reply *ret)
{
	const char *end = memchr(buf, '\n', len);
	size_t head;

	if (!end)
		return len > 512 ? -EPROTO : 0;
	head = (size_t)(end - buf) + 1;
	if (head < 3 || end[-1] != '\r')
		return -EPROTO;
	switch (buf[0]) {
	case RESP_STATUS:
	case RESP_ERROR:
	case RESP_NUMBER:
		reply_set(ret, (enum resp_type)buf[0], buf + 1, head - 3);
		return (long)head;
	case RESP_BULK:
		return parse_bulk(buf, len, head, ret);
	}
	return -EPROTO;
}

static int connect_once(const struct client_options *opt, int wait_ms)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	unsigned int timeout = USER_TIMEOUT_MS;
	struct addrinfo *there;
	struct pollfd p;
	socklen_t len = sizeof(int);
	int one = 1, err = 0;
	cleanup_close int fd = -1;

	if (getaddrinfo(opt->host, opt->port, &hints, &there) != 0)
		return -EINVAL;
	fd = socket(there->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		freeaddrinfo(there);
		return -errno;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	if (connect(fd, there->ai_addr, there->ai_addrlen) < 0 && errno != EINPROGRESS)
		err = errno;
	freeaddrinfo(there);
	if (err)
		return -err;
	p = (struct pollfd){ .fd = fd, .events = POLLOUT };
	if (poll(&p, 1, wait_ms) <= 0)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err ? -err : take_fd(&fd);
}

int client_connect(const struct client_options *opt, uint64_t limit_ns)
{
	uint64_t until = clock_now_ns() + limit_ns;

	for (;;) {
		int fd = connect_once(opt, 5000);

		if (fd >= 0 || fd == -EINVAL)
			return fd;
		if (client_stop || clock_now_ns() > until)
			return fd;
		poll(NULL, 0, 200);
	}
}
