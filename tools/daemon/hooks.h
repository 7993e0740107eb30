/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the operator's that are told of events: those in [hooks] directory, in the order of
 * their names, one at a time, for each event in turn. They have what happened in their environment,
 * a time to end in, and no way to hold up anything: a thread of its own reads the events as any
 * reader does, so that one which hangs is only late, and at worst misses what is not kept any more.
 *
 * A hook that fails, or is ended because its time is up, is an event of kind "hook.failed", of
 * which no hook is told. docs/man/polluxd.8.
 */
#ifndef POLLUX_DAEMON_HOOKS_H
#define POLLUX_DAEMON_HOOKS_H

#include "base/err.h"

struct daemon;
struct hooks;

/* From the next event on. */
int hooks_open(struct daemon *d, struct hooks **ret);
/* There may be new events. Any thread. */
void hooks_wake(struct hooks *h);
/* What runs is ended. */
void hooks_close(struct hooks *h);

#endif
