/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary's side of the engine. primary.c carries out the role's actions and reads
 * letters; primary_copy.c brings a new backup to the first epoch; primary_epoch.c steps
 * epoch.h and takes checkpoints; primary_switch.c moves the VM; primary_end.c sees that it is
 * gone. All on the main thread.
 */
#ifndef POLLUX_HA_PRIMARY_H
#define POLLUX_HA_PRIMARY_H

#include "disk-replica/sources.h"
#include "ha/capture.h"
#include "ha/engine.h"
#include "ha/epoch.h"
#include "ha/output.h"
#include "ha/platform.h"
#include "ha/resync.h"
#include "ha/stage.h"
#include "ha/verify_report.h"

struct control;
struct copy;
struct dial;
struct link;
struct mirror;
struct netbuf;
struct offer;
struct sender;
struct settler;
struct track;
struct verify;

/* What was asked for of the changes of disks on DRBD. */
enum drbd_deferral { DRBD_UNKNOWN, DRBD_PASSES, DRBD_WAITS };

struct primary {
	struct platform platform;
	struct control *control; /* of the VM's process, for the disks */
	struct sources sources;	 /* the disks, and who changes them */
	struct netbuf *netbuf;	 /* held.netbuf */
	struct output held;
	uint64_t drops_told, faults_told; /* of netbuf_stats, in events */
	sd_event_source *output;	  /* its notice, while output is held */
	sd_event_source *stopped;	  /* of platform.stop_fd; NULL: stops are at once */
	struct capture capture;
	struct stage stage;

	/* Finding a backup. */
	struct dial *dial;
	uint64_t next_dial_ns;
	uint64_t dial_delay_ns;
	uint16_t port; /* of the standby's engine, as prepared */

	/* The present link; all NULL without one. */
	struct link *link;
	struct sender *sender;
	struct offer *offer;   /* of its first round; NULL: the standby has nothing of the VM */
	struct mirror *mirror; /* outlives a link that breaks: see primary_drop_link() */
	struct copy *copy;
	struct track *track;   /* NULL: writes are not counted, or the peer does not tell */
	bool track_failed;     /* nothing is forgotten any more */
	struct verify *verify; /* NULL: the peer does not compare */
	struct resync resync;  /* of the relation that was settled last */
	uint64_t durable_epoch, durable_ops; /* the backup's word */
	uint64_t session;
	uint64_t wire_before, raw_before; /* bytes of links that are gone */

	/* Disks on DRBD; NULL: there are none. */
	struct settler *settler;
	enum drbd_deferral deferral;
	bool drbd_failed, drbd_apart, drbd_bare; /* and told */
	uint64_t settled_told;			 /* to the backup */
	uint64_t position[EPOCH_MAX_IN_FLIGHT];	 /* of an epoch's end, in pollux-vmm's ring */

	/* The first copy. */
	bool logging; /* log-dirty is on, and perhaps the mirror */
	bool copying;
	bool round_pending; /* the sender has a live round */
	uint32_t rounds;

	/* Epochs. */
	struct epoch epoch;
	struct epoch_actions due; /* a checkpoint that is to be taken once the guest stands still */
	uint64_t digest[EPOCH_MAX_IN_FLIGHT]; /* of the epochs sent, by number */
	uint64_t epoch_next_ns;
	uint64_t checked_ns; /* last look at the queues */
	bool throttled;	     /* the guest is stopped to slow it, until throttle_ns */
	uint64_t throttle_ns;

	/* A switchover: when the guest was told to stop for the last time, when it stood
	 * still, when the backup's last acknowledgement was read; 0: none. */
	uint64_t told_ns, still_ns, acked_ns;

	struct verify_report verified; /* the last one, as far as it has been told of */

	uint64_t looked_ns; /* last question whether the VM still runs */
	bool ended;	    /* the VM was shut down or destroyed */
};

/* primary_end.c. False: the VM does not run here any more, and what follows from that was done. */
bool primary_look_at_vm(struct engine *e);

/* primary_copy.c */
int primary_connected(struct engine *e);
void primary_begin_copy(struct engine *e);
/* The copy's next step, if one is due; returns when to look again. */
uint64_t primary_copy_tick(struct engine *e, uint64_t now_ns);
void primary_drop_link(struct engine *e);
void primary_say_resync(struct engine *e);
/* What is on stable storage on the backup: who forgets is told. -EPROTO: an epoch that was not
 * sent. */
int primary_durable(struct engine *e, uint64_t epoch, uint64_t disk_ops);
/* Without a link and with the solo right nothing is logged or mirrored: a ring that nobody
 * empties would stop the disk of a VM that may run alone. */
void primary_go_plain(struct engine *e);

/* primary.c */
void primary_send_heartbeat(struct engine *e);
void primary_bury(struct primary *p);

/* primary_drbd.c; harmless without such disks. */
int primary_drbd_open(struct engine *e, struct reason *why);
void primary_drbd_close(struct engine *e);
/* Without a link and with the solo right changes pass, as soon as those that wait have. */
void primary_drbd_go_plain(struct engine *e);
bool primary_drbd_passes(struct engine *e);
/* Changes wait from now on: true once they do. */
bool primary_drbd_hold(struct engine *e);
void primary_drbd_acked(struct engine *e, uint64_t epoch);
/* Tells the backup what is settled. The error of a disk that ends that, once. */
int primary_drbd_tick(struct engine *e, struct reason *why);
/* Another host is to have the disks: buries the VM. Before that one hears of it. */
void primary_drbd_let_go(struct engine *e);

/* primary_epoch.c */
int primary_epoch_open(struct engine *e);
int primary_epoch_feed(struct engine *e, const struct epoch_event *ev, uint64_t now_ns);
void primary_round_sent(struct engine *e);
/* -EPROTO: not what was sent, by number or by digest. */
int primary_acked(struct engine *e, uint64_t epoch, uint64_t digest);
void primary_output_waits(struct engine *e);
/* Tells, once, what of it was lost. */
void primary_look_at_output(struct engine *e);
/* Takes the checkpoint that was asked for. Not called from within a letter: those behind it,
 * an echo that keeps the lease, an acknowledgement that lets output go, would wait for it. */
void primary_checkpoint_due(struct engine *e);
uint64_t primary_epoch_tick(struct engine *e, uint64_t now_ns);

/* primary_verify.c */
int primary_verify_open(struct engine *e, uint64_t seed);
/* What was going on is broken off. */
void primary_verify_close(struct engine *e);
struct json_object *primary_verify(struct engine *e, struct json_object *request);
/* Tells how it ended; returns when to look again. */
uint64_t primary_verify_tick(struct engine *e, uint64_t now_ns);

/* primary_switch.c: the last epoch here, and what becomes of it. */
void primary_switch_begin(struct engine *e);
void primary_switch_undo(struct engine *e);
void primary_switch_yield(struct engine *e, enum role_why why);
/* The checkpoint that was to be the last is taken. */
void primary_switch_still(struct engine *e, uint64_t epoch, uint64_t told_ns, uint64_t still_ns);

#endif
