/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's door: threads that accept connections on the port polluxd gave us, let
 * the peer authenticate, check its HELLO, and post LETTER_CONNECTED once both connections
 * of one session stand. There are several, so that who connects and says nothing keeps nobody
 * else waiting. Whoever is not our primary, at our generation, for this VM, is
 * refused with a named reason; nothing else changes (P4).
 */
#ifndef POLLUX_HA_ACCEPT_H
#define POLLUX_HA_ACCEPT_H

#include <stdint.h>

#include "ha/settings.h"
#include "ha/transport.h"

struct acceptor;
struct mailbox;

struct accept_config {
	const struct settings *settings;
	struct tls_context *tls;
	struct mailbox *mailbox;
	uint64_t generation;
	uint64_t memory_bytes;
	bool zeroed; /* the standby's memory is zeroes, unless it was kept */
	unsigned int nr_disks;
	uint64_t epoch_limit;
};

int accept_open(const struct accept_config *config, struct acceptor **ret);
/* Interrupts and joins. Takes NULL. */
void accept_close(struct acceptor *a);

struct accepted {
	struct transport *bulk, *heart;
	struct proto_welcome welcome;
};
/* After LETTER_CONNECTED, once: the caller owns the transports. The acceptor accepts no other
 * session: this one decides the fate of the standby. */
void accept_take(struct acceptor *a, struct accepted *ret);

#endif
