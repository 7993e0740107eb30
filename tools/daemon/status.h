/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status document: the same for the command line, /api/v1/status and the dashboard.
 * Every key is always there; what is not known is null. P5 is kept here a second time:
 * what pollux-ha said longer than WATCH_FRESH_NS ago protects nobody.
 */
#ifndef POLLUX_DAEMON_STATUS_H
#define POLLUX_DAEMON_STATUS_H

struct daemon;
struct json_object;

#define STATUS_SCHEMA_VERSION 1

/* {"schema_version":1,"host",...,"vms":[...]}; `vm` NULL: all. Takes the lock. NULL when
 * there is no VM of that name. */
struct json_object *status_make(struct daemon *d, const char *vm);
/* A short list: name, uuid, domid, platform, state, memory, vcpus, word. */
struct json_object *status_list(struct daemon *d);

#endif
