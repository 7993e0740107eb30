/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control protocol of pollux-vmm, and its client. pollux-xen serves it for a domain of
 * Xen (hypervisor/xen/): what differs is said at the operation, and what it has not, such as
 * its own log-dirty, is -ENOTSUP with the reason.
 *
 * One SOCK_SEQPACKET socket a VM, <run-dir>/control; one message is one request or
 * one reply; every number little-endian through base/cursor. A request is
 * {u32 op, payload}; its reply {i32 error (0 or -errno), payload, or on error a
 * UTF-8 reason}. Descriptors travel with SCM_RIGHTS, either way. Replies come in the order of
 * the requests of that connection. Up to CONTROL_MAX_CLIENTS connections; each is
 * served by a thread of its own, so a slow call on one does not delay another.
 *
 * pollux-vmm knows checkpoints, not replication: it can stop, tell what changed,
 * give and take its state, hold its output and copy its disk writes to a ring. Who
 * calls, and why, it does not know. All of it survives the death of a client: what
 * is held stays held, what is paused stays paused, until another client says so.
 */
#ifndef POLLUX_CONTROL_H
#define POLLUX_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/err.h"

#define CONTROL_VERSION	    1u
#define CONTROL_MAX_MESSAGE 65536u
#define CONTROL_MAX_FDS	    4u
#define CONTROL_MAX_CLIENTS 16u
#define CONTROL_RUN_DIR	    "/run/pollux/vm" /* then /DOMID/control */
/* A NIC's tap, of the domain's number and its own. */
#define CONTROL_TAP_FORMAT "px%u.%u"
#define CONTROL_TAP_DOMIDS 1000000u /* the number in the name is modulo this */
/* The same of a domain of Xen, whose NICs are numbered as libxl does, without a gap. */
#define CONTROL_VIF_FORMAT "vif%u.%u"

#define CONTROL_NBD_PREFIX  "nbd:unix:"
#define CONTROL_DRBD_PREFIX "drbd:"

