/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's part of `pollux verify`: the primary asks with hashes of pages or of chunks of a
 * disk (PAGE_HASHES, DISK_HASHES) within an epoch; once that epoch is committed the standby's
 * own are compared, and the answer is which of them differ. One question at a time is open.
 *
 * What cannot be read differs. A chunk is read from the disk and not from the page cache, where
 * the kernel lets it: what was written is to be compared with what can be read again.
 *
 * Threads: the receiver asks, the commit compares, the main thread takes the answer and stops.
 */
#ifndef POLLUX_HA_CHECK_H
#define POLLUX_HA_CHECK_H

#include "disk-replica/format.h"
#include "ha/message.h"

struct apply;
struct check;
struct platform;

struct check_config {
	struct platform *platform;
	struct apply *apply; /* NULL: no disks */
	const struct disk_info *disks;
	unsigned int nr_disks;
};

int check_open(const struct check_config *config, struct check **ret);
/* The link begins: its session id is the hashes' seed. Before anything is asked. */
void check_begin(struct check *c, uint64_t seed);
/* Nobody asks or compares any more. Takes NULL. */
void check_close(struct check *c);

/* Receiver: a question of an epoch that is not committed yet. Refused: a second one before the
 * answer to the first, pages where the VM has no memory, chunks beyond the disk. */
int check_ask(struct check *c, const struct message *m, struct refusal *why);
/* Commit: this epoch is applied, the next one is not. True: there is an answer now. */
bool check_compare(struct check *c, uint64_t epoch);
/* Main thread: the answer, once, to be sent before the next call. The generation is the
 * caller's. False: there is none. */
bool check_answer(struct check *c, struct message *ret);
/* A takeover does not wait for a comparison. Any thread. */
void check_stop(struct check *c);

#endif
