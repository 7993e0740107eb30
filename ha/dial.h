/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a primary finds its backup: ask the other host's polluxd to prepare a standby (an
 * errand), then, once the generation that it answers with is on our disk, connect to the
 * port that it names. Both wait for the network, so each runs in a thread of its own and
 * ends with one letter.
 */
#ifndef POLLUX_HA_DIAL_H
#define POLLUX_HA_DIAL_H

#include <stdint.h>

#include "disk-replica/format.h"
#include "ha/resync.h"
#include "ha/settings.h"
#include "ha/transport.h"

struct dial;
struct mailbox;

struct dial_config {
	const struct settings *settings;
	struct tls_context *tls;
	struct mailbox *mailbox;
	uint64_t memory_bytes;
	const struct disk_info *disks;
	unsigned int nr_disks;
};

int dial_open(const struct dial_config *config, struct dial **ret);
/* Interrupts and joins what runs. Takes NULL. */
void dial_close(struct dial *d);
bool dial_is_busy(const struct dial *d);

/* LETTER_PREPARED (generation, value: the port), LETTER_REFUSED (generation: the VM runs
 * there), or LETTER_DIAL_FAILED. -EBUSY while one runs. */
int dial_prepare(struct dial *d, uint64_t generation);
/* LETTER_CONNECTED or LETTER_DIAL_FAILED. */
int dial_connect(struct dial *d, uint64_t generation, uint16_t port);

struct dial_connected {
	struct transport *bulk, *heart;
	struct proto_welcome welcome;
};
/* After LETTER_CONNECTED, once: the caller owns the transports. */
void dial_take_connected(struct dial *d, struct dial_connected *ret);
/* After LETTER_PREPARED: what became of the disks' relation (resync.h). */
const struct resync *dial_resync(const struct dial *d);
/* After any of the letters: joins the thread, so that the next one may start. */
void dial_finish(struct dial *d);

#endif
