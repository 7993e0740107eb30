/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the sender: what send.c, send_round.c and send_verify.c share.
 */
#ifndef POLLUX_HA_SEND_IMPL_H
#define POLLUX_HA_SEND_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "disk-replica/format.h"
#include "disk-replica/mirror.h"
#include "ha/message.h"
#include "ha/offer.h"
#include "ha/platform.h"
#include "ha/send.h"

#define JOBS_MAX 32u

struct job {
	const struct stage_slot *slot; /* NULL: a live round */
	uint64_t epoch;
};

struct sender {
	struct sender_config config;
	struct encoder *encoder;
	pthread_t thread;
	pthread_mutex_t lock;
	struct job job[JOBS_MAX];  /* lock */
	unsigned int first, count; /* lock */
	bool cutting;		   /* lock */
	bool stopping;		   /* lock */
	struct sender_position at; /* lock */
	int wake_fd;

	/* The thread's own. */
	uint64_t pages_sent, disk_ops_sent;
	bool disk_lost;		    /* who changes it has gone: the epoch was not sent */
	struct mirror_mark drained; /* positions in the mirror */
	bool copied;
	bool round_before; /* this is not the first round */
	uint64_t hash_bytes;
	struct offer_answer answer;
	uint64_t copy_next_ns; /* the cap: nothing more of the copy before this */
	struct refusal why;
	uint8_t page[PLATFORM_PAGE_BYTES] __attribute__((aligned(64)));

	/* Read by others. */
	_Atomic uint64_t open_epoch; /* the one whose frames are being sent */
	_Atomic uint64_t round_done, round_pages, bytes_raw, bytes_wire, disk_bytes;
	_Atomic uint64_t copied_bytes, total_bytes, kept_pages, log_bytes;
	atomic_bool disks_copied;
};

/* send.c */
/* Sends it as part of the open epoch. */
int sender_message(struct sender *s, struct message *m);
/* One change of a disk. `initial`: of the first copy, not the guest's. */
int sender_record(struct sender *s, const struct disk_record *r, bool initial);
/* What the mirror has, as far as it belongs to the open epoch. */
int sender_drain(struct sender *s);
void sender_count(struct sender *s);
bool sender_stops(struct sender *s);

/* send_round.c: what a live round names. */
int sender_do_round(struct sender *s);

/* send_verify.c: a look is due and nothing else is; an epoch is about to be sent. */
bool sender_verify_due(struct sender *s);
int sender_verify(struct sender *s);
int sender_verify_epoch(struct sender *s, const struct stage_slot *slot);

#endif
