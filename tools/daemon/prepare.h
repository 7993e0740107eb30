/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A primary asks this host for a standby. Request:
 * {"vm","uuid","generation","from","config","disks":[{"path","bytes"}],"memory_bytes",
 *  "timeout_ns","settings":{...},"options":{...}}; reply {"ok":true,"port","generation"} or
 * {"ok":false,"code","error","generation"}.
 *
 * P3 is decided here as much as in ha/role.c: what the record says, and what the old standby
 * says, comes before anything is made. The codes:
 *	active			the VM runs here at a generation that is not below the asked one
 *	unknown-peer, bad-request, busy, exists, in-use, wrong-size, no-folder, no-space, no-memory,
 *	no-kernel, platform
 *	failed			pollux-vmm or pollux-ha did not start
 */
#ifndef POLLUX_DAEMON_PREPARE_H
#define POLLUX_DAEMON_PREPARE_H

#include <stdint.h>

struct daemon;
struct json_object;

/* In a worker. Fills `reply`. That the caller is the host "from" has been proven. */
void prepare_answer(struct daemon *d, struct json_object *request, struct json_object *reply);
__attribute__((format(printf, 4, 5))) void prepare_refuse(struct json_object *reply,
							  const char *code, uint64_t generation,
							  const char *fmt, ...);

#endif
