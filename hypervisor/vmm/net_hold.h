/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of held frames: what the guest sent and the world may not see yet (P1).
 *
 * One queue a VM, over all its NICs, so that release keeps their order. While holding is
 * on, a frame enters with net_hold_put() inside the gate, in the same section in which
 * the guest sees it sent; so a frame belongs to the epoch that ends with the next pause.
 * net_hold_mark() in that pause gives it the epoch's number, and net_hold_release() lets
 * it go. A full queue takes nothing (-ENOBUFS): the device leaves the frame with the
 * guest and is woken by its room eventfd. Frames that nobody releases stay held. The
 * frames are not part of the saved state: the backup never needs what was not released.
 *
 * Memory is allocated when holding is switched on; put, mark and release allocate
 * nothing. Threads: any. `out` serialises everything that emits or removes frames, and
 * only net_hold_mark() and net_hold_put() run beside it. Order of locks: gate, `out`,
 * `lock`; `out` is never taken inside the gate.
 */
#ifndef POLLUX_VMM_NET_HOLD_H
#define POLLUX_VMM_NET_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/hist.h"

#define NET_HOLD_MAX_NICS  8u
#define NET_HOLD_MIN_BYTES (UINT64_C(256) << 10)
#define NET_HOLD_MAX_BYTES (UINT64_C(1) << 30)
#define NET_FRAME_MIN	   14u
#define NET_FRAME_MAX	   65550u /* an Ethernet header, a VLAN tag short of 64 KiB */

struct net_hold;

/* vm_open() keeps it as vm->net_hold, opened before any device is created; vm_close() closes
 * it after the last one is destroyed. */
int net_hold_open(struct net_hold **ret);
void net_hold_close(struct net_hold *hold);

/*
 * A NIC's way out: packets of `nic` are written to `fd`, each a header of `header_bytes`
 * (the tap's virtio-net header; at most 16) and a frame. `room_fd`, an eventfd, is raised
 * when there is room again after -ENOBUFS. Both stay the caller's and must outlive the
 * queue's use.
 */
int net_hold_add_nic(struct net_hold *hold, unsigned int nic, int fd, int room_fd,
		     size_t header_bytes);

/* What CONTROL_NET_HOLD asks. On: the limit is refused (-EINVAL) outside the two bounds above;
 * a second `on` keeps what is held and forgets its marks. `*ret_event_fd`, the caller's to
 * close, is the eventfd of control.h. Off: emits all, `ret_event_fd` may be NULL. */
int net_hold_set(struct net_hold *hold, bool on, uint64_t limit_bytes, int *ret_event_fd);
/* -EINVAL unless `epoch` is above the last one marked. In the pause: constant time. */
int net_hold_mark(struct net_hold *hold, uint64_t epoch);
/* Emits frames of epochs up to `epoch`. -ETIME past not_after_ns (CLOCK_BOOTTIME; 0: none),
 * with what was emitted until then counted all the same. */
int net_hold_release(struct net_hold *hold, uint64_t epoch, uint64_t not_after_ns,
		     uint64_t *ret_frames, uint64_t *ret_bytes);
/* Drops everything that is held; returns the number of frames. */
uint64_t net_hold_drop(struct net_hold *hold);
/* Emits a frame past the queue, behind a header of zeros. -ENODEV: no such NIC; -EMSGSIZE: not
 * a frame's length. */
int net_hold_inject(struct net_hold *hold, unsigned int nic, const void *frame, size_t len);

struct net_hold_stats {
	uint64_t held_frames, held_bytes, limit_hits, released_frames;
	uint64_t emit_errors; /* frames the tap did not take: lost, as on a wire */
	struct hist hold_time;
};
void net_hold_stats(struct net_hold *hold, struct net_hold_stats *ret);

/* The device's side: a packet with its header. put: 0 held; -ENOBUFS full (room_fd will tell);
 * -ENOTCONN holding is off, so the caller leaves the gate and calls net_hold_send(), which
 * emits at once, or holds after all when holding began in between, or -ENOBUFS. */
int net_hold_put(struct net_hold *hold, unsigned int nic, const void *packet, size_t len);
int net_hold_send(struct net_hold *hold, unsigned int nic, const void *packet, size_t len);

#endif
