/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/control/server.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/urgent.h"

struct connection {
	struct control_server *server;
	int fd; /* the server's lock; -1: free */
	pthread_t thread;
	bool ended;			  /* the server's lock: to be joined */
	int request_fds[CONTROL_MAX_FDS]; /* that came with the request in `in` */
	size_t nr_request_fds;
	uint8_t in[CONTROL_MAX_MESSAGE + 1], out[CONTROL_MAX_MESSAGE];
};

struct control_server {
	struct control_server_config config;
	int listen_fd, quit_fd;
	struct sockaddr_un path, path_new;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* connections */
	struct connection connection[CONTROL_MAX_CLIENTS];
};

/* --- messages ---------------------------------------------------------------------------- */

/* More than there can be of use are not kept. */
static void take_fds(struct connection *conn, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (conn->nr_request_fds < CONTROL_MAX_FDS)
				conn->request_fds[conn->nr_request_fds++] = fd;
			else
				close(fd);
		}
	}
}

/* Those that no operation has taken. */
static void drop_fds(struct connection *c)
{
	for (size_t i = 0; i < c->nr_request_fds; i++)
		err_close_fd(&c->request_fds[i]);
	c->nr_request_fds = 0;
}

static ssize_t receive(struct connection *c)
{
	struct iovec iov = { .iov_base = c->in, .iov_len = sizeof(c->in) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 16)];
	} control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;

	do
		n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		take_fds(c, &msg);
	return n;
}

/* A client that does not fetch its replies loses its connection; nobody waits for it. */
static bool reply(struct connection *c, size_t len, const int *fds, size_t nr_fds)
{
	struct iovec iov = { .iov_base = c->out, .iov_len = len };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CONTROL_MAX_FDS)];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nr_fds > 0) {
		struct cmsghdr *header = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * nr_fds);
	}
	do
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len;
}

static size_t put_error(struct connection *c, int err, const struct reason *why)
{
	struct cursor out = cursor_over(c->out, sizeof(c->out));
	const char *text = why->text[0] ? why->text : strerror(-err);

	cursor_put_u32(&out, (uint32_t)err);
	cursor_put_bytes(&out, text, strlen(text));
	return (size_t)(out.pos - c->out);
}

/* False: the connection is over. */
static bool serve_request(struct connection *c, uint32_t op, struct cursor in)
{
	const struct control_server_config *config = &c->server->config;
	struct control_work work = {
		.in = in,
		.out = cursor_over(c->out, sizeof(c->out)),
		.in_fds = c->request_fds,
		.nr_in_fds = c->nr_request_fds,
	};
	size_t len;
	bool alive;
	int err;

	cursor_put_u32(&work.out, 0);
	err = config->execute(config->opaque, op, &work);
	if (!err && !cursor_ok(&work.out))
		err = -EMSGSIZE;
	len = err ? put_error(c, err, &work.why) : (size_t)(work.out.pos - c->out);
	alive = reply(c, len, work.fds, err ? 0 : work.nr_fds);
	for (size_t i = 0; i < work.nr_fds; i++)
		close(work.fds[i]);
	drop_fds(c);
	return alive;
}

/* --- CONTROL_WATCH ----------------------------------------------------------------------- */

static bool send_state(struct connection *c)
{
	const struct control_server_config *config = &c->server->config;
	struct cursor out = cursor_over(c->out, sizeof(c->out));
	uint32_t state, reason;

	config->state(config->opaque, &state, &reason);
	cursor_put_u32(&out, state);
	cursor_put_u32(&out, reason);
	return reply(c, (size_t)(out.pos - c->out), NULL, 0);
}

/* The connection's rest of life: it is told, and listened to only for its end. */
static void watch(struct connection *c)
{
	const struct control_server_config *config = &c->server->config;
	cleanup_close int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd fds[] = { { .fd = event_fd, .events = POLLIN },
				{ .fd = c->fd, .events = POLLIN } };
	struct cursor out = cursor_over(c->out, sizeof(c->out));
	bool alive;
	uint64_t count;

	cursor_put_u32(&out, 0);
	if (event_fd < 0 || config->watch(config->opaque, event_fd))
		return;
	alive = reply(c, 4, NULL, 0) && send_state(c);
	while (alive && (poll(fds, ARRAY_SIZE(fds), -1) >= 0 || errno == EINTR)) {
		if (fds[0].revents && read(event_fd, &count, sizeof(count)) > 0)
			alive = send_state(c);
		if (fds[1].revents && receive(c) <= 0)
			break;
	}
	config->unwatch(config->opaque, event_fd);
}

/* --- connections ------------------------------------------------------------------------- */

