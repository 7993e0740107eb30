/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that is served by this process and whose changes others can follow: to them it is
 * what pollux-vmm is for its own disks, over the same control socket (control.h), of which
 * it speaks CONTROL_DISK_LIST and CONTROL_DISK_MIRROR.
 *
 * A change is put into the mirror's ring after the disk has it and before the call that
 * makes it returns. So what a client knows to be written is in the ring (P1, P2). A full
 * ring makes the call wait.
 *
 * The disk is locked, as pollux-vmm locks its own, from the first request of its clients to
 * the end of the last connection; a server without clients leaves it to a backup that keeps
 * the same file as its standby's disk.
 *
 * Threads: any, but open, start and close. Ranges are the caller's to have checked.
 */
#ifndef POLLUX_NBD_SOURCE_H
#define POLLUX_NBD_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct source;

/* Opens the disk, a raw file or a block device, and makes `control` in run_dir, which is made
 * too. -EBUSY: another server's run_dir. -ENAMETOOLONG: a path beyond its limit. */
int source_open(const char *path, const char *run_dir, struct source **ret, struct reason *why);
/* From now on the control socket is served. After the last fork(). */
int source_start(struct source *s);
/* Nobody waits for room in the ring any more: what waits, and what comes, is -ESHUTDOWN. */
void source_stop(struct source *s);
/* After the last call of any other; NULL is fine. */
void source_close(struct source *s);

/* A client comes and goes. */
void source_attach(struct source *s);
void source_detach(struct source *s);

uint64_t source_bytes(const struct source *s);
/* A descriptor of the disk, to look at. */
int source_fd(const struct source *s);

/* -EBUSY: the disk is somebody else's, a running VM's or a standby's. */
int source_read(struct source *s, uint64_t offset, void *ret, uint64_t len);
int source_write(struct source *s, uint64_t offset, const void *data, uint64_t len);
/* Everything that was completed before, whoever asked for it, is on stable storage. */
int source_flush(struct source *s);
/* The range reads as zeroes, or, where the disk cannot discard, is left as it is. */
int source_discard(struct source *s, uint64_t offset, uint64_t len);
enum source_zero {
	SOURCE_ZERO_KEEP, /* the space stays allocated */
	SOURCE_ZERO_PUNCH,
	SOURCE_ZERO_FAST_KEEP, /* and not by writing, neither here nor in the kernel */
	SOURCE_ZERO_FAST_PUNCH,
};
/* -EOPNOTSUPP: not in this way; nothing has changed. */
int source_zero(struct source *s, uint64_t offset, uint64_t len, enum source_zero how);

#endif
