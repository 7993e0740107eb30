/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker of a virtio device. Invariant: a notification that was taken from an eventfd
 * has been served, or is in `pending`, or is lost with the process; so the first round
 * serves every queue without being asked.
 */
#include "hypervisor/vmm/virtio_worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "base/err.h"
#include "hypervisor/vmm/virtio_pci.h"

#define STOP_SLOT 0u
#define NR_SLOTS  (1u + VIRTIO_MAX_QUEUES + VIRTIO_MAX_SOURCES)

void virtio_worker_kick(struct virtio_device *v, unsigned int q)
{
	eventfd_write(v->kick_fd[q], 1);
}

static void fill_slots(const struct virtio_device *v, struct pollfd slot[NR_SLOTS])
{
	unsigned int n = STOP_SLOT;

	slot[n++].fd = v->stop_fd;
	for (unsigned int q = 0; q < VIRTIO_MAX_QUEUES; q++)
		slot[n++].fd = v->kick_fd[q];
	for (unsigned int i = 0; i < VIRTIO_MAX_SOURCES; i++)
		slot[n++].fd = v->source_fd[i];
	for (n = 0; n < NR_SLOTS; n++) {
		slot[n].events = POLLIN;
		slot[n].revents = 0;
	}
}

/* Everything that is ready, as VIRTIO_READY_* bits. Waits only when nothing is pending. */
static unsigned int wait_ready(struct virtio_device *v, unsigned int pending)
{
	struct pollfd slot[NR_SLOTS];
	eventfd_t count;

	fill_slots(v, slot);
	if (poll(slot, NR_SLOTS, pending ? 0 : -1) <= 0)
		return pending;
	for (unsigned int i = 0; i < VIRTIO_MAX_QUEUES + VIRTIO_MAX_SOURCES; i++) {
		if (!slot[1 + i].revents)
			continue;
		pending |= 1u << i;
		if (i < VIRTIO_MAX_QUEUES)
			eventfd_read(v->kick_fd[i], &count);
	}
	return pending;
}

/*
 * The state that was loaded may show requests as completed whose interrupt the other host
 * never delivered. One too many is harmless, one too few hangs the guest.
 */
static void signal_all(struct virtio_device *v)
{
	virtio_enter(v);
	for (unsigned int q = 0; q < v->nr_queues; q++) {
		if (virtio_ready(v, q) && v->queue[q].next_used)
			pci_msix_raise(&v->pci, v->queue[q].vector);
	}
	virtio_leave(v);
}

static void *worker_main(void *arg)
{
	struct virtio_device *v = arg;
	unsigned int pending = 0;

	signal_all(v);
	for (unsigned int q = 0; q < v->nr_queues; q++)
		pending |= VIRTIO_READY_QUEUE(q);
	while (!virtio_stopping(v)) {
		pending = v->ops->work(v, pending);
		if (!virtio_stopping(v))
			pending = wait_ready(v, pending);
	}
	return NULL;
}

int virtio_worker_open(struct virtio_device *v)
{
	v->stop_fd = -1;
	for (unsigned int q = 0; q < VIRTIO_MAX_QUEUES; q++)
		v->kick_fd[q] = -1;
	for (unsigned int i = 0; i < VIRTIO_MAX_SOURCES; i++)
		v->source_fd[i] = -1;
	v->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->stop_fd < 0)
		return -errno;
	for (unsigned int q = 0; q < v->nr_queues; q++) {
		v->kick_fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->kick_fd[q] < 0) {
			int err = -errno;

			virtio_worker_close(v);
			return err;
		}
	}
	return 0;
}

void virtio_worker_close(struct virtio_device *v)
{
	err_close_fd(&v->stop_fd);
	v->stop_fd = -1;
	for (unsigned int q = 0; q < VIRTIO_MAX_QUEUES; q++) {
		err_close_fd(&v->kick_fd[q]);
		v->kick_fd[q] = -1;
	}
}

/* Signals are for the threads that run vCPUs and for main: this one blocks them all. */
int virtio_worker_start(struct virtio_device *v)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&v->thread, NULL, worker_main, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	v->running = !err;
	return err;
}

void virtio_worker_stop(struct virtio_device *v)
{
	if (!v->running)
		return;
	__atomic_store_n(&v->stopping, true, __ATOMIC_RELEASE);
	eventfd_write(v->stop_fd, 1);
	if (v->ops->stop)
		v->ops->stop(v);
	pthread_join(v->thread, NULL);
	v->running = false;
}
