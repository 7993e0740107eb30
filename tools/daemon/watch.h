/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's eyes. Ten times in three seconds, and whenever it is woken, it looks at each VM:
 * is what serves it alive, is its state watched, is pollux-ha alive, what does it say? Nothing
 * here waits; what must be done about it is given to a worker.
 */
#ifndef POLLUX_DAEMON_WATCH_H
#define POLLUX_DAEMON_WATCH_H

#include "base/clock.h"

struct daemon;
struct vm;

#define WATCH_EVERY_NS (300 * NS_PER_MS)
/* Older than that, what pollux-ha said is no evidence any more (P5). */
#define WATCH_FRESH_NS (2 * NS_PER_S)

/* All VMs once. The loop only. */
void watch_all(struct daemon *d);
/* A standby whose status says that it took over becomes a VM of this host, once. With the
 * VM's name taken, on a worker. */
void watch_arrival(struct daemon *d, struct vm *vm);
/* Closes what the loop holds of a VM. */
void watch_stop(struct vm *vm);

#endif
