/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local socket of a pollux-ha process: status, commands, events. JSON texts as
 * base/ipc.h frames them; polluxd is the caller, as a rule.
 *
 *	{"verb": "status"}	  -> {"ok": true, "status": {...}}		stats.h
 *	{"verb": "unprotect", "force": bool, "reason": "..."}
 *	{"verb": "failover", "reason": "..."}
 *	{"verb": "rejoin", "generation": n} -> {"ok": true, "generation": n}	backup
 *	{"verb": "trace"}	  -> {"ok": true, "trace": [{"ns", "what", "a", "b"}]}
 *	{"verb": "events"}	  -> {"event": {"time_ns", "vm", "kind", "text"}}, one by one
 * A refusal is {"ok": false, "code": "...", "error": "..."}.
 */
#ifndef POLLUX_HA_LOCAL_H
#define POLLUX_HA_LOCAL_H

#include <systemd/sd-event.h>

struct json_object;
struct local;

/* Answers one request; the result is freed by the caller of this function. */
typedef struct json_object *(*local_answer)(void *opaque, const char *verb,
					    struct json_object *request);

struct local_config {
	sd_event *loop;
	const char *path;
	const char *vm;
	local_answer answer;
	void *opaque;
};

int local_open(const struct local_config *config, struct local **ret);
void local_close(struct local *l);
/* Tells everybody who asked for events, and the log. */
void local_event(struct local *l, const char *kind, const char *text);

struct json_object *local_ok(void);
struct json_object *local_refusal(const char *code, const char *error);

#endif
