/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a VM that are on DRBD ("drbd:RESOURCE" in its configuration): which devices they
 * are here, and whether DRBD is as a VM needs it. Nothing here discards data: what DRBD says
 * of a split brain is passed on. Waits for drbdadm. Workers, the VM's name taken.
 */
#ifndef POLLUX_DAEMON_VM_DRBD_H
#define POLLUX_DAEMON_VM_DRBD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct json_object;

/* In a configuration for pollux-vmm the devices take the place of the names. A VM that is to
 * run needs this host to be, or to become, the primary. */
int vm_drbd_resolve(struct json_object *config, bool standby, struct reason *why);
/* Whether it may be protected: from this host, or to it (drbd_check()). */
int vm_drbd_check(struct json_object *config, bool from_here, struct reason *why);
bool vm_drbd_is_used(struct json_object *config);
/* Nobody here uses the disks any more: another host may become the primary. */
void vm_drbd_let_go(struct json_object *config);

#endif
