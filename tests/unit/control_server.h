/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control server (hypervisor/control/control.h) in the test's own process, of a VM that
 * has memory, a dirty bitmap and a state, and no processor. The test bends its answers.
 */
#ifndef POLLUX_TEST_CONTROL_SERVER_H
#define POLLUX_TEST_CONTROL_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/bitmap.h"
#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"

#define PAGE	    4096u
#define HIGH_START  (UINT64_C(1) << 32)
#define CONTEXT_MAX 8192u

struct server {
	uint32_t domid;
	_Atomic uint64_t low, high, nr_gfns;
	atomic_int memory_fd;
	int export_fd, listen_fd;
	uint8_t *memory;
	uint64_t *dirty;
	uint8_t *context;
	_Atomic uint64_t dirty_offset, context_offset, context_max;
	uint64_t export_bytes;
	pthread_t thread;
	struct peer {
		struct server *server;
		pthread_t thread;
		int fd;
	} peers[16];
	/* What the test bends, before a call. */
	atomic_int fail;	 /* errno of the next call but HELLO */
	atomic_bool hang_up;	 /* close instead of answering the next call but HELLO */
	_Atomic uint32_t claim;	 /* domid that HELLO gives */
	_Atomic uint64_t length; /* that GET_CONTEXT gives */
	_Atomic uint8_t state, reason;
	/* What it saw. */
	atomic_uint connections, pauses, hellos;
	_Atomic uint32_t last_op;
	_Atomic uint64_t last_value;
};

static char dir[64]; /* the run directory */

static size_t answer_hello(struct server *s, struct cursor *out, int fds[2])
{
	atomic_fetch_add(&s->hellos, 1);
	cursor_put_u32(out, CONTROL_VERSION);
	cursor_put_u32(out, s->claim);
	for (uint8_t i = 0; i < 16; i++)
		cursor_put_u8(out, (uint8_t)(s->domid + i));
	cursor_put_u64(out, s->low);
	cursor_put_u64(out, s->high);
	cursor_put_u64(out, s->nr_gfns);
	cursor_put_u32(out, 2); /* vCPUs */
	cursor_put_u32(out, 1);
	cursor_put_u32(out, 1);
	cursor_put_u64(out, s->dirty_offset);
	cursor_put_u64(out, s->context_offset);
	cursor_put_u64(out, s->context_max);
	cursor_put_u16(out, 2);
	cursor_put_bytes(out, "vm", 2);
	fds[0] = s->memory_fd;
	fds[1] = s->export_fd;
	return 2;
}

static void answer_call(struct server *s, uint32_t op, struct cursor *in, struct cursor *out)
{
	s->last_op = op;
	switch (op) {
	case CONTROL_INFO:
		cursor_put_u8(out, s->state);
		cursor_put_u8(out, s->reason);
		cursor_put_u32(out, s->state == CONTROL_PAUSED);
		cursor_put_u64(out, 123456789);
		break;
	case CONTROL_PAUSE:
		atomic_fetch_add(&s->pauses, 1);
		cursor_put_u64(out, 1000);
		break;
	case CONTROL_SHUTDOWN:
	case CONTROL_LOGDIRTY:
		s->last_value = cursor_get_u8(in);
		cursor_put_u64(out, bitmap_count(s->dirty, s->nr_gfns));
		cursor_put_u64(out, s->nr_gfns);
		break;
	case CONTROL_GET_CONTEXT:
		cursor_put_u64(out, s->length);
		break;
	case CONTROL_SET_CONTEXT:
		s->last_value = cursor_get_u64(in);
		break;
	default:
		break;
	}
}

static void send_reply(int fd, const uint8_t *bytes, size_t len, const int *fds, size_t nr_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr_fds * sizeof(int));
	}
	sendmsg(fd, &msg, MSG_NOSIGNAL);
}

/* One request; false when the connection is to end. */
static bool serve_one(struct server *s, int fd)
{
	uint8_t request[256], reply[512];
	ssize_t n = recv(fd, request, sizeof(request), 0);
	struct cursor in = cursor_over(request, n > 0 ? (size_t)n : 0);
	struct cursor out = cursor_over(reply, sizeof(reply));
	uint32_t op = cursor_get_u32(&in);
	size_t nr_fds = 0;
	int fds[2];

	if (n <= 0)
		return false;
	if (op != CONTROL_HELLO && atomic_exchange(&s->hang_up, false))
		return false;
	if (op != CONTROL_HELLO && s->fail) {
		cursor_put_u32(&out, (uint32_t)-s->fail);
		cursor_put_bytes(&out, "as the test wants", 17);
		s->fail = 0;
	} else {
		cursor_put_u32(&out, 0);
		if (op == CONTROL_HELLO)
			nr_fds = answer_hello(s, &out, fds);
		else
			answer_call(s, op, &in, &out);
	}
	send_reply(fd, reply, (size_t)(out.pos - reply), fds, nr_fds);
	return true;
}

static void *serve_peer(void *arg)
{
	struct peer *peer = arg;

	while (serve_one(peer->server, peer->fd))
		;
	shutdown(peer->fd, SHUT_RDWR);
	return NULL;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd;

	while ((fd = accept(s->listen_fd, NULL, NULL)) >= 0) {
		unsigned int i = atomic_fetch_add(&s->connections, 1);

		assert(i < ARRAY_SIZE(s->peers));
		s->peers[i].server = s;
		s->peers[i].fd = fd;
		assert(!pthread_create(&s->peers[i].thread, NULL, serve_peer, &s->peers[i]));
	}
	return NULL;
}

static int make_memfd(uint64_t bytes, unsigned int flags)
{
	int fd = memfd_create("test", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static void start(struct server *s, uint32_t domid, uint64_t low, uint64_t high)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char *base;

	memset(s, 0, sizeof(*s));
	s->domid = s->claim = domid;
	s->low = low;
	s->high = high;
	s->nr_gfns = (high ? HIGH_START + high : low) / PAGE;
	s->memory_fd = make_memfd(low + high, MFD_ALLOW_SEALING);
	s->memory = mmap(NULL, low + high, PROT_READ | PROT_WRITE, MAP_SHARED, s->memory_fd, 0);
	s->dirty_offset = PAGE;
	s->context_offset = (PAGE + bitmap_bytes(s->nr_gfns) + PAGE - 1) / PAGE * PAGE;
	s->context_max = CONTEXT_MAX;
	s->length = 100;
	s->export_bytes = s->context_offset + CONTEXT_MAX;
	s->export_fd = make_memfd(s->export_bytes, MFD_ALLOW_SEALING);
	base = mmap(NULL, s->export_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->export_fd, 0);
	s->dirty = (uint64_t *)(void *)(base + s->dirty_offset);
	s->context = (uint8_t *)base + s->context_offset;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/vm/%u", dir, domid);
	assert_int_equal(mkdir(addr.sun_path, 0700), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/vm/%u/control", dir, domid);
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(s->listen_fd, 8), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
	shutdown(s->listen_fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	for (unsigned int i = 0; i < s->connections; i++) {
		shutdown(s->peers[i].fd, SHUT_RDWR);
		pthread_join(s->peers[i].thread, NULL);
		close(s->peers[i].fd);
	}
	munmap(s->memory, s->low + s->high);
	munmap((char *)s->dirty - s->dirty_offset, s->export_bytes);
	close(s->listen_fd);
	close(s->memory_fd);
	close(s->export_fd);
}

#endif
