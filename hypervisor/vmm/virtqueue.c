/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues. The layout is that of virtio 1.2, 2.7: a descriptor is {u64 address,
 * u32 length, u16 flags, u16 next}; the available ring {u16 flags, u16 index, u16 head each,
 * u16 used_event}; the used ring {u16 flags, u16 index, {u32 head, u32 length} each,
 * u16 avail_event}. Invariant: last_avail and next_used are the device's own and never read
 * back from the guest. Threads: the device's, under its lock; the driver's side runs on
 * other processors at the same time, hence the fences.
 */
#include "hypervisor/vmm/virtqueue.h"

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/vmm/memory.h"
#include "hypervisor/vmm/state.h"

/* The fences order us against the guest's processors, which no sanitizer sees. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif

#define DESC_BYTES    16u
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

#define AVAIL_NO_INTERRUPT 1u

struct descriptor {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

void virtqueue_reset(struct virtqueue *vq)
{
	struct guest_memory *mem = vq->mem;

	*vq = (struct virtqueue){
		.mem = mem,
		.size = VIRTQUEUE_MAX,
		.vector = VIRTQUEUE_NO_VECTOR,
	};
}

/* A sum that wraps around names the guest's own memory still, so these need no check. */
static int read_u16(const struct virtqueue *vq, uint64_t gpa, uint16_t *ret)
{
	uint16_t v;
	int err = guest_read(vq->mem, gpa, &v, sizeof(v));

	if (!err)
		*ret = v;
	return err;
}

static int write_u16(struct virtqueue *vq, uint64_t gpa, uint16_t v)
{
	return guest_write(vq->mem, gpa, &v, sizeof(v));
}

static int read_descriptor(const struct virtqueue *vq, uint64_t table, uint32_t index,
			   struct descriptor *ret)
{
	uint8_t raw[DESC_BYTES] = { 0 };
	struct cursor c = cursor_over(raw, sizeof(raw));
	int err = guest_read(vq->mem, table + (uint64_t)index * DESC_BYTES, raw, sizeof(raw));

	if (err)
		return err;
	ret->gpa = cursor_get_u64(&c);
	ret->len = cursor_get_u32(&c);
	ret->flags = cursor_get_u16(&c);
	ret->next = cursor_get_u16(&c);
	return 0;
}

static int add_segment(const struct virtqueue *vq, const struct descriptor *d,
		       struct virtqueue_chain *chain)
{
	bool in = d->flags & DESC_WRITE;
	uint64_t *bytes = in ? &chain->in_bytes : &chain->out_bytes;
	unsigned int n = chain->nr_out + chain->nr_in;

	if (n >= vq->size || (!in && chain->nr_in))
		return -EPROTO; /* longer than the queue, a loop among them; or out after in */
	if (d->len && !guest_range_ok(vq->mem, d->gpa, d->len))
		return -EFAULT;
	if (d->len > VIRTQUEUE_CHAIN_MAX - *bytes)
		return -EPROTO;
	*bytes += d->len;
	chain->segment[n] = (struct virtqueue_segment){ .gpa = d->gpa, .len = d->len };
	if (in)
		chain->nr_in++;
	else
		chain->nr_out++;
	return 0;
}

int virtqueue_walk(const struct virtqueue *vq, uint16_t head, struct virtqueue_chain *ret)
{
	uint64_t table = vq->desc;
	uint32_t entries = vq->size, index = head;
	bool indirect = false;
	struct descriptor d;
	int err;

	ret->head = head;
	ret->nr_out = ret->nr_in = 0;
	ret->out_bytes = ret->in_bytes = 0;
	do {
		if (index >= entries)
			return -EPROTO;
		err = read_descriptor(vq, table, index, &d);
		if (err)
			return err;
		if (d.flags & DESC_INDIRECT) {
			if (!vq->indirect || indirect || d.flags & DESC_NEXT || !d.len ||
			    d.len % DESC_BYTES || d.len / DESC_BYTES > vq->size)
				return -EPROTO;
			indirect = true;
			table = d.gpa;
			entries = d.len / DESC_BYTES;
			index = 0;
			d.flags = DESC_NEXT;
			continue;
		}
		err = add_segment(vq, &d, ret);
		if (err)
			return err;
		index = d.next;
	} while (d.flags & DESC_NEXT);
	return 0;
}

