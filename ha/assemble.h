/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's receiver: frames of the bulk connection to whole epochs. Runs on the link's
 * receiving thread, as its sink.
 *
 * Until the first epoch is whole there is nothing to protect, so its pages and disk data go
 * straight to the standby; what follows waits in pending.h and disk-replica/log.h for its
 * commit. Every count that an epoch's end claims is compared with what arrived.
 */
#ifndef POLLUX_HA_ASSEMBLE_H
#define POLLUX_HA_ASSEMBLE_H

#include <stdint.h>

#include "disk-replica/format.h"
#include "ha/transport.h"

struct apply;
struct assembler;
struct check;
struct disk_log;
struct harden;
struct mailbox;
struct pending;
struct platform;

struct assemble_config {
	struct platform *platform;
	struct pending *pending;
	struct disk_log *log; /* NULL: no disks */
	struct apply *apply;
	struct harden *harden; /* NULL: a whole epoch is told of at once */
	const struct disk_info *disks;
	unsigned int nr_disks;
	struct mailbox *mailbox;
	uint64_t session;
	uint64_t generation;
	bool delta;
	uint32_t codecs;
	/* The standby's memory is this VM's of old: hashes are compared, the answers sent here. Up
	 * to the end of the first epoch nobody else sends on it. NULL: none are expected. */
	struct transport *answer_on;
	struct check *check; /* hashes after the first epoch; NULL: none are expected */
};

int assemble_open(const struct assemble_config *config, struct assembler **ret);
void assemble_close(struct assembler *a);
/* From here on frames are read and forgotten, so that the connection stays whole for the
 * last words. When it returns nothing touches the standby any more; pending_drop_all() first,
 * or it may wait for a commit. Main thread. */
void assemble_end(struct assembler *a);
/* A link_sink: `opaque` is the assembler. */
int assemble_frame(void *opaque, const struct message *m, struct refusal *why);
/* Disk records of the first epoch that are on the disks; any thread. */
uint64_t assemble_disk_ops(const struct assembler *a);
uint64_t assemble_bytes_raw(const struct assembler *a); /* of pages; any thread */

#endif
