/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line's door: RUN/polluxd.sock. Everybody may connect and read the status;
 * only root, polluxd's own user and the group pollux may change anything or open a
 * console: the kernel says who called (SO_PEERCRED, SO_PEERGROUPS).
 *
 * A connection asks one question at a time. "events" with "follow" turns it into a stream.
 */
#ifndef POLLUX_DAEMON_DOOR_H
#define POLLUX_DAEMON_DOOR_H

#include "base/err.h"

struct daemon;
struct door;

#define DOOR_MAX_CLIENTS 256u
#define DOOR_MAX_LOOKERS 64u /* of them, those that may only read: they lock nobody out */
#define DOOR_GROUP	 "pollux"

int door_open(struct daemon *d, struct door **ret, struct reason *why);
void door_close(struct door *l);
/* The loop: sends followers what is new, and replies that workers have finished. */
void door_look(struct door *l);

#endif
