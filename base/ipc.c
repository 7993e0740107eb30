/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ipc.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/err.h"

#define IPC_BACKLOG 64
#define IPC_GROW    4096u

struct buffer {
	char *data;
	size_t len, room;
};

struct ipc {
	int fd;
	struct buffer in, out;
	size_t given;	/* bytes of `in` that the caller has seen: dropped at the next call */
	size_t scanned; /* bytes of `in` known to hold no NUL */
};

static int buffer_reserve(struct buffer *b, size_t more)
{
	size_t room = b->room;
	char *data;

	while (room < b->len + more)
		room = room ? room * 2 : IPC_GROW;
	if (room == b->room)
		return 0;
	data = realloc(b->data, room);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->room = room;
	return 0;
}

static void buffer_drop(struct buffer *b, size_t n)
{
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

static int address_of(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	memcpy(ret->sun_path, path, strlen(path) + 1);
	return 0;
}

/* Whether a process answers: a socket file outlives its process. */
static bool somebody_listens(const struct sockaddr_un *at)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && (!connect(fd, (const struct sockaddr *)at, sizeof(*at)) ||
			   errno == EAGAIN || errno == EPROTOTYPE);
}

int ipc_listen(const char *path, mode_t mode, int *ret_fd)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un at;
	int r;

	if (fd < 0)
		return -errno;
	r = address_of(path, &at);
	if (r < 0)
		return r;
	if (somebody_listens(&at))
		return -EADDRINUSE;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -errno;
	/* Between bind and listen nobody can connect: the mode is in force from the start. */
	if (chmod(path, mode) < 0 || listen(fd, IPC_BACKLOG) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int ipc_open(int fd, struct ipc **ret)
{
	cleanup_close int owned = fd;
	struct ipc *c;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = take_fd(&owned);
	*ret = c;
	return 0;
}

int ipc_accept(int listen_fd, struct ipc **ret, struct ucred *ret_peer)
{
	cleanup_close int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int r;

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	r = ipc_open(take_fd(&fd), ret);
	if (!r && ret_peer)
		*ret_peer = peer;
	return r;
}

/* Milliseconds for poll(2), rounded up so that it never spins at the end; -1 without
 * a deadline. */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns();

	if (!deadline_ns)
		return -1;
	if (now >= deadline_ns)
		return 0;
	return (int)MIN((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS, UINT64_C(1) << 30);
}

int ipc_connect(const char *path, uint64_t deadline_ns, struct ipc **ret)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at;
	struct timeval wait;
	int r, ms = left_ms(deadline_ns);

	if (fd < 0)
		return -errno;
	r = address_of(path, &at);
	if (r < 0)
		return r;
	/* Only a full backlog makes connect(2) wait here; a send timeout bounds that. */
	ms = ms == 0 ? 1 : ms;
	if (ms > 0) {
		wait = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
		if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
			return -errno;
	}
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return ipc_open(take_fd(&fd), ret);
}

void ipc_close(struct ipc *c)
{
	if (!c)
		return;
	close(c->fd);
	free(c->in.data);
	free(c->out.data);
	free(c);
}

int ipc_fd(const struct ipc *c)
{
	return c->fd;
}

bool ipc_wants_write(const struct ipc *c)
{
	return c->out.len > 0;
}

int ipc_flush(struct ipc *c)
{
	size_t sent = 0;
	int r = 0;

	while (sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + sent, c->out.len - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = errno == EAGAIN ? 0 : -errno;
			break;
		}
		sent += (size_t)n;
	}
	if (sent)
		buffer_drop(&c->out, sent);
	return r;
}

int ipc_send(struct ipc *c, const char *message)
{
	size_t len = strlen(message) + 1;
	int r;

	if (len > IPC_MESSAGE_MAX)
		return -EMSGSIZE;
	if (c->out.len + len > IPC_QUEUE_MAX)
		return -ENOBUFS;
	r = buffer_reserve(&c->out, len);
	if (r < 0)
		return r;
	memcpy(c->out.data + c->out.len, message, len);
	c->out.len += len;
	return ipc_flush(c);
}

static bool take_message(struct ipc *c, const char **ret)
{
	char *nul = NULL;

	if (c->in.len > c->scanned)
		nul = memchr(c->in.data + c->scanned, '\0', c->in.len - c->scanned);
	if (!nul) {
		c->scanned = c->in.len;
		return false;
	}
	c->given = (size_t)(nul + 1 - c->in.data);
	c->scanned = 0;
	*ret = c->in.data;
	return true;
}

int ipc_receive(struct ipc *c, const char **ret)
{
	if (c->given) {
		buffer_drop(&c->in, c->given);
		c->given = 0;
	}
	while (!take_message(c, ret)) {
		ssize_t n;
		int r;

		if (c->in.len >= IPC_MESSAGE_MAX)
			return -EMSGSIZE;
		r = buffer_reserve(&c->in, IPC_GROW);
		if (r < 0)
			return r;
		n = recv(c->fd, c->in.data + c->in.len,
			 MIN(c->in.room - c->in.len, IPC_MESSAGE_MAX - c->in.len), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		c->in.len += (size_t)n;
	}
	return 0;
}

static int wait_ready(struct ipc *c, short events, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int n = poll(&p, 1, left_ms(deadline_ns));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

int ipc_drain(struct ipc *c, uint64_t deadline_ns)
{
	int r = ipc_flush(c);

	while (!r && ipc_wants_write(c)) {
		r = wait_ready(c, POLLOUT, deadline_ns);
		if (!r)
			r = ipc_flush(c);
	}
	return r;
}

int ipc_wait(struct ipc *c, uint64_t deadline_ns, const char **ret)
{
	int r = ipc_drain(c, deadline_ns);

	if (r < 0)
		return r;
	while ((r = ipc_receive(c, ret)) == -EAGAIN) {
		r = wait_ready(c, POLLIN, deadline_ns);
		if (r < 0)
			return r;
	}
	return r;
}

int ipc_call(const char *path, const char *request, uint64_t deadline_ns, char **ret_reply)
{
	struct ipc *c;
	const char *reply;
	char *copy;
	int r = ipc_connect(path, deadline_ns, &c);

	if (r < 0)
		return r;
	r = ipc_send(c, request);
	if (!r)
		r = ipc_wait(c, deadline_ns, &reply);
	if (!r) {
		copy = strdup(reply);
		r = copy ? 0 : -ENOMEM;
		if (copy)
			*ret_reply = copy;
	}
	ipc_close(c);
	return r;
}