enum control_op {
	/*
	 * {u32 version} -> {u32 version, u32 domid, u8 uuid[16], u64 low_bytes, u64 high_bytes,
	 * u64 nr_gfns, u32 nr_vcpus, u32 nr_disks, u32 nr_nics, u64 dirty_offset,
	 * u64 context_offset, u64 context_max, u16 len, name}; fds: guest memory, export area.
	 *
	 * Guest memory is one memfd: guest physical [0, low_bytes) at offset 0 and
	 * [4 GiB, 4 GiB + high_bytes) at offset low_bytes. The export area is a memfd with
	 * the dirty bitmap (one bit a gfn below nr_gfns, the hole included) at dirty_offset
	 * and the saved state at context_offset.
	 *
	 * Xen: domid is Xen's; no fds, both offsets are 0, low_bytes is all memory that the domain
	 * has, wherever, high_bytes 0. A standby answers when its memory is there.
	 */
	CONTROL_HELLO = 1,
	/* {} -> {u8 control_state, u8 control_reason, u32 pause_count, u64 cpu_time_ns} */
	CONTROL_INFO,
	/*
	 * {} -> {u64 stop_ns}: when it returns, no vCPU runs and no device touches guest memory
	 * or its own state. Counted, as Xen counts: each needs its own CONTROL_UNPAUSE.
	 */
	CONTROL_PAUSE,
	CONTROL_UNPAUSE, /* {} -> {} */
	/* {u8 control_reason}: POWEROFF presses the ACPI button; DESTROY ends the process. Xen:
	 * POWEROFF asks as `xl shutdown` does; DESTROY ends domain and process, REBOOT and CRASH
	 * are refused. */
	CONTROL_SHUTDOWN,
	/* {u8 control_logdirty} -> {u64 dirty, u64 pages}; the bitmap is in the export area. */
	CONTROL_LOGDIRTY,
	/* {} -> {u64 length}; paused only (-EBUSY). Xen's framed records, in the export area. */
	CONTROL_GET_CONTEXT,
	/* {u64 length}: the caller has filled the export area; paused only, before the first
	 * instruction of a standby. Refused whole: a bad record leaves the VM as it was. Xen: a
	 * memfd with the state (xen/state.h), from its start on, comes with the request. Once it
	 * is well-formed libxl builds the domain, with its devices; that takes its time, and a
	 * failure there is the standby's end. It succeeds once. */
	CONTROL_SET_CONTEXT,
	/*
	 * {u8 on, u64 limit_bytes} -> {}; fds: eventfd that is raised when a frame is held
	 * while none was held in this epoch, or when the queue passes 3/4 of its limit.
	 * On: frames the guest sends wait. At the limit the device stops taking frames from the
	 * guest (nothing is dropped). Off: everything held is emitted, in order.
	 */
	CONTROL_NET_HOLD,
	/* {u64 epoch}: frames held so far that are not marked yet belong to `epoch`. */
	CONTROL_NET_MARK,
	/* {u64 epoch, u64 not_after_ns} -> {u64 frames, u64 bytes}: emits frames of epochs up to
	 * `epoch`. CLOCK_BOOTTIME is read before each frame; past not_after_ns (0: no limit)
	 * nothing more is emitted and the call fails with -ETIME (P3). */
	CONTROL_NET_RELEASE,
	CONTROL_NET_DROP, /* {} -> {u64 frames}: what is held is dropped, for good */
	/* {} -> {u64 held_frames, u64 held_bytes, u64 limit_hits, u64 released_frames,
	 * histogram of hold times as hist_put() writes it} */
	CONTROL_NET_STATS,
	/* {u16 nic} -> {u8 mac[6], u16 n, n * {u16 vlan, u8 family (4|6), u8 addr[16]}}: the
	 * addresses the guest has been seen to own (from its ARP and neighbour discovery), and in
	 * which VLAN, 0: untagged; they are saved. */
	CONTROL_NET_ADDRESSES,
	CONTROL_NET_INJECT, /* {u16 nic, frame}: emits a frame on the guest's behalf, at once */
	/*
	 * {} -> {u16 n, n * {u64 bytes, u8 readonly, u16 len, path}}. A path that begins with
	 * CONTROL_NBD_PREFIX is the socket of an NBD server: that changes the disk, and
	 * the changes are told there, by a control socket in the same directory, and not here.
	 * One that begins with CONTROL_DRBD_PREFIX names a deferred disk.
	 */
	CONTROL_DISK_LIST,
	/*
	 * {u8 on, u64 ring_bytes (power of two)} -> {}; fds: ring memfd (base/ring.h, the VMM
	 * produces), eventfd "records waiting", eventfd "room again" (the client raises it).
	 * On: every completed change of a disk is put into the ring *before* the guest sees
	 * its completion, in completion order per disk. A full ring stalls the disk. A second
	 * `on` replaces the ring. Of a deferred disk only changes that wait are put. Record: {u8
	 * control_disk_op, u8 0, u16 disk, u32 0, u64 offset, u64 length, data for WRITE}; at most
	 * CONTROL_DISK_DATA_MAX bytes of data.
	 */
	CONTROL_DISK_MIRROR,
	/*
	 * {} -> {}: from now on this connection receives {u32 control_state, u32 control_reason},
	 * at once and whenever the VM stops (pauses are not told), and no replies. A VM that
	 * has ended, and is to be destroyed then, stays as it is while anyone watches; so a
	 * watcher can take what is left and closes the connection when it has.
	 */
	CONTROL_WATCH,
	/*
	 * {u8 on} -> {}; on: one descriptor comes with the request, a region file (region_file.h)
	 * open for reading and writing: from now on the regions of all disks that are written are
	 * marked in it, durably, before the write is made (vmm/disk_track.h). A second `on`
	 * replaces the file; while the VM runs, only one that is all ones may be given. Off: no
	 * file is kept; remove it first. -EAGAIN here and below: a write that is under way since
	 * two rotations ago, try again. -ENODATA below: it is off; -EIO: the file cannot be
	 * written.
	 */
	CONTROL_DISK_TRACK,
	/* {} -> {}: what is marked so far is `old`; what is marked from now on, is not. */
	CONTROL_TRACK_ROTATE,
	/* {u16 disk, u64 offset} -> {}: `old` marks of the disks before `disk`, and of that disk
	 * below the offset, are forgotten, once our own disks are synced, which takes its time. */
	CONTROL_TRACK_FORGET,
	/* {u16 disk} -> {u8 token[16], u64 disk_bytes, u64 n, n * u64}: the disk's bitmap of
	 * regions that are marked (base/bitmap.h, region_shift()). */
	CONTROL_TRACK_READ,
	/* {u16 disk, u64 n, n * u64} -> {}: marks these too; durable when it returns. */
	CONTROL_TRACK_MARK,
	/* {u8 on, u64 limit_bytes} -> {}: changes of deferred disks wait from now on, at most so
	 * many bytes a disk (vmm/blk_defer.h), and those before are on stable storage. Off: what
	 * waits is written first. Both take their time; the disk's error is the reply's. */
	CONTROL_DISK_DEFER,
	/* {u64 position} -> {u64 settled, u64 waiting_bytes, i32 error}: changes up to this
	 * position of the mirror's ring may go to the deferred disks. The reply says up to where
	 * all are on stable storage there, what waits, and which error of a disk (or 0) keeps it
	 * from going on. */
	CONTROL_DISK_SETTLE,
	/* {u16 disk} -> {}, with the open device of a standby's deferred disk. */
	CONTROL_DISK_GIVE,
	/*
	 * {} -> {u64 length}; fd: a file with so many bytes, the domain as it is now, for a
	 * standby of it (xen/description.h). Xen only, not of a standby; -EPERM: it cannot be
	 * protected, and the reason.
	 */
	CONTROL_DESCRIBE,
	/* {} -> {u64 digest}: what the guest is told of its processors; two hosts where it is the
	 * same can have each other's guests. Not Xen, whose description has all of it. */
	CONTROL_PROCESSORS,
};

