/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk over a raw file or block device (virtio 1.2, 5.2).
 *
 * A thread a disk takes requests in order. A request that was taken and not completed is
 * part of the saved state and is issued again at the start after a load.
 */
#ifndef POLLUX_VMM_VIRTIO_BLK_H
#define POLLUX_VMM_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct blk_defer;
struct vm;

/* Disk `index` of the VM's configuration: opens it and adds the device. A disk that is absent,
 * not a multiple of 512 bytes or in use is refused by name. A standby opens it without
 * locking it: until start() it belongs to whoever fills it. */
int virtio_blk_create(struct vm *vm, unsigned int index, struct reason *why);

struct virtio_blk_info {
	uint64_t bytes;
	bool readonly;
};
/* The queue of a deferred disk, or NULL. */
struct blk_defer *virtio_blk_defer(struct vm *vm, unsigned int index);
/* The open device of a standby's deferred disk, before start(). Takes `fd`, also on failure. */
int virtio_blk_give(struct vm *vm, unsigned int index, int fd, struct reason *why);
/* -ENODEV: no such disk. */
int virtio_blk_info(struct vm *vm, unsigned int index, struct virtio_blk_info *ret);

#endif
