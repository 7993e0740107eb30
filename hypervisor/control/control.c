/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/control/control.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"

struct control {
	int fd;
	pthread_mutex_t lock; /* a request and its reply are one section */
	uint8_t out[CONTROL_MAX_MESSAGE];
	uint8_t in[CONTROL_MAX_MESSAGE];
};

int control_connect(const char *run_dir, struct control **ret)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = -1;
	struct control *c;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", run_dir) >=
	    (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = take_fd(&fd);
	pthread_mutex_init(&c->lock, NULL);
	*ret = c;
	return 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	close(c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int control_fd(const struct control *c)
{
	return c->fd;
}

static int send_request(struct control *c, const struct control_call *call)
{
	struct cursor out = cursor_over(c->out, sizeof(c->out));
	struct iovec iov = { .iov_base = c->out };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CONTROL_MAX_FDS)];
	} space = { 0 };
	size_t fds_len = sizeof(int) * call->nr_request_fds;
	ssize_t n;

	cursor_put_u32(&out, call->op);
	cursor_put_bytes(&out, call->request, call->request_len);
	if (!cursor_ok(&out))
		return -EMSGSIZE;
	iov.iov_len = (size_t)(out.pos - c->out);
	if (fds_len) {
		msg.msg_control = space.bytes;
		msg.msg_controllen = CMSG_SPACE(fds_len);
		space.align.cmsg_level = SOL_SOCKET;
		space.align.cmsg_type = SCM_RIGHTS;
		space.align.cmsg_len = CMSG_LEN(fds_len);
		memcpy(CMSG_DATA(&space.align), call->request_fds, fds_len);
	}
	do
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* All descriptors of a message; the caller keeps or closes them. */
static size_t take_fds(struct msghdr *msg, int fds[CONTROL_MAX_FDS])
{
	size_t n = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(msg); header;
	     header = CMSG_NXTHDR(msg, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		n = MIN((header->cmsg_len - CMSG_LEN(0)) / sizeof(int), CONTROL_MAX_FDS);
		memcpy(fds, CMSG_DATA(header), n * sizeof(int));
	}
	return n;
}

static int receive_reply(struct control *c, size_t *ret_len, int fds[CONTROL_MAX_FDS],
			 size_t *ret_nr_fds)
{
	struct iovec iov = { .iov_base = c->in, .iov_len = sizeof(c->in) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * CONTROL_MAX_FDS)];
	} space;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space.bytes,
		.msg_controllen = sizeof(space.bytes),
	};
	ssize_t n;

	do
		n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	*ret_nr_fds = take_fds(&msg, fds);
	*ret_len = (size_t)n;
	return n == 0 ? -ECONNRESET : 0;
}

/* The callee's own error with its text, or what is wrong with the reply. */
static int judge_reply(struct cursor *reply, const struct control_call *call, size_t nr_fds)
{
	int32_t err = (int32_t)cursor_get_u32(reply);

	if (!cursor_ok(reply) || err > 0)
		return reason_set(call->why, EPROTO, "the VM's process sent nonsense");
	if (err < 0) {
		size_t len = cursor_left(reply);
		const char *text = cursor_get_view(reply, len);

		return reason_set(call->why, -err, "%.*s", (int)MIN(len, 200u), text);
	}
	if (nr_fds != call->nr_fds)
		return reason_set(call->why, EPROTO,
				  "the VM's process sent %zu descriptors, not %zu", nr_fds,
				  call->nr_fds);
	return 0;
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret_reply)
{
	int fds[CONTROL_MAX_FDS];
	struct cursor reply;
	size_t len = 0, nr_fds = 0;
	int err;

	assert(call->nr_fds <= CONTROL_MAX_FDS && call->nr_request_fds <= CONTROL_MAX_FDS);
	pthread_mutex_lock(&c->lock);
	err = send_request(c, call);
	if (!err)
		err = receive_reply(c, &len, fds, &nr_fds);
	if (err) {
		reason_set(call->why, -err, "the VM's process does not answer: %s", strerror(-err));
	} else {
		reply = cursor_over(c->in, len);
		err = judge_reply(&reply, call, nr_fds);
	}
	pthread_mutex_unlock(&c->lock);
	if (err) {
		for (size_t i = 0; i < nr_fds; i++)
			close(fds[i]);
		return err;
	}
	if (nr_fds > 0)
		memcpy(call->ret_fds, fds, nr_fds * sizeof(int));
	if (ret_reply)
		*ret_reply = reply;
	return 0;
}

int control_simple(struct control *c, enum control_op op)
{
	struct control_call call = { .op = op };

	return control_call(c, &call, NULL);
}
