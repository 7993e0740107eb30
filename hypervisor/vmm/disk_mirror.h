/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The producer's side of the disk ring (control.h, CONTROL_DISK_MIRROR).
 *
 * Every change of a disk is put here after the disk has it and before the guest sees its
 * completion. A pause takes the ring's position as the boundary of the epoch. A change
 * whose completion the checkpoint shows is therefore before the boundary, and so part of
 * the epoch (P2). One that is in the ring and not completed is in the saved state as a
 * request in flight: it is issued again after a takeover and writes the same bytes.
 *
 * One ring a VM; the disks' threads take turns. A full ring makes its producer wait,
 * outside the gate, and the others behind it: the disks stall, the pause does not.
 */
#ifndef POLLUX_VMM_DISK_MIRROR_H
#define POLLUX_VMM_DISK_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_MIRROR_MIN_BYTES (UINT64_C(1) << 20)
#define DISK_MIRROR_MAX_BYTES (UINT64_C(1) << 32)

struct disk_mirror;

/* vm_open() keeps it as vm->disk_mirror, opened before any device is created; vm_close()
 * closes it after the last one is destroyed. */
int disk_mirror_open(struct disk_mirror **ret);
void disk_mirror_close(struct disk_mirror *mirror);

/* What CONTROL_DISK_MIRROR asks. On: makes a ring of ring_bytes (a power of two between the
 * bounds above, else -EINVAL) and gives {ring memfd, "records waiting", "room again"} in
 * ret_fds, the caller's to close; it replaces the ring before. Off: ret_fds may be NULL. */
int disk_mirror_set(struct disk_mirror *mirror, bool on, uint64_t ring_bytes, int ret_fds[3]);

struct disk_change {
	uint8_t op; /* enum control_disk_op */
	uint16_t disk;
	uint64_t offset;  /* bytes */
	uint64_t length;  /* bytes; of `data` for a write, at most CONTROL_DISK_DATA_MAX */
	const void *data; /* a write's, else NULL */
};
/* Puts the change, waiting for room; the position after it, 0 when mirroring is off, is in
 * *ret_position, which may be NULL. -ECANCELED after disk_mirror_stop(). Outside the gate. */
int disk_mirror_put(struct disk_mirror *mirror, const struct disk_change *change,
		    uint64_t *ret_position);
/* A write, discard or zeroes that has failed may be there in part: puts what the disk, `fd`, holds
 * in its place. -errno of reading it, with nothing put of what could not be read. */
int disk_mirror_put_found(struct disk_mirror *mirror, int fd, const struct disk_change *failed);
/* Nobody waits in disk_mirror_put() from now on. A disk calls it when it stops. */
void disk_mirror_stop(struct disk_mirror *mirror);

#endif
