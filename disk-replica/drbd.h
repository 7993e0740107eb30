/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk on DRBD: the resource's state, and the few commands that a takeover, a switchover and a
 * return need, through drbdadm of drbd-utils and /proc/drbd. DRBD mirrors the disk; Pollux decides
 * when the guest's writes reach it (blk_defer.h) and which host is its primary.
 *
 * Nothing here ever discards data: a split brain is reported, and an operator's to resolve.
 *
 * Calls wait for drbdadm, at most DRBD_COMMAND_NS each. Threads: any.
 *
 * Source: drbdadm(8), drbd.conf(5) of drbd-utils 9.22, with the kernel's DRBD 8.4.
 */
#ifndef POLLUX_DISK_DRBD_H
#define POLLUX_DISK_DRBD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define DRBD_COMMAND_NS (UINT64_C(10) * 1000000000)
#define DRBD_NAME_MAX	64u
#define DRBD_WORD_MAX	24u

#define DRBD_PROC "/proc/drbd"
extern const char *drbd_proc; /* that; a test has one of its own */

/* Words as the kernel has them: "Primary", "Connected", "UpToDate"; "Unknown" when the peer is not
 * there. */
struct drbd_status {
	char role[DRBD_WORD_MAX], peer_role[DRBD_WORD_MAX];
	char connection[DRBD_WORD_MAX];
	char disk[DRBD_WORD_MAX], peer_disk[DRBD_WORD_MAX];
	char protocol; /* 'A', 'B', 'C'; another: not connected */
};

/* A name that may be given to drbdadm: letters, digits, '.', '_', '-', not '-' first. */
bool drbd_name_ok(const char *resource);
/* The resource that a disk's path names (CONTROL_DRBD_PREFIX); NULL: it is another disk's. */
const char *drbd_resource(const char *path);

/* -ENOENT: no such resource, or no drbdadm, with what it said. */
int drbd_status(const char *resource, struct drbd_status *ret, struct reason *why);
/* The device's path, "/dev/drbd0". */
int drbd_device(const char *resource, char *ret, size_t size, struct reason *why);
/* Its size, which can be had of a secondary too. -ENODEV: none yet. */
int drbd_bytes(const char *resource, uint64_t *ret, struct reason *why);

/* The minor number of its device. */
int drbd_minor(const char *resource, unsigned int *ret, struct reason *why);
/* What the kernel says of it, in that file, as often as one likes. -ENOENT: nothing. */
int drbd_read(const char *proc, unsigned int minor, struct drbd_status *ret, struct reason *why);
/* Whether what is on stable storage in DRBD here is so on the other host, too: connected, its
 * disk UpToDate, be it that DRBD compares the two or copies to this host. -EINVAL: no, and why;
 * else as drbd_read(). */
int drbd_whole(const char *proc, unsigned int minor, struct reason *why);
/* Whether this host has a copy of its own, UpToDate; without one DRBD reads and writes the other
 * host's. -EINVAL: no, and why; else as drbd_read(). */
int drbd_has_own(const char *proc, unsigned int minor, struct reason *why);

/* Whether a VM may be protected on it: connected, UpToDate on both sides, protocol C, primary
 * on the VM's host or secondary on the other. -EINVAL, or -ECONNABORTED of a resource that is
 * StandAlone, and the reason, by name. */
int drbd_check(const char *resource, bool here_is_primary, struct reason *why);
/* As the secondary, with a device of that size. */
int drbd_check_backup(const char *resource, uint64_t bytes, struct reason *why);

/* Makes this host the primary, for a VM that starts here. -EIO: not UpToDate; -EBUSY: the other
 * host is; or drbdadm's refusal. */
int drbd_begin(const char *resource, struct reason *why);
/*
 * The same for who holds the solo right: where the other host still seems to be there, the
 * connection is cut first, so that it cannot object and its writes reach this disk no more (P3).
 * The VM stands still meanwhile: its minor number is known.
 */
int drbd_promote(const char *resource, unsigned int minor, struct reason *why);
/* Whether this host is the primary of any resource. */
bool drbd_is_primary_of_any(void);
/* Nothing may have the device open. Not primary: fine. */
int drbd_demote(const char *resource, struct reason *why);
/* Connects again, after a takeover; the peer may be away. A split brain shows in the state. */
int drbd_connect(const char *resource, struct reason *why);

#endif
