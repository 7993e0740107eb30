/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that outlives its VM here. What a standby held when its engine died or the
 * primary came anew, or an old VM when it was stopped for good, is most of what the other host
 * is about to send: the next standby of the same VM is started with it, and the primary sends
 * the pages that differ (ha/offer.h). Nothing of it is believed: every page is compared. Memory
 * alone is kept, no state of processors or devices: nothing can run from it (P3).
 *
 * polluxd has each VM's memfd from its start on, so that it is there whatever the process dies
 * of; it is never mapped here. A restart of polluxd loses what is kept, and no more than that.
 *
 * Kept memory is given up when it has not been asked for in KEPT_NS, when the VM is started
 * otherwise, and whenever somebody needs the room.
 */
#ifndef POLLUX_DAEMON_KEPT_H
#define POLLUX_DAEMON_KEPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define KEPT_NS (600 * NS_PER_S)

struct daemon;
struct vm;

/* The guest memory of the VM of this number, or -1. */
int kept_open(struct daemon *d, uint32_t number, uint64_t bytes);

/* Workers. Takes over vm->memory_fd; nobody else writes to it any more. */
void kept_put(struct daemon *d, struct vm *vm);
/* What is kept for it, checked for size and seals, or -1; then it is the caller's. */
int kept_take(struct daemon *d, const char *name, const char *uuid, uint64_t bytes);
void kept_drop(struct daemon *d, const char *name);
/* Bytes of memory that are available to a VM of that name, its own kept ones among them. When
 * that is less than `wanted`, what is kept for others goes first. */
uint64_t kept_make_room(struct daemon *d, const char *name, uint64_t wanted);

/* The loop: gives up what nobody has asked for. */
void kept_expire(struct daemon *d);
/* At the end. */
void kept_drop_all(struct daemon *d);

#endif
