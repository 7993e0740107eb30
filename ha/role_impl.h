/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between role.c (what both sides share), role_primary.c and role_backup.c. Nobody else
 * includes this.
 */
#ifndef POLLUX_HA_ROLE_IMPL_H
#define POLLUX_HA_ROLE_IMPL_H

#include "ha/role.h"

/* The one function that changes the state. Asserts that the change is legal. */
void role_enter(struct role *role, enum role_state state, enum role_why why,
		struct role_actions *ret);

/* What happens once a record is on disk. */
struct role_then {
	enum role_state state;
	enum role_why why;
	uint32_t actions;
	bool tolerant; /* it happens as well when the record cannot be written */
};

/* Asks for {generation, as} on disk. A later request replaces an unanswered one. */
void role_ask(struct role *role, uint64_t generation, enum record_role as,
	      const struct role_then *then, struct role_actions *ret);

/* Stops the VM here for good: `generation` runs it elsewhere. */
void role_fence(struct role *role, uint64_t generation, enum role_why why,
		struct role_actions *ret);

int role_primary_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
		      struct role_actions *ret);
int role_backup_step(struct role *role, const struct role_event *ev, uint64_t now_ns,
		     struct role_actions *ret);
/* A record could not be written and what hangs on it is not tolerant; true: handled. */
bool role_primary_persist_failed(struct role *role, struct role_actions *ret);

#endif
