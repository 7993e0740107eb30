/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local calls: JSON texts, each ended by a NUL byte, over unix stream sockets (the
 * framing of Varlink). What a text says is not looked at here.
 *
 * A connection is non-blocking inside. An event loop watches ipc_fd() for EPOLLIN, and
 * for EPOLLOUT while ipc_wants_write(); blocking code uses ipc_wait() and ipc_call().
 * One message is at most IPC_MESSAGE_MAX bytes, and no more than IPC_QUEUE_MAX wait for
 * a reader that does not read: a peer can cost that much memory and no more (P4).
 *
 * Threads: a connection belongs to one at a time. Deadlines are instants of
 * clock_now_ns(); 0 means none.
 */
#ifndef POLLUX_IPC_H
#define POLLUX_IPC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define IPC_MESSAGE_MAX (1u << 20) /* bytes of one message, its NUL included */
#define IPC_QUEUE_MAX	(4u << 20) /* bytes that wait for one reader */

/* A listening socket with that mode. A socket that a dead process left is replaced;
 * -EADDRINUSE: somebody answers there. -ENAMETOOLONG: beyond what a socket can have. */
int ipc_listen(const char *path, mode_t mode, int *ret_fd);

struct ipc;

/* Takes `fd`, a connected stream socket, also when it fails. */
int ipc_open(int fd, struct ipc **ret);
/* -EAGAIN: nobody is waiting. `ret_peer` (may be NULL): who called, as the kernel saw it
 * when it connected. */
int ipc_accept(int listen_fd, struct ipc **ret, struct ucred *ret_peer);
/* -ENOENT, -ECONNREFUSED: nobody is there. */
int ipc_connect(const char *path, uint64_t deadline_ns, struct ipc **ret);
/* What waits to be sent is lost. NULL is fine. */
void ipc_close(struct ipc *c);
int ipc_fd(const struct ipc *c);

/* Queues a message and sends what can be sent at once. -EMSGSIZE: too long;
 * -ENOBUFS: the peer does not read; -EPIPE, -ECONNRESET: it is gone. */
int ipc_send(struct ipc *c, const char *message);
bool ipc_wants_write(const struct ipc *c);
/* Sends what can be sent at once; 0 also when some is left. */
int ipc_flush(struct ipc *c);

/* The next whole message: a view, valid until the next call on this connection.
 * -EAGAIN: not whole yet; -ECONNRESET: the peer has ended; -EMSGSIZE: it is too long
 * and the connection is of no more use. */
int ipc_receive(struct ipc *c, const char **ret);
/* Blocking: sends what is queued, then the next message; -ETIMEDOUT at the deadline. */
int ipc_wait(struct ipc *c, uint64_t deadline_ns, const char **ret);
/* Blocking: until everything queued has left. */
int ipc_drain(struct ipc *c, uint64_t deadline_ns);

/* One request and its reply on a connection of its own. `*ret_reply` is the caller's to
 * free. */
int ipc_call(const char *path, const char *request, uint64_t deadline_ns, char **ret_reply);

#endif
