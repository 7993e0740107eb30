/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether this host has the memory and the disks for a standby. A disk that is absent is
 * made, sparse, of exactly the primary's size; one of another size, or in use, is refused.
 */
#ifndef POLLUX_DAEMON_PREPARE_ROOM_H
#define POLLUX_DAEMON_PREPARE_ROOM_H

#include <stdint.h>

#include "base/err.h"

struct daemon;
struct json_object;

/* NULL, or the code of the refusal. What was made for a request that is refused stays: the
 * next one finds it. */
const char *prepare_check_room(struct daemon *d, struct json_object *request, struct reason *why);
/* The most of memory that a standby uses: the guest's, the epochs that wait for their commit
 * (conf.backlog_bytes), the log of disk changes, and the two processes. */
uint64_t prepare_memory(const struct daemon *d, struct json_object *request);

#endif
