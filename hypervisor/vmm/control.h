/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the control protocol (hypervisor/control/control.h): one thread accepts,
 * one more serves each connection. The socket is made last, when the VM is built, so
 * whoever started the process polls for it; a client that comes early waits for its
 * first reply until the VM is started.
 *
 * Only the owner of the run directory's socket can connect (mode 0600); requests are
 * checked all the same, and a connection that breaks the protocol is closed (P4).
 */
#ifndef POLLUX_VMM_CONTROL_SERVER_H
#define POLLUX_VMM_CONTROL_SERVER_H

#include "base/err.h"

struct control_server;
struct vm;

/* Makes the socket. While the process still has its privileges, as the last thing. */
int control_server_open(struct vm *vm, struct control_server **ret, struct reason *why);
int control_server_start(struct control_server *server);
/* Ends and joins all threads, after run_quit(); NULL is fine. The VM still stands. */
void control_server_close(struct control_server *server);

#endif