enum control_state { CONTROL_RUNNING, CONTROL_PAUSED, CONTROL_STOPPED };
enum control_reason {
	CONTROL_POWEROFF,
	CONTROL_REBOOT,
	CONTROL_CRASH,
	CONTROL_DESTROY,
};
enum control_logdirty {
	CONTROL_LOGDIRTY_OFF,
	CONTROL_LOGDIRTY_ENABLE, /* every page counts as dirty from here on */
	CONTROL_LOGDIRTY_CLEAN,	 /* return the dirty set and clear it */
	CONTROL_LOGDIRTY_PEEK,	 /* return it only */
};
enum control_disk_op {
	CONTROL_DISK_WRITE = 1,
	CONTROL_DISK_FLUSH,
	CONTROL_DISK_DISCARD,
	CONTROL_DISK_ZEROES,
};
#define CONTROL_DISK_RECORD_BYTES 24u
#define CONTROL_DISK_DATA_MAX	  65536u

/* One connection. Calls are serialised by a lock; threads that read replies, or must not wait
 * for one another, open one each. */
struct control;

/* Connects to <run-dir>/control of a VM. -ENOENT / -ECONNREFUSED: no such VM. */
int control_connect(const char *run_dir, struct control **ret);
void control_close(struct control *c);

/*
 * One call: sends op and the request bytes, waits for the reply. `*ret_reply` is a
 * view of the reply's payload, valid until the next call on this connection.
 * `ret_fds` gets exactly nr_fds descriptors, which the caller then owns. Returns the callee's
 * error, its text in `why`.
 */
struct control_call {
	enum control_op op;
	const void *request;
	size_t request_len;
	const int *request_fds; /* sent along; they stay the caller's */
	size_t nr_request_fds;
	int *ret_fds;
	size_t nr_fds;
	struct reason *why;
};
int control_call(struct control *c, const struct control_call *call, struct cursor *ret_reply);
/* For calls without request or reply. */
int control_simple(struct control *c, enum control_op op);
/* The descriptor, to poll after CONTROL_WATCH. */
int control_fd(const struct control *c);

#endif
