/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for tests of the virtio devices: a VM without KVM, and a small driver that speaks
 * to a device through its registers and through queues in guest memory, as a kernel would.
 * Interrupts stay masked, so a raised one shows as pending.
 */
#ifndef POLLUX_TESTS_VIRTIO_GUEST_H
#define POLLUX_TESTS_VIRTIO_GUEST_H

#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "hypervisor/vmm/disk_track.h"
#include "hypervisor/vmm/gate.h"
#include "hypervisor/vmm/net_hold.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_pci.h"
#include "hypervisor/vmm/vm.h"

/* Guest memory is shared between a machine and its devices by nature: what synchronises them
 * there is the ring's protocol, which the sanitizer does not know. */
#if defined(__SANITIZE_THREAD__)
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:guest_read\nrace:guest_write\n";
}
#endif

#define GUEST_BYTES	 (UINT64_C(64) << 20)
#define GUEST_QUEUE_SIZE 16u
#define GUEST_DATA	 UINT64_C(0x2000000) /* from here on memory is the test's */
#define GUEST_WAIT_NS	 (20 * NS_PER_S)

#define GUEST_NEXT  1u
#define GUEST_WRITE 2u

struct guest_queue {
	uint64_t desc, avail, used;
	uint16_t next, posted, seen;
};

struct guest_device {
	struct vm *vm;
	struct virtio_device *v;
	struct guest_queue queue[VIRTIO_MAX_QUEUES];
};

struct guest_segment {
	uint64_t gpa;
	uint32_t len;
	bool in;
};

static inline struct vm *guest_vm_open(const char *dir)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->kvm_fd = vm->fd = -1;
	gate_init(&vm->gate);
	snprintf(vm->run_dir, sizeof(vm->run_dir), "%s", dir);
	if (guest_memory_open(&vm->memory, GUEST_BYTES, -1) || pci_bus_open(vm) ||
	    net_hold_open(&vm->net_hold) || disk_mirror_open(&vm->disk_mirror) ||
	    disk_track_open(&vm->disk_track))
		abort();
	return vm;
}

static inline void guest_vm_close(struct vm *vm)
{
	struct vm_device *dev = vm->devices, *next;

	for (; dev; dev = dev->next) {
		if (dev->ops->stop)
			dev->ops->stop(dev);
	}
	for (dev = vm->devices; dev; dev = next) {
		next = dev->next;
		if (dev->ops->destroy)
			dev->ops->destroy(dev);
	}
	pci_bus_close(vm->pci);
	net_hold_close(vm->net_hold);
	disk_mirror_close(vm->disk_mirror);
	disk_track_close(vm->disk_track);
	guest_memory_close(&vm->memory);
	free(vm);
}

/* The device added last; the first of the list is the bus itself. */
static inline struct guest_device guest_device_last(struct vm *vm)
{
	struct vm_device *dev = vm->devices;

	while (dev->next)
		dev = dev->next;
	return (struct guest_device){ .vm = vm, .v = (struct virtio_device *)dev };
}

static inline void guest_start(struct guest_device *d)
{
	if (d->v->base.ops->start(&d->v->base))
		abort();
}

static inline uint64_t guest_reg(struct guest_device *d, uint32_t offset, unsigned int len)
{
	return d->v->pci.ops->bar_read(&d->v->pci, offset, len);
}

static inline void guest_set(struct guest_device *d, uint32_t offset, unsigned int len, uint64_t v)
{
	d->v->pci.ops->bar_write(&d->v->pci, offset, len, v);
}

static inline void guest_set_status(struct guest_device *d, uint8_t bits)
{
	uint8_t now = (uint8_t)guest_reg(d, VIRTIO_COMMON_STATUS, 1);

	guest_set(d, VIRTIO_COMMON_STATUS, 1, now | bits);
}

static inline uint8_t guest_status(struct guest_device *d)
{
	return (uint8_t)guest_reg(d, VIRTIO_COMMON_STATUS, 1);
}

static inline void guest_set_features(struct guest_device *d, uint64_t features)
{
	for (unsigned int half = 0; half < 2; half++) {
		guest_set(d, VIRTIO_COMMON_DRIVER_FEATURE_SELECT, 4, half);
		guest_set(d, VIRTIO_COMMON_DRIVER_FEATURE, 4, (uint32_t)(features >> 32 * half));
	}
}

static inline uint64_t guest_features(struct guest_device *d)
{
	uint64_t features = 0;

	for (unsigned int half = 0; half < 2; half++) {
		guest_set(d, VIRTIO_COMMON_DEVICE_FEATURE_SELECT, 4, half);
		features |= guest_reg(d, VIRTIO_COMMON_DEVICE_FEATURE, 4) << 32 * half;
	}
	return features;
}

/* Each device and queue has its own MiB below GUEST_DATA. */
static inline void guest_queue_setup(struct guest_device *d, unsigned int q)
{
	uint64_t base = ((uint64_t)d->v->pci.slot * 2 + q) << 20;
	static const uint8_t zeros[16384];

	if (guest_write(&d->vm->memory, base, zeros, sizeof(zeros)))
		abort();
	d->queue[q] = (struct guest_queue){ base, base + 0x1000, base + 0x2000, 0, 0, 0 };
	guest_set(d, VIRTIO_COMMON_QUEUE_SELECT, 2, q);
	guest_set(d, VIRTIO_COMMON_QUEUE_SIZE, 2, GUEST_QUEUE_SIZE);
	guest_set(d, VIRTIO_COMMON_QUEUE_VECTOR, 2, q + 1);
	guest_set(d, VIRTIO_COMMON_QUEUE_DESC, 8, d->queue[q].desc);
	guest_set(d, VIRTIO_COMMON_QUEUE_DRIVER, 4, (uint32_t)d->queue[q].avail);
	guest_set(d, VIRTIO_COMMON_QUEUE_DRIVER + 4, 4, 0);
	guest_set(d, VIRTIO_COMMON_QUEUE_DEVICE, 8, d->queue[q].used);
	guest_set(d, VIRTIO_COMMON_QUEUE_ENABLE, 2, 1);
}

