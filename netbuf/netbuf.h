/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding back what a VM sends until it may be seen (P1): one interface, whatever holds
 * the frames. `hold` (hold.h) is the queue in the virtio-net backend of our hypervisor; `plug`
 * (plug.h) is the kernel's, for the network devices of any.
 *
 * Life: start, then for each epoch mark (in the pause) and, once the backup has
 * acknowledged it, release. drop ends a VM that must never be heard again; stop emits
 * what is held and holds no more: the caller has the right to go solo. close only lets
 * go of the interface: what is held stays held.
 *
 * Threads: mark beside release, each from one thread at a time; the rest from either.
 * mark allocates nothing and does not wait for a release that is under way. All return 0
 * or -errno.
 */
#ifndef POLLUX_NETBUF_H
#define POLLUX_NETBUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"

struct netbuf;

struct netbuf_stats {
	uint64_t held_frames;
	uint64_t held_bytes;
	uint64_t limit_hits; /* times the guest was made to wait because the limit was reached */
	uint64_t dropped_frames; /* for want of room, where the guest cannot be made to wait */
	uint64_t faults;	 /* times that what holds was found damaged, and was made anew */
	uint64_t released_frames;
	struct hist hold_ns;
};

struct netbuf_released {
	uint64_t frames;
	uint64_t bytes;
};

struct netbuf_ops {
	int (*start)(struct netbuf *nb, uint64_t limit_bytes);
	int (*mark)(struct netbuf *nb, uint64_t epoch);
	int (*release)(struct netbuf *nb, uint64_t epoch, uint64_t not_after_ns,
		       struct netbuf_released *ret);
	int (*drop)(struct netbuf *nb);
	int (*stop)(struct netbuf *nb);
	bool (*output_waits)(struct netbuf *nb);
	int (*stats)(struct netbuf *nb, struct netbuf_stats *ret);
	void (*close)(struct netbuf *nb);
};

struct netbuf {
	const struct netbuf_ops *ops;
	int output_fd; /* see netbuf_output_fd(); -1 before start */
};

/* Frames sent from here on are held, at most limit_bytes of them; then the guest waits, or,
 * with plug, what it sends is dropped. What an earlier process has left held stays so. */
static inline int netbuf_start(struct netbuf *nb, uint64_t limit_bytes)
{
	return nb->ops->start(nb, limit_bytes);
}

/* Frames held so far and not marked belong to `epoch`; epochs only rise. */
static inline int netbuf_mark(struct netbuf *nb, uint64_t epoch)
{
	return nb->ops->mark(nb, epoch);
}

/* Emits the frames of all epochs up to `epoch`, none after not_after_ns of CLOCK_BOOTTIME
 * (0: no limit): then -ETIME, and the rest stays held (P3). */
static inline int netbuf_release(struct netbuf *nb, uint64_t epoch, uint64_t not_after_ns,
				 struct netbuf_released *ret)
{
	return nb->ops->release(nb, epoch, not_after_ns, ret);
}

/* What is held is never emitted; holding goes on. */
static inline int netbuf_drop(struct netbuf *nb)
{
	return nb->ops->drop(nb);
}

static inline int netbuf_stop(struct netbuf *nb)
{
	return nb->ops->stop(nb);
}

/* Readable when netbuf_output_waits() is to be called. Not the caller's to close. */
static inline int netbuf_output_fd(const struct netbuf *nb)
{
	return nb->output_fd;
}

/* Whether output waits that this epoch had none of before, or the limit is near: reasons to end
 * the epoch early. Takes the notice away. */
static inline bool netbuf_output_waits(struct netbuf *nb)
{
	return nb->ops->output_waits(nb);
}

static inline int netbuf_stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	return nb->ops->stats(nb, ret);
}

static inline void netbuf_close(struct netbuf *nb)
{
	if (nb)
		nb->ops->close(nb);
}

#endif
