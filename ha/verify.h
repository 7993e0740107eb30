/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's part of `pollux verify`: walks over memory and disks, asks the backup with hashes
 * what differs, and repairs it. The guest runs on, and no pause is longer for it.
 *
 * One question (a look) at a time: what is there now is copied and hashed, by the sender, while
 * nothing else is to be sent; the hashes travel within the open epoch n, and the backup compares
 * with what it is once n is committed (check.h). Meanwhile the guest writes. A look counts at the
 * first boundary m that was cut after it, and the answer to it, were there:
 *  - A page that is in no dirty set from n to m was the same at the boundary of n, in the copy,
 *    and at that of m. A chunk of a disk likewise, by the records of the mirror up to m.
 *  - What is alike is alike: a copy newer than n that equals the backup's n says so no less.
 *  - What differs and was written in between is looked at again. What is written all the time is
 *    looked at in the moment of an epoch's sending, then: a page that the epoch holds is
 *    compared by the epoch's own copy, which is what the backup has to have.
 * So a difference is one for sure, but for requests to a disk that were in flight all the time:
 * what they write may be on either disk or not (copy.h). A difference is therefore believed when it
 * is seen again, on a disk a moment later.
 *
 * Repair. A copy that was not touched up to the boundary m is what m holds: it is sent with m, as
 * a page that goes whole or as a write of the disk. Should the backup lose its power before that
 * write is on its disk, the region must be known to differ: it is marked first (track.h). Then it
 * is compared once more.
 *
 * Threads: verify_begin() and verify_get() by the main thread, verify_asks() and verify_answered()
 * by the link's bulk receiver; what takes a door by the sender.
 */
#ifndef POLLUX_HA_VERIFY_H
#define POLLUX_HA_VERIFY_H

#include "disk-replica/format.h"
#include "ha/message.h"
#include "ha/verify_report.h"

struct platform;
struct stage_slot;
struct verify;

struct verify_config {
	struct platform *platform;
	const struct disk_info *disks;
	unsigned int nr_disks;
	uint64_t seed; /* the link's session id */
	uint64_t cap;  /* bytes of disks a second; 0: no cap */
	/* Marks a part of a disk as one that may differ, durably, until the backup has this epoch
	 * on its disk. -EAGAIN: not now. NULL: nobody keeps count. */
	int (*mark)(void *opaque, uint64_t epoch, const struct verify_place *part);
	void *opaque;
};

int verify_open(const struct verify_config *config, struct verify **ret);
/* The sender and the receiver have ended. Takes NULL. */
void verify_close(struct verify *v);

/* -EBUSY: one is going on; -ENOMEM. */
int verify_begin(struct verify *v, const struct verify_order *order, uint64_t number);
void verify_get(struct verify *v, struct verify_report *ret);

/* Whether an answer is awaited. */
bool verify_asks(struct verify *v);
/* An answer; what was not asked is refused. */
int verify_answered(struct verify *v, const struct message *m, struct refusal *why);

/* What the sender can do. All return 0, or what ends the link. */
struct verify_door {
	int (*send)(void *opaque, struct message *m);
	/* This page goes whole, now; bytes NULL: when it is sent next. */
	int (*page)(void *opaque, uint64_t gfn, const void *bytes);
	int (*write)(void *opaque, const struct disk_record *r);
	/* An error here is the disk's, and ends the comparison alone. */
	int (*read)(void *opaque, unsigned int disk, uint64_t offset, void *ret, size_t len);
	bool (*busy)(void *opaque); /* something waits to be sent */
	void *opaque;
};

/* Whether a look is due now, with nothing else to do. */
bool verify_due(struct verify *v, uint64_t now_ns);
int verify_idle(struct verify *v, const struct verify_door *door);
/* The epoch in the slot is about to be sent: its disk changes are, its pages are not. */
int verify_epoch(struct verify *v, const struct verify_door *door, const struct stage_slot *slot);
/* A live round takes these pages; the guest has changed this of a disk. */
void verify_round(struct verify *v, const uint64_t *pages);
void verify_record(struct verify *v, const struct disk_record *r);

#endif
