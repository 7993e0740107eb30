/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-ha of a VM: started with a file of settings, asked over its own socket, started
 * again when it dies. Its death never ends a running VM; a standby without it is of no use
 * and is ended, so that the primary's next attempt makes a new one.
 */
#ifndef POLLUX_DAEMON_GUARD_H
#define POLLUX_DAEMON_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "tools/common/conf.h"

struct daemon;
struct json_object;
struct vm;

struct guard_start {
	bool primary;
	const char *peer;	  /* the other host's name */
	const char *peer_address; /* NULL on a backup */
	const struct conf_protection *protection;
	struct json_object *options; /* as given to protect, for the other host; or NULL */
	const char *disk_token;	     /* backup: disks.h; or NULL */
	int listen_fd;		     /* backup: where the primary will connect; else -1 */
	bool memory_kept;	     /* backup: its pollux-vmm was started with memory of this VM */
};

/* Workers, the VM's name taken. Returns once it answers. -ECHILD: it ended before that, and the
 * reason is its own. */
int guard_start(struct daemon *d, struct vm *vm, const struct guard_start *s, struct reason *why);
/* Starts it again with the settings it had. */
int guard_restart(struct daemon *d, struct vm *vm, struct reason *why);
/* Ends it and forgets its settings. */
void guard_end(struct daemon *d, struct vm *vm);
/* One question. The caller keeps `request` and puts `*ret_reply`; a reply of {"ok":false} is
 * a success of this call. */
int guard_call(struct daemon *d, const char *vm, struct json_object *request, uint64_t timeout_ns,
	       struct json_object **ret_reply, struct reason *why);

/* By the record no backup can have the VM (P3). */
bool guard_is_alone(struct daemon *d, const struct vm *vm);
/* What its engine said last, as a reason. */
void guard_last_words(struct daemon *d, const struct vm *vm, char *ret, size_t room);

/* Before the loop runs: finds the process that serves this VM. */
void guard_adopt(struct daemon *d, struct vm *vm);
/* In a worker: it has died. */
void guard_died(struct daemon *d, struct vm *vm);

#endif
