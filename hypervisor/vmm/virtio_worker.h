/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one thread of a virtio device: waits for notifications of the queues, for the
 * device's own descriptors and for the end, and calls ops->work.
 */
#ifndef POLLUX_VMM_VIRTIO_WORKER_H
#define POLLUX_VMM_VIRTIO_WORKER_H

struct virtio_device;

/* Makes and closes the eventfds. */
int virtio_worker_open(struct virtio_device *v);
void virtio_worker_close(struct virtio_device *v);

int virtio_worker_start(struct virtio_device *v);
/* Ends and joins the thread, if there is one. */
void virtio_worker_stop(struct virtio_device *v);

/* As if the guest had notified queue q. */
void virtio_worker_kick(struct virtio_device *v, unsigned int q);

#endif
