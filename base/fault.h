/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named fault points, so that a test can break the product at a chosen step.
 *
 * `POLLUX_FAULT=name[:nth[:action]],...` in the environment arms points by name:
 * at the nth passage (from 1, default 1) and after, the action happens: `fail`
 * (the default; fault_at() returns true and the caller takes its error path),
 * `once` (fail at the nth passage alone) or `exit` (the process ends at once with
 * status 86, as if killed). Unarmed points cost one load.
 */
#ifndef POLLUX_FAULT_H
#define POLLUX_FAULT_H

#include <stdbool.h>

extern bool fault_armed;
bool fault_check(const char *name);
/* Reads the environment, in the place of what was armed; a program calls it first. -EINVAL: a
 * bad list. */
int fault_open(void);

static inline bool fault_at(const char *name)
{
	return __builtin_expect(fault_armed, 0) && fault_check(name);
}

#endif
