/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that may wait runs in a thread of its own, at most WORKER_MAX at a time. While it works
 * on a VM it holds the VM's *name*: others that want the same name wait. Names and not VMs,
 * because a VM may not exist yet.
 */
#ifndef POLLUX_DAEMON_WORKER_H
#define POLLUX_DAEMON_WORKER_H

#include <stdbool.h>
#include <stdint.h>

struct daemon;

#define WORKER_MAX 48u

struct worker;
typedef void worker_fn(struct daemon *d, void *arg);

/* Runs fn(d, arg) in a thread. -EBUSY: too many run. `fn` owns `arg` unless this fails. */
int worker_run(struct daemon *d, worker_fn *fn, void *arg);
/* Once the loop has ended: until the last has ended. */
void worker_join_all(struct daemon *d, uint64_t deadline_ns);

/* Takes a name; waits for it until the deadline. -ETIMEDOUT; -EMFILE. Not recursive. */
int worker_take_name(struct daemon *d, const char *name, uint64_t deadline_ns);
void worker_drop_name(struct daemon *d, const char *name);
/* Under the lock: whether somebody holds it. */
bool worker_name_taken(const struct daemon *d, const char *name);

#endif
