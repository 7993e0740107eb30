/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that the pause waits for run before ordinary ones: while they are ready, the
 * guest stands still. Lowest real-time priority, and threads they start are ordinary. Best
 * effort: without the right to it (RLIMIT_RTPRIO, CAP_SYS_NICE) nothing changes. Such a
 * thread must not spin: the kernel's own limit (95 % of a second) is all that stops it.
 */
#ifndef POLLUX_URGENT_H
#define POLLUX_URGENT_H

#include <sched.h>
#include <sys/resource.h>

#define URGENT_PRIORITY 1

/* The calling thread. */
static inline void urgent_thread(void)
{
	struct sched_param param = { .sched_priority = URGENT_PRIORITY };

	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

/* The process may have urgent threads after it has given up its privileges. */
static inline void urgent_keep_right(void)
{
	struct rlimit limit = { .rlim_cur = URGENT_PRIORITY, .rlim_max = URGENT_PRIORITY };

	setrlimit(RLIMIT_RTPRIO, &limit);
}

#endif
