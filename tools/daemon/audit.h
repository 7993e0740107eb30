/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who ordered what: STATE/audit.jsonl, append-only, each line on the disk before the order is
 * begun, and again when it has ended. {"time", "order", "phase": "asked", "uid", "user", "pid",
 * "request"}, and
 * {"time", "order", "phase": "done", "code": null or the refusal's, "error"}. An order without a
 * second line was under way when polluxd, or the host, ended.
 *
 * A disk that cannot take a line does not keep anybody from an order: that is logged, and an event.
 * Any thread.
 */
#ifndef POLLUX_DAEMON_AUDIT_H
#define POLLUX_DAEMON_AUDIT_H

#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

struct audit;
struct daemon;
struct json_object;
struct verb_reply;

int audit_open(struct daemon *d, struct audit **ret);
void audit_close(struct audit *a);

/* The order's number. */
uint64_t audit_asked(struct daemon *d, const struct ucred *who, struct json_object *request);
void audit_done(struct daemon *d, uint64_t order, const struct verb_reply *reply);

#endif
