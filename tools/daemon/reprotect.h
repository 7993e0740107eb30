/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other host that a VM is to have, and what leads back to it. polluxd remembers with the
 * VM (RUN/vm/NUMBER/vm.json) whom the operator named, with which options, and how the VM came
 * here. A VM that has moved asks the host it came from to be its backup: by itself
 * (reprotect = auto) or when told to (manual). One that was protected and reboots is protected
 * again in either case. The engine does the rest: it asks until that host is back.
 */
#ifndef POLLUX_DAEMON_REPROTECT_H
#define POLLUX_DAEMON_REPROTECT_H

#include <stdbool.h>

#include "base/err.h"
#include "tools/common/conf.h"

struct daemon;
struct json_object;
struct vm;

/* Workers, the VM's name taken. `options`: name -> text as `protect` takes them, or NULL; copied.
 * `peer` NULL: it is to have none. */
void reprotect_remember(struct daemon *d, struct vm *vm, const char *peer,
			struct json_object *options);
/* This host's [protection] with `options` (may be NULL) on top. */
int reprotect_options(struct daemon *d, struct json_object *options, struct conf_protection *ret,
		      struct reason *why);
/* Under the lock: the VM runs here, should have another host, and no engine looks for it. */
bool reprotect_due(const struct vm *vm);
/* Workers, the name taken. Starts the engine towards the remembered host. -EPERM: the record does
 * not say that the VM may run here. */
int reprotect_start(struct daemon *d, struct vm *vm, struct reason *why);
/* The same, for the loop's worker: a failure is said and tried again later. */
void reprotect_try(struct daemon *d, struct vm *vm);

#endif
