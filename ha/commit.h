/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committing epochs into the standby: one thread that takes sealed epochs in order and
 * applies each whole, pages to memory, writes to the disks, and sets its state aside.
 *
 * Between two epochs the standby is exactly the VM at the end of one (P2); within one,
 * nobody looks: a takeover waits for the epoch that is under way (commit_finish()).
 * Applying is idempotent but not undone: an epoch that fails half-way makes the standby
 * useless, and the backup hands over.
 *
 * LETTER_COMMITTED (epoch; value 1: the memory oracle disagreed) or LETTER_FAILED go to the
 * main thread, the former once what was asked of the epoch (check.h) is answered.
 */
#ifndef POLLUX_HA_COMMIT_H
#define POLLUX_HA_COMMIT_H

#include <stdint.h>

#include "base/err.h"

struct apply;
struct check;
struct commit;
struct disk_log;
struct mailbox;
struct pending;
struct platform;

struct commit_config {
	struct platform *platform;
	struct pending *pending;
	struct disk_log *log; /* NULL: no disks */
	struct apply *apply;  /* NULL likewise */
	struct check *check;  /* compared between two epochs */
	struct mailbox *mailbox;
};

int commit_open(const struct commit_config *config, struct commit **ret);
/* Every sealed epoch is applied: 0, or an error; then what is not applied is kept and can be
 * tried again by the same call. pending_drop_unsealed() first. The thread ends. */
int commit_finish(struct commit *c, struct reason *why);
/* The thread ends, and nothing more is applied. pending_drop_all() first. */
void commit_abandon(struct commit *c);
void commit_close(struct commit *c);
/* The last epoch applied (0: none), and when its end had arrived. Any thread. */
uint64_t commit_last(struct commit *c, uint64_t *ret_arrived_ns);

#endif
