/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host knows of a VM's disks while nobody runs it: whose copy they are, which
 * regions it wrote itself (disk-replica/regions.h, marker.h), and whether that can still be
 * believed. Workers, the VM's name taken.
 */
#ifndef POLLUX_DAEMON_DISKS_H
#define POLLUX_DAEMON_DISKS_H

#include "disk-replica/region_sets.h"

struct daemon;
struct json_object;

/*
 * Another host asks to have its VM's disks kept here: do ours go by its token? Adds
 * {"resync": {"same": FLAG, "reason": TEXT, "regions": TEXT}} to the reply. `ret_token` is
 * what the standby's copy goes by from now on, "" when the other host named none.
 */
void disks_answer(struct daemon *d, struct json_object *request, struct json_object *reply,
		  char ret_token[REGION_TOKEN_TEXT]);

/* A VM is about to run from these disks. True: its writes go on being counted in the region
 * file, whose path this is. A file that cannot be believed, or that is about a standby's disks
 * (they are not that any more), is removed. */
bool disks_go_on(struct daemon *d, struct json_object *config, char *ret_path, size_t room);

#endif
