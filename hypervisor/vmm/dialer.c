/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/dialer.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/err.h"

#define CHANNEL STDIN_FILENO /* in the other process */

/* One descriptor beside four bytes. */
union fd_space {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* --- the other process ------------------------------------------------------------------- */

static int connect_to(const struct sockaddr_un *address, int *ret_fd)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
		int err = -errno;

		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

static bool answer(int result, int fd)
{
	struct iovec iov = { .iov_base = &result, .iov_len = sizeof(result) };
	union fd_space space = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!result) {
		msg.msg_control = space.bytes;
		msg.msg_controllen = sizeof(space.bytes);
		space.align.cmsg_level = SOL_SOCKET;
		space.align.cmsg_type = SCM_RIGHTS;
		space.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&space.align), &fd, sizeof(fd));
	}
	return sendmsg(CHANNEL, &msg, MSG_NOSIGNAL) == sizeof(result);
}

/* Nothing of what the VM's process has open may live on in this one. */
static void serve(int channel, const struct sockaddr_un *address)
{
	bool going = dup2(channel, CHANNEL) == CHANNEL && !close_range(CHANNEL + 1, ~0u, 0);
	char asked;

	while (going && read(CHANNEL, &asked, sizeof(asked)) == sizeof(asked)) {
		int fd = -1, result = connect_to(address, &fd);

		going = answer(result, fd);
		err_close_fd(&fd);
	}
	_exit(0);
}

/* --- ours -------------------------------------------------------------------------------- */

/* Forked twice, so that it is init's to wait for: once confined we could not. */
static int start(int channel, const struct sockaddr_un *address)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			serve(channel, address);
		_exit(pid < 0 ? errno : 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

int dialer_open(struct dialer *ret, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int pair[2], err;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
	    (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	err = start(pair[1], &address);
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		ret->fd = pair[0];
	return err;
}

void dialer_close(struct dialer *d)
{
	err_close_fd(&d->fd);
	d->fd = -1;
}

int dialer_call(struct dialer *d, int *ret_fd)
{
	int result = 0;
	struct iovec iov = { .iov_base = &result, .iov_len = sizeof(result) };
	union fd_space space;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space.bytes,
		.msg_controllen = sizeof(space.bytes),
	};
	const struct cmsghdr *header;
	char ask = 0;

	if (send(d->fd, &ask, sizeof(ask), MSG_NOSIGNAL) != sizeof(ask) ||
	    recvmsg(d->fd, &msg, MSG_CMSG_CLOEXEC) != sizeof(result))
		return -EPIPE;
	if (result)
		return result < 0 ? result : -EIO;
	header = CMSG_FIRSTHDR(&msg);
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(ret_fd, CMSG_DATA(header), sizeof(*ret_fd));
	return 0;
}
