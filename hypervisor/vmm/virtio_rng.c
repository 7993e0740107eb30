/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: each buffer of the guest gets up to BATCH_BYTES of randomness. The bytes are
 * drawn outside the gate, before it is known whether anybody wants them. Thread: the worker.
 */
#include "hypervisor/vmm/virtio_rng.h"

#include <sys/random.h>

#include "base/err.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_pci.h"

#define BATCH_BYTES	256u /* what getrandom() gives whole, uninterrupted */
#define PCI_CLASS_OTHER 0xff0000u

struct virtio_rng {
	struct virtio_device v;
	struct virtqueue_chain chain; /* the worker's own */
};

/* Inside. False: there is no request. */
static bool serve(struct virtio_rng *r, const uint8_t *random, size_t max)
{
	size_t len;

	if (!virtio_pop(&r->v, 0, &r->chain) &&
	    !(virtio_arm(&r->v, 0) && virtio_pop(&r->v, 0, &r->chain)))
		return false;
	len = (size_t)MIN(r->chain.in_bytes, max);
	if (virtqueue_write(&r->v.queue[0], &r->chain, 0, random, len)) {
		virtio_break(&r->v);
		return false;
	}
	virtio_push(&r->v, 0, r->chain.head, (uint32_t)len);
	virtio_signal(&r->v, 0);
	return true;
}

static unsigned int work(struct virtio_device *v, unsigned int ready)
{
	uint8_t random[BATCH_BYTES];
	bool more = true;

	(void)ready;
	for (unsigned int i = 0; i < VIRTIO_TURN && more && !virtio_stopping(v); i++) {
		ssize_t len = getrandom(random, sizeof(random), 0);

		virtio_enter(v);
		more = len > 0 && serve((struct virtio_rng *)v, random, (size_t)len);
		virtio_leave(v);
	}
	return more ? VIRTIO_READY_QUEUE(0) : 0;
}

static void config(struct virtio_device *v, uint8_t ret[VIRTIO_CONFIG_BYTES])
{
	(void)v;
	(void)ret;
}

static void destroy(struct virtio_device *v)
{
	virtio_release(v);
	free(v);
}

static const struct virtio_ops ops = {
	.config = config,
	.work = work,
	.destroy = destroy,
};

int virtio_rng_create(struct vm *vm, unsigned int index, struct reason *why)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_RNG,
		.state_type = STATE_VIRTIO_RNG,
		.instance = (uint16_t)index,
		.class_revision = PCI_CLASS_OTHER,
		.nr_queues = 1,
	};
	struct virtio_rng *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return reason_set(why, ENOMEM, "no memory for the random number device");
	err = virtio_add(&r->v, vm, &ops, &identity, why);
	if (err)
		free(r);
	return err;
}
