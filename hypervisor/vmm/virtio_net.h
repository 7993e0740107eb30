/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net over a tap (virtio 1.2, 5.1): one queue pair; checksums and TCP segmentation are left
 * to the tap and whatever lies behind it (net_offload.h).
 *
 * The guest's frames go through net_hold.h (P1). The addresses that it is seen to own are
 * learned on the way out and saved, so that a takeover can announce them.
 */
#ifndef POLLUX_VMM_VIRTIO_NET_H
#define POLLUX_VMM_VIRTIO_NET_H

#include <stdint.h>

struct net_addresses;
struct reason;
struct vm;

/* NIC `index` of the VM's configuration: makes tap `px<domid>.<index>`, joins it to its bridge,
 * adds the device to the VM and to vm->net_hold. Before privileges are dropped. */
int virtio_net_create(struct vm *vm, unsigned int index, struct reason *why);
/* The same over a descriptor that takes and gives frames behind a 12-byte header; owns it. */
int virtio_net_create_over(struct vm *vm, unsigned int index, int fd, struct reason *why);
/* Copies what NIC `index` has learned and its MAC. -ENODEV: no such NIC. */
int virtio_net_addresses(struct vm *vm, unsigned int index, uint8_t ret_mac[6],
			 struct net_addresses *ret);

#endif
