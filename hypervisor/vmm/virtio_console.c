/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: queue 0 receives and is never used, queue 1 transmits. The log starts
 * over when it is full, so a chatty guest cannot fill the host's disk (P4). Thread: the
 * worker.
 */
#include "hypervisor/vmm/virtio_console.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_pci.h"
#include "hypervisor/vmm/vm.h"

#define TX		  1u
#define BATCH_BYTES	  4096u
#define LOG_MAX_BYTES	  (UINT64_C(16) << 20)
#define PCI_CLASS_CONSOLE 0x078000u

struct virtio_console {
	struct virtio_device v;
	int log_fd; /* fixed */

	/* The worker's own. */
	uint64_t log_bytes;
	struct virtqueue_chain chain;
	uint8_t batch[BATCH_BYTES];
};

/* A log that cannot be written is no reason to hold up the guest. */
static void log_write(struct virtio_console *c, size_t len)
{
	if (c->log_bytes + len > LOG_MAX_BYTES && ftruncate(c->log_fd, 0) == 0)
		c->log_bytes = 0;
	if (write(c->log_fd, c->batch, len) == (ssize_t)len)
		c->log_bytes += len;
}

/* Inside: takes one request into `batch`; what is beyond its size is cut off. */
static bool take(struct virtio_console *c, size_t *ret_len)
{
	size_t len;

	if (!virtio_pop(&c->v, TX, &c->chain) &&
	    !(virtio_arm(&c->v, TX) && virtio_pop(&c->v, TX, &c->chain)))
		return false;
	len = (size_t)MIN(c->chain.out_bytes, BATCH_BYTES);
	if (virtqueue_read(&c->v.queue[TX], &c->chain, 0, c->batch, len)) {
		virtio_break(&c->v);
		return false;
	}
	virtio_push(&c->v, TX, c->chain.head, 0);
	virtio_signal(&c->v, TX);
	*ret_len = len;
	return true;
}

static unsigned int work(struct virtio_device *v, unsigned int ready)
{
	struct virtio_console *c = (struct virtio_console *)v;
	bool taken = true;

	(void)ready;
	for (unsigned int i = 0; i < VIRTIO_TURN && taken && !virtio_stopping(v); i++) {
		size_t len = 0;

		virtio_enter(v);
		taken = take(c, &len);
		virtio_leave(v);
		if (len)
			log_write(c, len);
	}
	return taken ? VIRTIO_READY_QUEUE(TX) : 0;
}

/* Without SIZE and MULTIPORT nothing in the configuration means anything. */
static void config(struct virtio_device *v, uint8_t ret[VIRTIO_CONFIG_BYTES])
{
	(void)v;
	(void)ret;
}

static void destroy(struct virtio_device *v)
{
	struct virtio_console *c = (struct virtio_console *)v;

	virtio_release(v);
	close(c->log_fd);
	free(c);
}

static const struct virtio_ops ops = {
	.config = config,
	.work = work,
	.destroy = destroy,
};

int virtio_console_create(struct vm *vm, unsigned int index, struct reason *why)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_CONSOLE,
		.state_type = STATE_VIRTIO_CONSOLE,
		.instance = (uint16_t)index,
		.class_revision = PCI_CLASS_CONSOLE,
		.nr_queues = 2,
	};
	char path[sizeof(vm->run_dir) + 16];
	struct virtio_console *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return reason_set(why, ENOMEM, "no memory for the console device");
	snprintf(path, sizeof(path), "%s/hvc%u.log", vm->run_dir, index);
	c->log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (c->log_fd < 0) {
		err = reason_set(why, errno, "%s: %s", path, strerror(errno));
		goto err_free;
	}
	err = virtio_add(&c->v, vm, &ops, &identity, why);
	if (err)
		goto err_close;
	return 0;

err_close:
	close(c->log_fd);
err_free:
	free(c);
	return err;
}
