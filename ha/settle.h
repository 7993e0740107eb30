/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settling, on the primary: a thread that tells pollux-vmm when changes of its deferred disks
 * (those on DRBD) wait, up to where they may go to the disk, and that they need not wait any
 * more (CONTROL_DISK_DEFER, _SETTLE). It has a connection of its own, since all of that waits
 * for a disk.
 *
 * While they wait, a change reaches DRBD only after its epoch is acknowledged (P2), and the
 * backup keeps it until settler_settled() says that it is on stable storage there, on both
 * hosts: while DRBD is not connected, or its disk on the other host is behind, nothing is.
 *
 * Threads: all calls by one.
 */
#ifndef POLLUX_HA_SETTLE_H
#define POLLUX_HA_SETTLE_H

#include <stdbool.h>
#include <stdint.h>

#include "disk-replica/format.h"

struct settler;

struct settler_config {
	const char *run_dir;
	uint64_t limit_bytes;		  /* of what may wait, a disk */
	unsigned int minor[DISK_MAX], nr; /* of DRBD's devices */
};

/* What an engine before has left is unknown: say what is to be. */
int settler_open(const struct settler_config *config, struct settler **ret);
/* Waits for what was asked last. Takes NULL. */
void settler_close(struct settler *s);

/* From now on changes wait, or pass. Done when the next call says so. */
void settler_hold(struct settler *s, bool hold);
/* Whether what was asked last is done. */
bool settler_is_done(struct settler *s);
/* The epoch, which ends at this position of the ring, is acknowledged. */
void settler_allow(struct settler *s, uint64_t epoch, uint64_t position);
/* All epochs up to this one are on stable storage, since settler_hold(); 0: none. */
uint64_t settler_settled(struct settler *s);
/* For how long it has waited for DRBD to be whole again, and what is not; 0: it is. */
uint64_t settler_apart_ns(struct settler *s, struct reason *why);
/* Whether this host lacks a copy of its own, when it last looked, and of which device. */
bool settler_is_bare(struct settler *s, struct reason *why);
/* The -errno of a disk or of pollux-vmm, with its text; 0: none. Tried again by settler_hold(). */
int settler_error(struct settler *s, struct reason *why);

#endif
