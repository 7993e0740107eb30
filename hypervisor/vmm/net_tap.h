/* SPDX-License-Identifier: Apache-2.0 */
/* Making the host's end of a NIC: a tap, named, joined to a bridge and up. */
#ifndef POLLUX_VMM_NET_TAP_H
#define POLLUX_VMM_NET_TAP_H

#include "base/err.h"

#define NET_TAP_HEADER_BYTES 12u /* struct virtio_net_hdr_v1, before each frame */

/*
 * Makes tap `name` (at most 15 bytes) and joins it to `bridge` ("": none). The descriptor
 * is non-blocking; the tap lives as long as it. Needs CAP_NET_ADMIN. -EBUSY: the name is
 * taken; -ENODEV: no such bridge.
 *
 * It is deaf at first: a standby's tap would otherwise fill with what the LAN said while it
 * stood by, and the guest would hear it all at once after a takeover.
 */
int net_tap_open(const char *name, const char *bridge, int *ret_fd, struct reason *why);
/* Frames for the guest are queued from here on. Needs no privilege. */
int net_tap_listen(int fd);
/* From here on frames may have left undone what `flags` (TUN_F_*) allow, at first nothing; what
 * is queued already may be otherwise. Needs no privilege. */
void net_tap_offload(int fd, unsigned int flags);

#endif
