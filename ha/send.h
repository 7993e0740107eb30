/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's sender: one thread that turns checkpoints, live rounds, disk copies and
 * disk writes into frames, in the one order in which the backup may believe them.
 *
 * Order. The thread is alone in draining the mirror and in reading the disks for the
 * first copy (disk-replica/copy.h says why that suffices), and alone in encoding pages
 * (encode.h says why that must be). A record of the mirror belongs to the epoch whose
 * boundary it was put before: while a boundary is being cut (sender_cut()) nothing is
 * drained, and once an epoch is queued only up to its boundary.
 *
 * Threads: sender_*() are called by the main thread; what happened goes to its mailbox.
 */
#ifndef POLLUX_HA_SEND_H
#define POLLUX_HA_SEND_H

#include <stdint.h>

#include "base/err.h"
#include "ha/codec.h"

struct capture;
struct copy;
struct encode_counters;
struct mailbox;
struct mirror;
struct offer;
struct sender;
struct stage_slot;
struct transport;
struct verify;

struct sender_config {
	struct transport *bulk;
	struct mailbox *mailbox;
	struct capture *capture; /* its `round` is read during a live round */
	struct mirror *mirror;	 /* NULL: no disks; then copy is NULL too */
	struct copy *copy;
	uint64_t session; /* of the link, for letters */
	uint64_t generation;
	enum codec_id codec;
	bool delta;
	uint64_t cache_bytes;
	/* The first round: what the standby's memory is before it. */
	struct offer *offer;   /* of this VM (offer.h), or NULL */
	bool zeroed;	       /* zeroes */
	uint64_t copy_cap;     /* bytes a second of the disks' copy; 0: no cap */
	struct verify *verify; /* verify.h; NULL: the peer does not compare */
	/* So much of the backup's log for the open epoch: the rest waits in the mirror, and fills
	 * it, until the epoch is cut. Not in the first epoch, which the log does not hold. 0: no
	 * limit. */
	uint64_t log_limit_bytes;
};

/* Starts the thread. Everything in the configuration outlives it. */
int sender_open(const struct sender_config *config, struct sender **ret);
/* Ends and joins it; transport_shutdown() first, so that it does not wait. Takes NULL. */
void sender_close(struct sender *s);

/* Send what capture->round names while the domain runs; LETTER_ROUND_SENT answers. */
void sender_round(struct sender *s, uint64_t epoch);
/* A boundary is about to be cut: no records are drained until the next call here. */
void sender_cut(struct sender *s);
/* The epoch in the slot ends; LETTER_SENDING_END precedes its last frame. */
void sender_epoch(struct sender *s, const struct stage_slot *slot);
/* The cut came to nothing (-E2BIG). */
void sender_uncut(struct sender *s);

/* The first copy of the disks: whether all of it is sent, and how far it is. */
bool sender_disks_copied(struct sender *s);
/* The copy was at this place of the disks after so many disk frames of the first epoch: what
 * lies before it is in them. ops 0: there is no copy. */
struct sender_position {
	uint64_t ops;
	unsigned int disk;
	uint64_t offset;
};
void sender_position(struct sender *s, struct sender_position *ret);
struct sender_progress {
	uint64_t copied_bytes, total_bytes; /* of disks */
	uint64_t round_done, round_pages;   /* of the live round in progress */
	uint64_t bytes_raw, bytes_wire;	    /* of pages, and of hashes on the wire */
	uint64_t kept_pages;		    /* not sent: the standby had them */
	uint64_t disk_bytes;		    /* of writes after the copy */
	uint64_t open_epoch, log_bytes;	    /* what it takes of the backup's log */
};
void sender_progress(struct sender *s, struct sender_progress *ret);

#endif