/* Reset, negotiation of `features` and VERSION_1, all queues, DRIVER_OK (3.1.1). */
static inline void guest_setup(struct guest_device *d, uint64_t features)
{
	guest_set(d, VIRTIO_COMMON_STATUS, 1, 0);
	guest_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	guest_set_features(d, features | VIRTIO_F_VERSION_1);
	guest_set_status(d, VIRTIO_STATUS_FEATURES_OK);
	guest_set(d, VIRTIO_COMMON_CONFIG_VECTOR, 2, 0);
	for (unsigned int q = 0; q < d->v->nr_queues; q++)
		guest_queue_setup(d, q);
	guest_set_status(d, VIRTIO_STATUS_DRIVER_OK);
}

static inline void guest_put16(struct guest_device *d, uint64_t gpa, uint16_t v)
{
	if (guest_write(&d->vm->memory, gpa, &v, sizeof(v)))
		abort();
}

static inline void guest_kick(struct guest_device *d, unsigned int q)
{
	guest_set(d, VIRTIO_BAR_NOTIFY + q * VIRTIO_NOTIFY_STEP, 2, q);
}

/* Makes a chain of `n` available and returns its head. At most a queue's worth is under way. */
static inline uint16_t guest_post(struct guest_device *d, unsigned int q,
				  const struct guest_segment *segment, unsigned int n)
{
	struct guest_queue *gq = &d->queue[q];
	uint16_t head = gq->next % GUEST_QUEUE_SIZE;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t next = (uint16_t)((gq->next + 1) % GUEST_QUEUE_SIZE);
		struct {
			uint64_t gpa;
			uint32_t len;
			uint16_t flags, next;
		} desc = { segment[i].gpa, segment[i].len,
			   (uint16_t)((segment[i].in ? GUEST_WRITE : 0) |
				      (i + 1 < n ? GUEST_NEXT : 0)),
			   next };

		if (guest_write(&d->vm->memory, gq->desc + 16u * (gq->next % GUEST_QUEUE_SIZE),
				&desc, sizeof(desc)))
			abort();
		gq->next++;
	}
	guest_put16(d, gq->avail + 4 + 2u * (gq->posted % GUEST_QUEUE_SIZE), head);
	guest_put16(d, gq->avail + 2, ++gq->posted);
	guest_kick(d, q);
	return head;
}

static inline uint16_t guest_used(struct guest_device *d, unsigned int q)
{
	uint16_t index;

	if (guest_read(&d->vm->memory, d->queue[q].used + 2, &index, sizeof(index)))
		abort();
	return index;
}

/* Waits for the next completion; its head, and its length in *ret_len. -1: none came. */
static inline int guest_wait(struct guest_device *d, unsigned int q, uint32_t *ret_len)
{
	uint64_t deadline = clock_now_ns() + GUEST_WAIT_NS;
	struct guest_queue *gq = &d->queue[q];
	uint32_t element[2];

	while (guest_used(d, q) == gq->seen) {
		if (clock_now_ns() > deadline)
			return -1;
		poll(NULL, 0, 1);
	}
	if (guest_read(&d->vm->memory, gq->used + 4 + 8u * (gq->seen % GUEST_QUEUE_SIZE), element,
		       sizeof(element)))
		abort();
	/* As a driver with the event index: an interrupt for the next one, please. */
	guest_put16(d, gq->avail + 4 + 2u * GUEST_QUEUE_SIZE, ++gq->seen);
	if (ret_len)
		*ret_len = element[1];
	return (int)element[0];
}

static inline bool guest_wait_status(struct guest_device *d, uint8_t bit)
{
	uint64_t deadline = clock_now_ns() + GUEST_WAIT_NS;

	while (!(guest_status(d) & bit)) {
		if (clock_now_ns() > deadline)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

static inline bool guest_take_pending(struct guest_device *d, uint64_t bit)
{
	bool raised;

	pthread_mutex_lock(&d->v->pci.msix_lock);
	raised = d->v->pci.pending & bit;
	d->v->pci.pending &= ~bit;
	pthread_mutex_unlock(&d->v->pci.msix_lock);
	return raised;
}

/* Waits until vector `v` is raised, and clears it. The used index comes before it. */
static inline bool guest_interrupted(struct guest_device *d, unsigned int v)
{
	uint64_t deadline = clock_now_ns() + GUEST_WAIT_NS;

	while (!guest_take_pending(d, UINT64_C(1) << v)) {
		if (clock_now_ns() > deadline)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

/* The device's saved state, as a checkpoint takes it. Returns its length. */
static inline size_t guest_save(struct guest_device *d, void *ret, size_t max)
{
	struct state s = { .at = cursor_over(ret, max) };

	gate_close(&d->vm->gate);
	d->v->base.ops->state(&d->v->base, &s);
	gate_open(&d->vm->gate);
	return state_ok(&s) ? max - cursor_left(&s.at) : 0;
}

static inline bool guest_load(struct guest_device *d, const void *bytes, size_t len)
{
	struct state s = { .at = cursor_over(bytes, len), .loading = true };

	d->v->base.ops->state(&d->v->base, &s);
	return state_ok(&s) && cursor_done(&s.at);
}

#endif
