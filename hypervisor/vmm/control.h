/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's control socket: hypervisor/control/server.h over control_ops.h and run.h. The
 * socket is made last, when the VM is built, so whoever started the process polls for it.
 */
#ifndef POLLUX_VMM_CONTROL_H
#define POLLUX_VMM_CONTROL_H

#include "base/err.h"

struct vm;
struct vm_control;

/* Makes the socket, as control_server_open() says; started and closed likewise. */
int vm_control_open(struct vm *vm, struct vm_control **ret, struct reason *why);
int vm_control_start(struct vm_control *control);
/* After run_quit(); NULL is fine. The VM still stands. */
void vm_control_close(struct vm_control *control);

#endif
