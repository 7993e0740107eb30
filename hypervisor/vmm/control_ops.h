/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each operation of the control protocol does. The server (control.h) owns the
 * sockets; here is a function per operation from a request to a reply.
 */
#ifndef POLLUX_VMM_CONTROL_OPS_H
#define POLLUX_VMM_CONTROL_OPS_H

#include <pthread.h>

#include "hypervisor/control/control.h"

struct vm;

/* One request in work: read from `in`, answered into `out`. */
struct control_request {
	struct vm *vm;
	pthread_mutex_t *lock; /* serialises operations on the saved state and on devices' start */
	struct cursor in, out;
	struct reason why;
	int *in_fds; /* that came with the request; one that is taken is set to -1 */
	size_t nr_in_fds;
	int fds[CONTROL_MAX_FDS]; /* to be passed with the reply, then closed */
	size_t nr_fds;
};

/* 0 or -errno; -EPROTO also for a request with too few or too many bytes. CONTROL_WATCH and
 * what control_track.h does are not known here. Operations between pause and resume allocate
 * nothing. */
int control_execute(uint32_t op, struct control_request *request);

#endif
