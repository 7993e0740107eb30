/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2, 5.4): the host's getrandom(). It has no state of its own. */
#ifndef POLLUX_VMM_VIRTIO_RNG_H
#define POLLUX_VMM_VIRTIO_RNG_H

struct reason;
struct vm;

int virtio_rng_create(struct vm *vm, unsigned int index, struct reason *why);

#endif
