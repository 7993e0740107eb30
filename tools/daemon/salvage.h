/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the disks of a VM on this host are worth, when it has been the backup: before somebody
 * runs it from them, what its log holds is applied (disk-replica/recover.h).
 */
#ifndef POLLUX_TOOLS_SALVAGE_H
#define POLLUX_TOOLS_SALVAGE_H

#include <stdbool.h>
#include <stddef.h>

struct daemon;
struct json_object;

/* A sentence about the disks of the VM of this configuration, into `ret`: which epoch they are
 * of, or that they are of none and why. False: they are the VM's own, no sentence. */
bool salvage_disks(struct daemon *d, struct json_object *config, char *ret, size_t room);
/* The operator has decided: whatever the log holds, it is not applied any more. One that a
 * standby's engine has open stays. */
void salvage_forget(struct daemon *d, const char *vm);

#endif
