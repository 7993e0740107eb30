/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks a VM's pollux-ha for its status, again and again, and listens to its events; from the
 * loop, without waiting. The answer lies in vm->guard.status with the time it came.
 */
#ifndef POLLUX_DAEMON_GUARD_POLL_H
#define POLLUX_DAEMON_GUARD_POLL_H

#include <stdbool.h>

struct daemon;
struct vm;

/* `wanted`: it should run, and so answer. */
void guard_poll(struct daemon *d, struct vm *vm, bool wanted);
void guard_poll_stop(struct vm *vm);

#endif
