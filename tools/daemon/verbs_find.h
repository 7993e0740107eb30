/* SPDX-License-Identifier: Apache-2.0 */
/* The VM that a request names, or NULL with the refusal in `reply`. */
#ifndef POLLUX_DAEMON_VERBS_FIND_H
#define POLLUX_DAEMON_VERBS_FIND_H

struct daemon;
struct json_object;
struct verb_reply;
struct vm;

struct vm *verb_find_vm(struct daemon *d, struct json_object *request, struct verb_reply *reply);

#endif