static void *connection_thread(void *arg)
{
	struct connection *c = arg;
	bool alive = true;

	pthread_setname_np(pthread_self(), "control");
	urgent_thread();
	while (alive) {
		ssize_t n = receive(c);
		struct cursor in = cursor_over(c->in, n > 0 ? (size_t)n : 0);
		uint32_t op = cursor_get_u32(&in);

		/* Nothing, an overlong message, or one too short to be a request. */
		if (n <= 0 || (size_t)n > CONTROL_MAX_MESSAGE || !cursor_ok(&in))
			break;
		if (op == CONTROL_WATCH && c->server->config.watch && cursor_left(&in) == 0) {
			watch(c);
			break;
		}
		alive = serve_request(c, op, in);
	}
	drop_fds(c);
	pthread_mutex_lock(&c->server->lock);
	close(c->fd);
	c->fd = -1;
	c->ended = true;
	pthread_mutex_unlock(&c->server->lock);
	return NULL;
}

/* Lock held. A place whose last connection has ended, its thread joined. */
static struct connection *free_place(struct control_server *server)
{
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
		struct connection *c = &server->connection[i];

		if (c->fd >= 0)
			continue;
		if (c->ended)
			pthread_join(c->thread, NULL);
		c->ended = false;
		return c;
	}
	return NULL;
}

static void accept_connection(struct control_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct connection *c;

	if (fd < 0)
		return;
	pthread_mutex_lock(&server->lock);
	c = free_place(server);
	if (c) {
		c->fd = fd;
		if (pthread_create(&c->thread, NULL, connection_thread, c))
			c->fd = -1;
	}
	if (!c || c->fd < 0)
		close(fd);
	pthread_mutex_unlock(&server->lock);
}

static void *server_thread(void *arg)
{
	struct control_server *server = arg;
	struct pollfd fds[] = { { .fd = server->listen_fd, .events = POLLIN },
				{ .fd = server->quit_fd, .events = POLLIN } };

	pthread_setname_np(pthread_self(), "control");
	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[1].revents)
			return NULL;
		accept_connection(server);
	}
}

/* --- the server -------------------------------------------------------------------------- */

static int set_path(struct sockaddr_un *ret, const char *dir, const char *name, struct reason *why)
{
	ret->sun_family = AF_UNIX;
	if (snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", dir, name) <
	    (int)sizeof(ret->sun_path))
		return 0;
	return reason_set(why, ENAMETOOLONG, "%s/%s: the name of a socket has at most %zu bytes",
			  dir, name, sizeof(ret->sun_path) - 1);
}

/* Bound under a temporary name, so that `control` only ever names a socket that listens. */
static int bind_socket(struct control_server *server, struct reason *why)
{
	const char *path = server->path.sun_path, *path_new = server->path_new.sun_path;
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	mode_t mask;
	int err;

	if (fd < 0)
		return -errno;
	unlink(path_new);
	unlink(path);
	mask = umask(0177);
	err = bind(fd, (struct sockaddr *)&server->path_new, sizeof(server->path_new)) ? -errno : 0;
	umask(mask);
	if (!err && listen(fd, CONTROL_MAX_CLIENTS))
		err = -errno;
	if (!err && rename(path_new, path))
		err = -errno;
	if (err)
		return reason_set(why, -err, "%s: %s", path, strerror(-err));
	server->listen_fd = take_fd(&fd);
	return 0;
}

int control_server_open(const struct control_server_config *config, struct control_server **ret,
			struct reason *why)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int err;

	if (!server)
		return -ENOMEM;
	server->config = *config;
	server->listen_fd = -1;
	server->quit_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&server->lock, NULL);
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
		server->connection[i].server = server;
		server->connection[i].fd = -1;
	}
	err = set_path(&server->path, config->run_dir, "control", why);
	if (!err)
		err = set_path(&server->path_new, config->run_dir, "control.new", why);
	if (!err)
		err = bind_socket(server, why);
	if (err) {
		control_server_close(server);
		return err;
	}
	*ret = server;
	return 0;
}

int control_server_start(struct control_server *server)
{
	int err = pthread_create(&server->thread, NULL, server_thread, server);

	server->started = err == 0;
	return -err;
}

void control_server_close(struct control_server *server)
{
	uint64_t one = 1;

	if (!server)
		return;
	if (server->started && write(server->quit_fd, &one, sizeof(one)) > 0)
		pthread_join(server->thread, NULL);
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
		struct connection *c = &server->connection[i];
		bool used;

		pthread_mutex_lock(&server->lock);
		used = c->fd >= 0 || c->ended;
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RD); /* the last reply still goes out */
		pthread_mutex_unlock(&server->lock);
		if (used)
			pthread_join(c->thread, NULL);
	}
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	close(server->quit_fd);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
