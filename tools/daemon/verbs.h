/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked of polluxd on its local socket. A request is {"verb":...,...}; a reply
 * {"ok":true,...} or {"ok":false,"code":...,"error":...}. The codes are stable:
 *
 *	bad-request	not understood, or a value beyond its limit
 *	not-permitted	only root and the group pollux may change things
 *	unknown-vm unknown-host exists standby stopped already-protected not-protected
 *	refused		checked before anything was changed, and found impossible
 *	unsafe		needs force and a reason
 *	busy timeout failed
 */
#ifndef POLLUX_DAEMON_VERBS_H
#define POLLUX_DAEMON_VERBS_H

#include <stdbool.h>

struct daemon;
struct json_object;

struct verb_reply {
	const char *code; /* NULL: done */
	char error[800];
	struct json_object *o; /* what goes into the reply, or NULL */
};

typedef void verb_fn(struct daemon *d, struct json_object *request, struct verb_reply *reply);

struct verb {
	const char *name;
	bool changes; /* needs permission, and runs in a worker with the name of the VM taken */
	verb_fn *run;
};

/* NULL: there is none of that name. "events" is the caller's own. */
const struct verb *verb_find(const char *name);
/* Checks the request's "vm", takes its name, runs the verb. */
void verb_run(struct daemon *d, const struct verb *verb, struct json_object *request,
	      struct verb_reply *reply);
/* The reply as one text, to be freed. */
char *verb_reply_text(struct verb_reply *reply);

__attribute__((format(printf, 3, 4))) void verb_refuse(struct verb_reply *reply, const char *code,
						       const char *fmt, ...);

/* verbs_vm.c */
verb_fn verb_vm_create, verb_vm_list, verb_vm_shutdown, verb_vm_destroy, verb_vm_console;
/* verbs_ha.c */
verb_fn verb_protect, verb_unprotect, verb_reprotect, verb_failover, verb_switchover;
verb_fn verb_verify;
verb_fn verb_status, verb_version;

#endif
