/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the primary and its backup tell each other of their disks before a copy: whether they
 * belong together, and which regions may differ.
 *
 * The primary offers the token under which pollux-vmm keeps count of its writes, and a fresh
 * one for the case that the other host's copy does not go by the first. The other host
 * answers whether it does, and with what it wrote itself when it ran the VM. The union is in
 * the primary's own region file, durably, before the copy starts: so whatever dies from then
 * on, nothing that may differ is forgotten. Else all is copied, under the fresh token, with
 * every region marked, and the reason is said aloud.
 *
 * docs/protocol.md, "The errand"; docs/disk-format.md, "Which regions are copied".
 * Fault points: "resync.settle" (the answer is here, nothing is done), "resync.marked" (the
 * region file has everything).
 *
 * Threads: one at a time; all calls may wait for pollux-vmm and for the disk.
 */
#ifndef POLLUX_HA_RESYNC_H
#define POLLUX_HA_RESYNC_H

#include "disk-replica/region_sets.h"

struct control;
struct json_object;
struct sources;

struct resync_config {
	const char *run_dir;   /* of the VM */
	const char *state_dir; /* where the region file is */
	const char *peer;
	uint64_t generation;
	unsigned int nr_disks;
};

struct resync_offer {
	bool related; /* there is a token */
	uint8_t token[REGION_TOKEN_BYTES];
	uint8_t fresh[REGION_TOKEN_BYTES];
	char reason[200]; /* why there is none */
};

struct resync {
	bool partial;
	bool tracked;	  /* writes are counted from here on */
	char reason[200]; /* why it is not partial, or not tracked */
};

/* Asks whoever counts. */
void resync_offer(const struct resync_config *config, struct resync_offer *ret);
/* {"disk_token": TEXT or null, "disk_token_new": TEXT} */
void resync_put_offer(const struct resync_offer *offer, struct json_object *request);
/* Does what the answer asks for: {"resync": {"same": FLAG, "reason": TEXT, "regions": TEXT}}. */
void resync_settle(const struct resync_config *config, const struct resync_offer *offer,
		   struct json_object *reply, struct resync *ret);

/* Everything that is marked now, and all of a disk that its server does not count. */
int resync_read_sets(const struct sources *s, struct region_sets *ret);
/* What is marked from here on is marked after this. */
void resync_rotate(const struct sources *s);

/* Marks what one disk's set has, durably. */
int resync_mark(const struct sources *s, const struct region_sets *sets, unsigned int disk,
		struct reason *why);

/* Takeover: counts in the region files that the standby has kept ready; if that cannot be, they
 * are removed, and the next copy is a full one. */
int resync_count_here(struct control *control, const char *state_dir, struct reason *why);

#endif
