/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `commit = disk`: a thread between the receiver, which has a whole epoch, and the main thread,
 * which acknowledges it: it tells of the epoch once its disk changes are on stable storage
 * here (disk-replica/log.h). Epochs that become whole while it syncs share the next sync, so
 * acknowledgements are as many as epochs and syncs as few as the disk is slow; heartbeats never
 * wait for it.
 *
 * The first epoch's changes are on the disks themselves: for it these are flushed, and their
 * marker says `following`, before it is told of.
 *
 * Fault point: harden.tell (durable, and not told).
 */
#ifndef POLLUX_HA_HARDEN_H
#define POLLUX_HA_HARDEN_H

struct apply;
struct disk_log;
struct harden;
struct letter;
struct mailbox;

struct harden_config {
	struct disk_log *log;
	struct apply *apply;
	struct mailbox *mailbox;
};

int harden_open(const struct harden_config *config, struct harden **ret);
/* Ends the thread, after the sync that it is in; what waits is forgotten. Takes NULL. */
void harden_close(struct harden *h);

/* The receiver: posts `l`, a LETTER_EPOCH_WHOLE, once its epoch is durable, in order, with what
 * that took in age_ns; or LETTER_FAILED in its place, once. */
void harden_add(struct harden *h, const struct letter *l);

#endif
