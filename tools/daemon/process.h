/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Detached processes: in a session of their own, with a log of their own and no descriptor
 * of ours, so that they outlive polluxd. A process is known by its id *and* its start time,
 * which a restarted polluxd finds in a file: an id alone may be somebody else's by then.
 */
#ifndef POLLUX_DAEMON_PROCESS_H
#define POLLUX_DAEMON_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct json_object;

struct process {
	pid_t pid;	/* 0: none */
	uint64_t start; /* clock ticks after boot */
};

struct process_launch {
	const char *program;
	char *const *argv;
	const char *log; /* appended to */
	int pass_fd;	 /* becomes descriptor 3; -1: none */
};

int process_start(const struct process_launch *l, struct process *ret, struct reason *why);
bool process_alive(const struct process *p);
/* 0 also when it is gone. */
int process_signal(const struct process *p, int sig);
/* -ETIMEDOUT when it still runs at the deadline. */
int process_wait(const struct process *p, uint64_t deadline_ns);
/* SIGTERM, and SIGKILL when that did not end it in time. */
void process_end(const struct process *p, uint64_t patience_ns);
/* A pidfd, readable once it has ended. */
int process_open(const struct process *p);

void process_put(const struct process *p, struct json_object *o);
struct process process_get(struct json_object *o);

/* The last line of a log, for reasons: "" when there is none. */
void process_last_words(const char *log, char *ret, size_t room);

#endif
