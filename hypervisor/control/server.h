/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the control protocol (control.h), for whatever has disks, or a whole VM, to
 * offer: sockets, messages and threads are here, what an operation does is the owner's. One
 * thread accepts, one more serves each connection. A client that comes early waits for its
 * first reply until the server is started.
 *
 * Only the owner of the run directory's socket can connect (mode 0600); requests are
 * checked all the same, and a connection that breaks the protocol is closed (P4).
 */
#ifndef POLLUX_CONTROL_SERVER_H
#define POLLUX_CONTROL_SERVER_H

#include "hypervisor/control/control.h"

/* One request in work: read from `in`, answered into `out`. */
struct control_work {
	struct cursor in, out;
	struct reason why;
	int *in_fds; /* that came with the request; who keeps one sets its place to -1 */
	size_t nr_in_fds;
	int fds[CONTROL_MAX_FDS]; /* to be passed with the reply, then closed */
	size_t nr_fds;
};

struct control_server_config {
	const char *run_dir; /* exists; `control` is made in it */
	void *opaque;	     /* passed to all that follow */
	/* One operation, by several threads at once. 0 or -errno; CONTROL_WATCH not among them. */
	int (*execute)(void *opaque, uint32_t op, struct control_work *work);
	/* CONTROL_WATCH: event_fd is raised at each stop between the two. NULL, all three: there
	 * is nothing to watch. */
	int (*watch)(void *opaque, int event_fd);
	void (*unwatch)(void *opaque, int event_fd);
	void (*state)(void *opaque, uint32_t *ret_state, uint32_t *ret_reason);
};

struct control_server;

/* Makes the socket, in place of what a dead server has left. While the process still has its
 * privileges, as the last thing. */
int control_server_open(const struct control_server_config *config, struct control_server **ret,
			struct reason *why);
int control_server_start(struct control_server *server);
/* Ends and joins all threads, watchers too; NULL is fine. What it served still stands. */
void control_server_close(struct control_server *server);

#endif
