/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices share: the modern PCI transport (virtio 1.2, 4.1), the device
 * status (2.1), features, the queues, and one worker thread a device (virtio_worker.c).
 *
 * A guest that breaks the rules gets a device that needs a reset (2.1.2) and that does
 * nothing until then (P4).
 *
 * Two kinds of threads meet here: vCPUs at the registers, and the worker at the queues.
 * `lock` covers all fields not said to be fixed. The worker takes the gate first, then
 * `lock` (virtio_enter()); a vCPU takes `lock` alone. Neither blocks while it holds it.
 * Slow work is done outside; when the worker comes back it compares `resets`, for the
 * guest may have reset the device meanwhile, and what it asked for is then void.
 */
#ifndef POLLUX_VMM_VIRTIO_PCI_H
#define POLLUX_VMM_VIRTIO_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/vmm/device.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/virtqueue.h"

struct reason;

#define VIRTIO_MAX_QUEUES   2u
#define VIRTIO_MAX_SOURCES  2u
#define VIRTIO_CONFIG_BYTES 64u
/* Requests served in one turn of a worker. A guest can make its queues feed themselves (the
 * used ring laid over the available one); a turn ends all the same. */
#define VIRTIO_TURN 64u

enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
};

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER	  0x02u
#define VIRTIO_STATUS_DRIVER_OK	  0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED	  0x80u

#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

/* Where things lie in BAR 0; queue q is notified at NOTIFY + q * NOTIFY_STEP. */
#define VIRTIO_BAR_COMMON  0x0000u
#define VIRTIO_BAR_ISR	   0x1000u
#define VIRTIO_BAR_DEVICE  0x2000u
#define VIRTIO_BAR_NOTIFY  0x3000u
#define VIRTIO_BAR_END	   0x4000u
#define VIRTIO_NOTIFY_STEP 4u

/* Common configuration, 4.1.4.3. */
enum virtio_common {
	VIRTIO_COMMON_DEVICE_FEATURE_SELECT = 0,
	VIRTIO_COMMON_DEVICE_FEATURE = 4,
	VIRTIO_COMMON_DRIVER_FEATURE_SELECT = 8,
	VIRTIO_COMMON_DRIVER_FEATURE = 12,
	VIRTIO_COMMON_CONFIG_VECTOR = 16,
	VIRTIO_COMMON_NUM_QUEUES = 18,
	VIRTIO_COMMON_STATUS = 20,
	VIRTIO_COMMON_GENERATION = 21,
	VIRTIO_COMMON_QUEUE_SELECT = 22,
	VIRTIO_COMMON_QUEUE_SIZE = 24,
	VIRTIO_COMMON_QUEUE_VECTOR = 26,
	VIRTIO_COMMON_QUEUE_ENABLE = 28,
	VIRTIO_COMMON_QUEUE_NOTIFY_OFF = 30,
	VIRTIO_COMMON_QUEUE_DESC = 32,
	VIRTIO_COMMON_QUEUE_DRIVER = 40,
	VIRTIO_COMMON_QUEUE_DEVICE = 48,
	VIRTIO_COMMON_END = 56,
};

/* What woke the worker: bit q for a notification of queue q, and one bit a source. */
#define VIRTIO_READY_QUEUE(q)  (1u << (q))
#define VIRTIO_READY_SOURCE(n) (1u << (VIRTIO_MAX_QUEUES + (n)))

struct virtio_device;

struct virtio_ops {
	/* The device's own configuration, little-endian; the rest of `ret` is zero. Under lock. */
	void (*config)(struct virtio_device *v, uint8_t ret[VIRTIO_CONFIG_BYTES]);
	/* Saved fields beyond transport and queues. May be NULL. */
	void (*state)(struct virtio_device *v, struct state *s);
	/* The guest reset the device; under lock. May be NULL. */
	void (*reset)(struct virtio_device *v);
	/* Before the worker starts. May be NULL. */
	int (*start)(struct virtio_device *v);
	/*
	 * On the worker thread, outside the gate, with what is ready; first of all, with every
	 * queue, whatever the eventfds say, for they are not saved. Returns what it did not
	 * finish and wants to be called for again at once.
	 */
	unsigned int (*work)(struct virtio_device *v, unsigned int ready);
	/* Wakes the worker wherever it waits, `stopping` being set. May be NULL. */
	void (*stop)(struct virtio_device *v);
	/* Frees the device; threads have ended. */
	void (*destroy)(struct virtio_device *v);
};

/* What a device is, fixed. */
struct virtio_identity {
	enum virtio_id id;
	uint16_t state_type; /* enum state_type */
	uint16_t instance;
	uint32_t class_revision;
	uint16_t nr_queues;
	uint64_t features; /* beyond those that all have */
};

struct virtio_device {
	struct vm_device base;
	struct pci_device pci;
	const struct virtio_ops *ops; /* fixed */
	struct vm *vm;		      /* fixed */
	const char *name;	      /* fixed: of its kind, for the log */
	uint16_t nr_queues;	      /* fixed */
	uint64_t offered;	      /* fixed */

	pthread_mutex_t lock;
	uint64_t accepted;
	uint32_t device_feature_select, driver_feature_select;
	uint8_t status;
	uint8_t isr;
	uint16_t config_vector;
	uint16_t queue_select;
	uint32_t resets; /* times the guest or a load reset the device */
	bool told;	 /* the log knows that it needed a reset */
	struct virtqueue queue[VIRTIO_MAX_QUEUES];

	uint64_t notify_gpa; /* where ioeventfds are registered; vCPU threads and loading */

	/* The worker (virtio_worker.h). */
	int kick_fd[VIRTIO_MAX_QUEUES];	   /* fixed */
	int source_fd[VIRTIO_MAX_SOURCES]; /* polled for input, -1: not; worker thread only */
	int stop_fd;			   /* fixed */
	bool stopping;			   /* atomic */
	bool running;			   /* thread exists; start and stop only */
	pthread_t thread;
};

/* Makes a device of `v`, zeroed and first in its own structure, and adds it to the VM. On
 * failure nothing is left behind but `v`. */
int virtio_add(struct virtio_device *v, struct vm *vm, const struct virtio_ops *ops,
	       const struct virtio_identity *identity, struct reason *why);
/* Gives back what virtio_add() made, but for `v`: a device's destroy calls it. */
void virtio_release(struct virtio_device *v);

/* The worker's way in and out: gate, then lock. */
void virtio_enter(struct virtio_device *v);
void virtio_leave(struct virtio_device *v);

/* The rest inside. Whether the driver runs and queue q is set up; never once the VM is over. */
bool virtio_ready(const struct virtio_device *v, unsigned int q);
/* Like virtqueue_*; a violation breaks the device and reads as "nothing there". */
bool virtio_pop(struct virtio_device *v, unsigned int q, struct virtqueue_chain *ret);
bool virtio_arm(struct virtio_device *v, unsigned int q);
void virtio_push(struct virtio_device *v, unsigned int q, uint16_t head, uint32_t len);
void virtio_push_all(struct virtio_device *v, unsigned int q, const struct virtqueue_done *done,
		     uint16_t n);
/* Interrupts the driver if it wants to hear of what was pushed. */
void virtio_signal(struct virtio_device *v, unsigned int q);
/* DEVICE_NEEDS_RESET, and the driver is told. */
void virtio_break(struct virtio_device *v);

static inline bool virtio_stopping(const struct virtio_device *v)
{
	return __atomic_load_n(&v->stopping, __ATOMIC_ACQUIRE);
}

#endif
