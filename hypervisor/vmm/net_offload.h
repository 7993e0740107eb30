/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Offloads of virtio-net (virtio 1.2, 5.1.6): one packet stands for many segments, and a
 * checksum is left to whoever needs it. What driver and tap say of a packet in its header
 * is judged here. Pure: no state, no thread.
 */
#ifndef POLLUX_VMM_NET_OFFLOAD_H
#define POLLUX_VMM_NET_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_OFFLOAD_HEADER_BYTES 12u /* struct virtio_net_hdr_v1, little-endian */

/* Features: HOST is what the driver may send, GUEST what it takes. */
#define NET_OFFLOAD_CSUM       (UINT64_C(1) << 0)
#define NET_OFFLOAD_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_OFFLOAD_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_OFFLOAD_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_OFFLOAD_GUEST_ECN  (UINT64_C(1) << 9)
#define NET_OFFLOAD_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_OFFLOAD_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_OFFLOAD_HOST_ECN   (UINT64_C(1) << 13)
#define NET_OFFLOAD_MRG_RXBUF  (UINT64_C(1) << 15) /* a packet may fill several buffers */

#define NET_OFFLOAD_FEATURES                                                                       \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_TSO4 |                      \
	 NET_OFFLOAD_GUEST_TSO6 | NET_OFFLOAD_GUEST_ECN | NET_OFFLOAD_HOST_TSO4 |                  \
	 NET_OFFLOAD_HOST_TSO6 | NET_OFFLOAD_HOST_ECN | NET_OFFLOAD_MRG_RXBUF)

/* What a tap may leave undone for a driver that accepted these: TUN_F_* for TUNSETOFFLOAD. */
unsigned int net_offload_tap(uint64_t accepted);
/* Whether the driver may send a frame of `frame_len` bytes behind this header; what has no
 * meaning on the way out is cleared in it. */
bool net_offload_out(uint64_t accepted, uint8_t header[NET_OFFLOAD_HEADER_BYTES], size_t frame_len);
/* Whether the driver takes a frame behind this header of the tap's; what it has not agreed
 * to is cleared in it, and the packet fills one buffer. */
bool net_offload_in(uint64_t accepted, uint8_t header[NET_OFFLOAD_HEADER_BYTES]);
/* The packet fills that many. */
void net_offload_set_buffers(uint8_t header[NET_OFFLOAD_HEADER_BYTES], uint16_t n);

#endif
