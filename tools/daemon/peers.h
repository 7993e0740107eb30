/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door for other hosts: [host] listen, TLS 1.3, both sides authenticated. One request,
 * one reply a connection (ha/errand.h); each is served by a worker with deadlines, so that
 * a slow or hostile peer delays nobody (P4). Only hosts that have a [peer] section are
 * answered, and only by the name their certificate proves.
 */
#ifndef POLLUX_DAEMON_PEERS_H
#define POLLUX_DAEMON_PEERS_H

#include "base/err.h"

struct daemon;
struct peers;

#define PEERS_MAX_OPEN 16u

int peers_open(struct daemon *d, struct peers **ret, struct reason *why);
void peers_close(struct peers *p);

#endif
