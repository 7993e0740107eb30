/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened on this host: the last EVENTS_KEPT in memory, all of them appended to
 * STATE/events.jsonl (rotated once at EVENTS_FILE_MAX). An event is
 * {"sequence","time","time_ns","host","vm" or null,"kind","text",...}. One that says of a VM
 * what its last one said is not kept again.
 *
 * Any thread may add; readers ask for what is newer than a sequence number.
 */
#ifndef POLLUX_DAEMON_EVENTS_H
#define POLLUX_DAEMON_EVENTS_H

#include <stdint.h>

#include "base/err.h"

struct daemon;
struct events;
struct json_object;

#define EVENTS_KEPT	1000u
#define EVENTS_TEXT_MAX 2048u
#define EVENTS_FILE_MAX (16u << 20)

/* Takes up what the file holds. */
int events_open(struct daemon *d, struct events **ret);
void events_close(struct events *e);

/* Our own. `vm` may be NULL. */
__attribute__((format(printf, 4, 5))) void events_add(struct daemon *d, const char *vm,
						      const char *kind, const char *fmt, ...);
/* One that pollux-ha reported; the caller keeps `event`. */
void events_take(struct daemon *d, const char *vm, struct json_object *event);

/* The oldest event newer than `sequence`, as text to be freed, or NULL. */
char *events_next(struct daemon *d, uint64_t sequence, uint64_t *ret_sequence);
/* The sequence from which the last `n` follow. */
uint64_t events_before(struct daemon *d, unsigned int n);

#endif
