/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides of the engine share: the main thread's loop, which steps the pure role
 * (role.h) with what letters, time and commands say, and carries out its actions in their
 * order. The record is written here, between the step that asks for it and the step that is
 * told of it.
 *
 * Threads: all of this is the main thread's.
 */
#ifndef POLLUX_HA_ENGINE_H
#define POLLUX_HA_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "ha/mailbox.h"
#include "ha/role.h"
#include "ha/settings.h"
#include "ha/stats.h"

struct engine;
struct json_object;
struct local;
struct tls_context;

struct engine_ops {
	int (*open)(struct engine *e, struct reason *why);
	void (*close)(struct engine *e);
	/* One action of the role, in its order; LOUD and PERSIST are the engine's own. */
	void (*act)(struct engine *e, enum role_action action, const struct role_actions *a);
	void (*letter)(struct engine *e, const struct letter *l);
	/* Time has passed. Returns when the next call is due at the latest. */
	uint64_t (*tick)(struct engine *e, uint64_t now_ns);
	/* Brings e->stats up to date. */
	void (*count)(struct engine *e);
	/* A verb of local.h that is the side's own, or NULL: unknown. */
	struct json_object *(*command)(struct engine *e, const char *verb,
				       struct json_object *request);
};

struct engine {
	const struct engine_ops *ops;
	struct settings settings;
	struct tls_context *tls;
	struct mailbox *mailbox;
	struct role role;
	struct stats stats;
	struct local *local;
	sd_event *loop;
	sd_event_source *timer;
	uint64_t role_next_ns, side_next_ns;
	void *side; /* struct primary or struct backup */
};

extern const struct engine_ops primary_ops, backup_ops;

/* Runs to the end of the process's task. 0, or -errno with a reason. */
int engine_run(const struct settings *settings, struct reason *why);

/* Feeds one event to the role and acts. Returns role_step()'s verdict. */
int engine_feed(struct engine *e, const struct role_event *ev);
/* The task is done: engine_run() returns soon. */
void engine_finish(struct engine *e);
/* Something happened that people want to know. */
__attribute__((format(printf, 3, 4))) void engine_event(struct engine *e, const char *kind,
							const char *fmt, ...);
/* The side's next deadline has come nearer. */
void engine_wake_at(struct engine *e, uint64_t ns);

#endif
