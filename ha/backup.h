/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's side of the engine. backup.c carries out the role's actions and reads
 * letters; takeover.c is the one path on which the standby comes to life. All on the main
 * thread; frames arrive in assemble.h, epochs are committed in commit.h.
 */
#ifndef POLLUX_HA_BACKUP_H
#define POLLUX_HA_BACKUP_H

#include "disk-replica/format.h"
#include "ha/engine.h"
#include "ha/platform.h"

struct acceptor;
struct apply;
struct assembler;
struct check;
struct commit;
struct durable;
struct control;
struct disk_log;
struct harden;
struct link;
struct pending;

struct backup {
	struct platform platform;
	struct control *control; /* of the VM's process */
	struct disk_info disks[DISK_MAX];
	unsigned int nr_disks;
	unsigned int nr_nics;

	struct acceptor *acceptor; /* outlives the link: it owns what interrupts it */
	struct link *link;
	uint64_t session;
	uint64_t beat_ns; /* the send time in the heartbeat that is being answered */
	uint64_t whole_digest;

	/* The standby; all NULL once it is dropped or runs. */
	struct pending *pending;
	struct disk_log *log;
	struct apply *apply;
	struct harden *harden; /* with commit = disk */
	struct assembler *assembler;
	struct commit *commit;
	struct check *check;
	struct durable *durable; /* NULL: the primary does not ask */
	bool tells_durable;

	uint64_t acked_ns; /* when the last acknowledgement was sent */
	/* When the primary's YIELD was read, and its two spans; 0: none. */
	uint64_t yield_ns, yield_acked_ns, yield_still_ns;
	uint64_t last_arrived_ns;
	uint64_t looked_ns;
	unsigned int announced; /* how often the LAN was told, after a takeover */
	uint64_t announced_ns;
	bool standby_gone;
	char *device[DISK_MAX];	      /* of disks on DRBD; else NULL */
	unsigned int minor[DISK_MAX]; /* likewise */
	uint32_t given;		      /* disks on DRBD that pollux-vmm has, a bit each */
	bool settled, marker_left;    /* how far a takeover has come that is tried again */
};

/* backup.c */
void backup_drop_link(struct engine *e);

/* backup_durable.c: tells the primary what is on stable storage, if that has changed. */
void backup_say_durable(struct engine *e);

/* backup_drbd.c. Beforehand: which devices they are. */
int backup_drbd_open(struct engine *e, struct reason *why);
void backup_drbd_close(struct engine *e);
/* At a takeover, with every whole epoch applied; again after an error. */
int backup_drbd_take(struct engine *e, struct reason *why);
/* Afterwards: the old host is to follow. */
void backup_drbd_connect(struct engine *e);

/* takeover.c: commits what is whole, drops what is not, loads, announces, runs; then feeds
 * TAKEN_OVER, or LOCAL_FAILURE and the guest has not run. */
void backup_take_over(struct engine *e);
/* Tells the LAN again, when it is time; returns when to come again. */
uint64_t backup_announce_tick(struct engine *e, uint64_t now_ns);
/* Now, if it is to be told again: another engine goes on with the VM. */
void backup_announce_rest(struct engine *e);

#endif