static int available(const struct virtqueue *vq, uint16_t *ret)
{
	uint16_t index;
	int err = read_u16(vq, vq->avail + 2, &index);

	if (err)
		return err;
	*ret = (uint16_t)(index - vq->last_avail);
	return *ret > vq->size ? -EPROTO : 0;
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *ret)
{
	uint16_t waiting, head;
	int err = available(vq, &waiting);

	if (err || !waiting)
		return err;
	/* The entry was written before the index that we saw. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	err = read_u16(vq, vq->avail + 4 + 2u * (vq->last_avail & (vq->size - 1u)), &head);
	if (!err)
		err = virtqueue_walk(vq, head, ret);
	if (err)
		return err;
	vq->last_avail++;
	return 1;
}

void virtqueue_unpop(struct virtqueue *vq)
{
	vq->last_avail--;
}

int virtqueue_arm(struct virtqueue *vq)
{
	uint16_t waiting;
	int err;

	/* Without the event index the driver always notifies: our used flags stay 0. */
	if (vq->event_idx) {
		err = write_u16(vq, vq->used + 4 + 8u * vq->size, vq->last_avail);
		if (err)
			return err;
		/* The driver may add a request before it sees the event index: look again, and
		 * not before it could see it. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	err = available(vq, &waiting);
	return err ? err : waiting > 0;
}

static int write_done(struct virtqueue *vq, uint16_t at, const struct virtqueue_done *done)
{
	uint8_t raw[8] = { 0 };
	struct cursor c = cursor_over(raw, sizeof(raw));

	cursor_put_u32(&c, done->head);
	cursor_put_u32(&c, done->len);
	return guest_write(vq->mem, vq->used + 4 + 8u * (at & (vq->size - 1u)), raw, sizeof(raw));
}

int virtqueue_push(struct virtqueue *vq, const struct virtqueue_done *done, uint16_t n)
{
	int err = 0;

	for (uint16_t i = 0; i < n && !err; i++)
		err = write_done(vq, (uint16_t)(vq->next_used + i), done + i);
	if (err)
		return err;
	/* The driver must not see the index before the entries, nor an entry before the data. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	err = write_u16(vq, vq->used + 2, (uint16_t)(vq->next_used + n));
	if (!err)
		vq->next_used = (uint16_t)(vq->next_used + n);
	return err;
}

bool virtqueue_should_signal(struct virtqueue *vq)
{
	uint16_t old = vq->signalled, word;
	bool known = vq->signalled_valid;

	vq->signalled = vq->next_used;
	vq->signalled_valid = true;
	if (known && old == vq->next_used)
		return false;
	/* The driver writes what it wants and then looks at the used index; we the other way. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return read_u16(vq, vq->avail, &word) || !(word & AVAIL_NO_INTERRUPT);
	if (!known || read_u16(vq, vq->avail + 4 + 2u * vq->size, &word))
		return true;
	/* Did the used index step over the driver's mark since we last looked? (2.7.10.1) */
	return (uint16_t)(vq->next_used - word - 1) < (uint16_t)(vq->next_used - old);
}

/* Walks the segments [first, first + n) at `offset` and hands each piece to `copy`. */
typedef int copy_fn(struct guest_memory *mem, uint64_t gpa, uint8_t *data, size_t len);

static int copy_out(struct guest_memory *mem, uint64_t gpa, uint8_t *data, size_t len)
{
	return guest_read(mem, gpa, data, len);
}

static int copy_in(struct guest_memory *mem, uint64_t gpa, uint8_t *data, size_t len)
{
	return guest_write(mem, gpa, data, len);
}

/* What is copied with: guest memory, and which of its doors. */
struct copier {
	struct guest_memory *mem;
	copy_fn *copy;
};

static int copy_segments(const struct copier *c, const struct virtqueue_segment *segment,
			 unsigned int n, uint64_t offset, struct cursor *data)
{
	for (unsigned int i = 0; i < n && cursor_left(data); i++) {
		size_t len;
		int err;

		if (offset >= segment[i].len) {
			offset -= segment[i].len;
			continue;
		}
		len = MIN(cursor_left(data), (size_t)(segment[i].len - offset));
		err = c->copy(c->mem, segment[i].gpa + offset, data->pos, len);
		if (err)
			return err;
		data->pos += len;
		offset = 0;
	}
	return cursor_left(data) ? -EINVAL : 0;
}

int virtqueue_read(const struct virtqueue *vq, const struct virtqueue_chain *chain, uint64_t offset,
		   void *ret, size_t len)
{
	const struct copier out = { vq->mem, copy_out };
	struct cursor data = cursor_over(ret, len);

	return copy_segments(&out, chain->segment, chain->nr_out, offset, &data);
}

int virtqueue_write(struct virtqueue *vq, const struct virtqueue_chain *chain, uint64_t offset,
		    const void *src, size_t len)
{
	const struct copier in = { vq->mem, copy_in };
	struct cursor data = cursor_over(src, len);

	return copy_segments(&in, chain->segment + chain->nr_out, chain->nr_in, offset, &data);
}

void virtqueue_state(struct virtqueue *vq, struct state *s)
{
	state_u16(s, &vq->size);
	state_u16(s, &vq->vector);
	state_bool(s, &vq->enabled);
	state_u64(s, &vq->desc);
	state_u64(s, &vq->avail);
	state_u64(s, &vq->used);
	state_u16(s, &vq->last_avail);
	state_u16(s, &vq->next_used);
	state_u16(s, &vq->signalled);
	state_bool(s, &vq->signalled_valid);
	state_check(s, vq->size && vq->size <= VIRTQUEUE_MAX && !(vq->size & (vq->size - 1)));
}
