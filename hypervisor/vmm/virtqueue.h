/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues, the device's side (virtio 1.2, 2.7).
 *
 * Everything in a queue is the guest's word, so every walk is bounded (P4): a descriptor
 * is copied once and then judged; a chain has at most as many as the queue, so a loop
 * ends; an indirect table holds no further one; lengths are summed in 64 bits against a
 * limit; addresses are checked against guest memory before anybody uses them. A violation
 * is an error of the call, after which the queue is not to be used until it is reset.
 *
 * All calls inside the gate and under the device's lock.
 */
#ifndef POLLUX_VMM_VIRTQUEUE_H
#define POLLUX_VMM_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest_memory;
struct state;

#define VIRTQUEUE_MAX	    256u       /* entries */
#define VIRTQUEUE_CHAIN_MAX UINT32_MAX /* bytes a chain, each direction (2.7.5.1: 2^32) */
#define VIRTQUEUE_NO_VECTOR 0xffffu

struct virtqueue {
	struct guest_memory *mem;
	/* What the driver sets. */
	uint16_t size; /* a power of two up to VIRTQUEUE_MAX */
	uint16_t vector;
	bool enabled;
	uint64_t desc, avail, used; /* guest physical */
	/* Follow from the features accepted. */
	bool event_idx, indirect;
	/* How far the device is. */
	uint16_t last_avail;
	uint16_t next_used;
	uint16_t signalled; /* next_used when virtqueue_should_signal() last looked */
	bool signalled_valid;
};

struct virtqueue_segment {
	uint64_t gpa;
	uint32_t len;
};

/* One request: what the device reads (out), then what it writes (in). */
struct virtqueue_chain {
	uint16_t head;
	uint16_t nr_out, nr_in;
	uint64_t out_bytes, in_bytes;
	struct virtqueue_segment segment[VIRTQUEUE_MAX];
};

void virtqueue_reset(struct virtqueue *vq);

/* Takes the next request. 1: *ret is it; 0: none; -EPROTO, -EFAULT: the guest broke the rules. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *ret);
/* Puts the request last taken back. */
void virtqueue_unpop(struct virtqueue *vq);
/* Walks the chain at `head` again, of a request that was taken before. 0 or as above. */
int virtqueue_walk(const struct virtqueue *vq, uint16_t head, struct virtqueue_chain *ret);
/* Asks for a notification at the next request. 1: there is one already; 0; -EFAULT. */
int virtqueue_arm(struct virtqueue *vq);

/* A request that is done, and how many bytes of it were written. */
struct virtqueue_done {
	uint16_t head;
	uint32_t len;
};

/* Completes `n` requests, at most the queue's size, at one instant for the driver. 0 or -EFAULT. */
int virtqueue_push(struct virtqueue *vq, const struct virtqueue_done *done, uint16_t n);
/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool virtqueue_should_signal(struct virtqueue *vq);

/* Copies `len` bytes at `offset` of the out or the in part. -EINVAL beyond its end. */
int virtqueue_read(const struct virtqueue *vq, const struct virtqueue_chain *chain, uint64_t offset,
		   void *ret, size_t len);
int virtqueue_write(struct virtqueue *vq, const struct virtqueue_chain *chain, uint64_t offset,
		    const void *src, size_t len);

void virtqueue_state(struct virtqueue *vq, struct state *s);

#endif
