/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device model of an HVM guest: QEMU, told by its machine protocol (QMP). It stops after the
 * guest has suspended and before its pages are read, tells its state, and goes on; what it writes
 * to the guest's memory it marks in Xen's log-dirty, from emulator_open() to emulator_close(). A
 * PVH guest has none.
 *
 * The socket is the one that libxl has QEMU open for libxenstat: libxl's own, which takes one
 * client at a time, stays free for xl.
 *
 * Calls wait for QEMU, at most EMULATOR_NS each. Threads: one at a time.
 * Source: QEMU 7.2, qapi/migration.json (xen-save-devices-state, xen-set-global-dirty-log); libxl
 * keeps the same order (docs/specs/libxl-migration-stream.pandoc, EMULATOR_CONTEXT).
 */
#ifndef POLLUX_HA_XEN_EMULATOR_H
#define POLLUX_HA_XEN_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define EMULATOR_NS (UINT64_C(10) * 1000000000)

struct emulator;

/* Where its state is written for us, and its socket: the host's memory file system. */
struct emulator_config {
	const char *socket;	    /* a path */
	const char *state;	    /* the path of a file that need not exist */
	void (*idle)(void *opaque); /* NULL; or called again and again while QEMU is waited for */
	void *opaque;
};

/* The guest's processors are paused: while QEMU stands still, what they ask of a device is lost.
 * Refuses one whose state is larger than a state has room for. */
int emulator_open(const struct emulator_config *config, struct emulator **ret, struct reason *why);
/* One that was stopped runs on. Takes NULL. */
void emulator_close(struct emulator *e);
/* The most that its state may have, from now on. */
uint32_t emulator_room(const struct emulator *e);

/* QEMU has ended, or in a call has said what is no answer, or nothing for EMULATOR_NS: calls fail
 * from then on. The guest has no devices any more. Does not wait. */
bool emulator_is_lost(struct emulator *e);

/*
 * Each fails with -EIO and says why, unless noted.
 *
 * Stopped already: fine. Nothing of the guest's memory changes by it until emulator_run().
 */
int emulator_stop(struct emulator *e, struct reason *why);
/* Of one that is stopped. The length, or -EMSGSIZE: it has outgrown `room`. */
int emulator_state(struct emulator *e, void *ret, uint32_t room, struct reason *why);
/* Its devices answer when this returns: so before the guest runs. Not stopped: fine. */
int emulator_run(struct emulator *e, struct reason *why);

#endif
