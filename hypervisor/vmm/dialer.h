/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects to one unix socket, again and again, for a process that may not do so itself any
 * more. It is a process of its own that keeps the privileges of the moment in which it is
 * made, knows one path, answers a byte with a connection to it, and ends when we do.
 *
 * Threads: one at a time.
 */
#ifndef POLLUX_VMM_DIALER_H
#define POLLUX_VMM_DIALER_H

struct dialer {
	int fd; /* to the other process */
};

/* While there are no other threads. -ENAMETOOLONG: no socket can have such a path. */
int dialer_open(struct dialer *ret, const char *path);
void dialer_close(struct dialer *d);
/* A connection, the caller's to close; or what connect(2) said. -EPIPE: the process is gone. */
int dialer_call(struct dialer *d, int *ret_fd);

#endif
