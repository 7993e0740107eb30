/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modern PCI transport of virtio (virtio 1.2, 4.1): registers in BAR 0, notifications
 * by ioeventfd, interrupts by MSI-X. Invariant: the queues' configuration changes only
 * before DRIVER_OK or by a reset. Threads: see virtio_pci.h.
 */
#include "hypervisor/vmm/virtio_pci.h"

#include "base/cursor.h"
#include "base/err.h"
#include "base/log.h"
#include "hypervisor/vmm/gate.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_worker.h"
#include "hypervisor/vmm/vm.h"

#define VIRTIO_PCI_VENDOR     0x1af4u
#define VIRTIO_PCI_DEVICE     0x1040u /* plus the virtio device id */
#define PCI_CAPABILITY_VENDOR 0x09u
#define CONFIG_CHANGE_ISR     2u

/* cfg_type of a virtio capability, 4.1.4. */
enum {
	CAPABILITY_COMMON = 1,
	CAPABILITY_NOTIFY,
	CAPABILITY_ISR,
	CAPABILITY_DEVICE,
	CAPABILITY_WINDOW,
};

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

static struct virtio_device *from_pci(struct pci_device *pci)
{
	return container_of(pci, struct virtio_device, pci);
}

static struct virtio_device *from_base(struct vm_device *base)
{
	return container_of(base, struct virtio_device, base);
}

/* --- inside --------------------------------------------------------------------------- */

void virtio_enter(struct virtio_device *v)
{
	gate_enter(&v->vm->gate);
	pthread_mutex_lock(&v->lock);
}

/* A guest can break its device as often as it likes: the log hears of the first time. */
void virtio_leave(struct virtio_device *v)
{
	bool tell = v->status & VIRTIO_STATUS_NEEDS_RESET && !v->told;

	v->told |= tell;
	pthread_mutex_unlock(&v->lock);
	gate_leave(&v->vm->gate);
	if (tell)
		log_warning("event=device_needs_reset device=%s%u", v->name, v->base.instance);
}

bool virtio_ready(const struct virtio_device *v, unsigned int q)
{
	return !gate_ended(&v->vm->gate) && v->status & VIRTIO_STATUS_DRIVER_OK &&
	       !(v->status & (VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED)) &&
	       v->queue[q].enabled;
}

void virtio_break(struct virtio_device *v)
{
	v->status |= VIRTIO_STATUS_NEEDS_RESET;
	/* 2.1.2: told only to a driver that is up. */
	if (v->status & VIRTIO_STATUS_DRIVER_OK) {
		v->isr |= CONFIG_CHANGE_ISR;
		pci_msix_raise(&v->pci, v->config_vector);
	}
}

bool virtio_pop(struct virtio_device *v, unsigned int q, struct virtqueue_chain *ret)
{
	int err;

	if (!virtio_ready(v, q))
		return false;
	err = virtqueue_pop(&v->queue[q], ret);
	if (err < 0)
		virtio_break(v);
	return err > 0;
}

bool virtio_arm(struct virtio_device *v, unsigned int q)
{
	int err;

	if (!virtio_ready(v, q))
		return false;
	err = virtqueue_arm(&v->queue[q]);
	if (err < 0)
		virtio_break(v);
	return err > 0;
}

void virtio_push_all(struct virtio_device *v, unsigned int q, const struct virtqueue_done *done,
		     uint16_t n)
{
	if (virtio_ready(v, q) && virtqueue_push(&v->queue[q], done, n))
		virtio_break(v);
}

void virtio_push(struct virtio_device *v, unsigned int q, uint16_t head, uint32_t len)
{
	virtio_push_all(v, q, &(struct virtqueue_done){ head, len }, 1);
}

void virtio_signal(struct virtio_device *v, unsigned int q)
{
	if (virtio_ready(v, q) && virtqueue_should_signal(&v->queue[q])) {
		v->isr |= 1;
		pci_msix_raise(&v->pci, v->queue[q].vector);
	}
}

static void apply_features(struct virtio_device *v)
{
	for (unsigned int q = 0; q < v->nr_queues; q++) {
		v->queue[q].event_idx = v->accepted & VIRTIO_F_EVENT_IDX;
		v->queue[q].indirect = v->accepted & VIRTIO_F_INDIRECT_DESC;
	}
}

static void reset_transport(struct virtio_device *v)
{
	v->accepted = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->status = v->isr = 0;
	v->config_vector = VIRTQUEUE_NO_VECTOR;
	v->queue_select = 0;
	v->resets++;
	for (unsigned int q = 0; q < v->nr_queues; q++)
		virtqueue_reset(&v->queue[q]);
	if (v->ops->reset)
		v->ops->reset(v);
}

/* --- registers ------------------------------------------------------------------------ */

static struct virtqueue *selected(struct virtio_device *v)
{
	return v->queue_select < v->nr_queues ? &v->queue[v->queue_select] : NULL;
}

static void common_image(struct virtio_device *v, uint8_t image[VIRTIO_COMMON_END])
{
	static const struct virtqueue none = { .vector = VIRTQUEUE_NO_VECTOR };
	const struct virtqueue *vq = selected(v);
	struct cursor c = cursor_over(image, VIRTIO_COMMON_END);

	if (!vq)
		vq = &none; /* 4.1.4.3.1: a size of 0 says that there is no such queue */
	cursor_put_u32(&c, v->device_feature_select);
	cursor_put_u32(&c, v->device_feature_select < 2
				   ? (uint32_t)(v->offered >> 32 * v->device_feature_select)
				   : 0);
	cursor_put_u32(&c, v->driver_feature_select);
	cursor_put_u32(&c, v->driver_feature_select < 2
				   ? (uint32_t)(v->accepted >> 32 * v->driver_feature_select)
				   : 0);
	cursor_put_u16(&c, v->config_vector);
	cursor_put_u16(&c, v->nr_queues);
	cursor_put_u8(&c, v->status);
	cursor_put_u8(&c, 0); /* generation: our configurations never change */
	cursor_put_u16(&c, v->queue_select);
	cursor_put_u16(&c, vq->size);
	cursor_put_u16(&c, vq->vector);
	cursor_put_u16(&c, vq->enabled);
	cursor_put_u16(&c, v->queue_select); /* queue_notify_off */
	cursor_put_u64(&c, vq->desc);
	cursor_put_u64(&c, vq->avail);
	cursor_put_u64(&c, vq->used);
	assert(cursor_done(&c));
}

/* The bytes [offset, offset + len) of an image as a number; beyond it, zeros. */
static uint64_t image_get(const uint8_t *image, uint32_t size, uint32_t offset, unsigned int len)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < len && offset + i < size; i++)
		value |= (uint64_t)image[offset + i] << 8 * i;
	return value;
}

static uint64_t bar_read(struct pci_device *pci, uint32_t offset, unsigned int len)
{
	struct virtio_device *v = from_pci(pci);
	uint8_t image[VIRTIO_CONFIG_BYTES] = { 0 };
	uint64_t value = 0;

	pthread_mutex_lock(&v->lock);
	switch (offset & ~0xfffu) {
	case VIRTIO_BAR_COMMON:
		common_image(v, image);
		value = image_get(image, VIRTIO_COMMON_END, offset, len);
		break;
	case VIRTIO_BAR_ISR:
		if (offset == VIRTIO_BAR_ISR) {
			value = v->isr;
			v->isr = 0;
		}
		break;
	case VIRTIO_BAR_DEVICE:
		v->ops->config(v, image);
		value = image_get(image, sizeof(image), offset - VIRTIO_BAR_DEVICE, len);
		break;
	}
	pthread_mutex_unlock(&v->lock);
	return value;
}

static uint16_t known_vector(const struct virtio_device *v, uint64_t vector)
{
	return vector < v->pci.nr_vectors ? (uint16_t)vector : VIRTQUEUE_NO_VECTOR;
}

static void write_status(struct virtio_device *v, uint8_t status)
{
	if (!status) {
		reset_transport(v);
		return;
	}
	/* 3.1.1: the device refuses features by not keeping FEATURES_OK. */
	if (status & ~v->status & VIRTIO_STATUS_FEATURES_OK &&
	    (v->accepted & ~v->offered || !(v->accepted & VIRTIO_F_VERSION_1)))
		status &= ~VIRTIO_STATUS_FEATURES_OK;
	if (!(status & VIRTIO_STATUS_FEATURES_OK))
		status &= ~VIRTIO_STATUS_DRIVER_OK;
	/* Bits are only added; NEEDS_RESET is the device's. */
	v->status |= status & ~VIRTIO_STATUS_NEEDS_RESET;
	apply_features(v);
}

static void write_half(uint64_t *reg, unsigned int at, unsigned int len, uint64_t value)
{
	if (len == 8 && at == 0)
		*reg = value;
	else if (len == 4 && at == 0)
		*reg = (*reg & ~UINT64_C(0xffffffff)) | (uint32_t)value;
	else if (len == 4 && at == 4)
		*reg = (*reg & 0xffffffff) | value << 32;
}

static void write_features(struct virtio_device *v, uint32_t value)
{
	if (v->driver_feature_select < 2 && !(v->status & VIRTIO_STATUS_FEATURES_OK))
		write_half(&v->accepted, 4 * v->driver_feature_select, 4, value);
}

/* Registers of the selected queue; once it is enabled only its vector may change. */
static void write_queue(struct virtio_device *v, uint32_t offset, unsigned int len, uint64_t value)
{
	struct virtqueue *vq = selected(v);

	if (!vq)
		return;
	if (offset == VIRTIO_COMMON_QUEUE_VECTOR && len == 2)
		vq->vector = known_vector(v, value);
	if (vq->enabled)
		return;
	if (offset == VIRTIO_COMMON_QUEUE_SIZE && len == 2) {
		if (value && value <= VIRTQUEUE_MAX && !(value & (value - 1)))
			vq->size = (uint16_t)value;
	} else if (offset == VIRTIO_COMMON_QUEUE_ENABLE && len == 2) {
		vq->enabled = value == 1;
	} else if (offset >= VIRTIO_COMMON_QUEUE_DEVICE) {
		write_half(&vq->used, offset - VIRTIO_COMMON_QUEUE_DEVICE, len, value);
	} else if (offset >= VIRTIO_COMMON_QUEUE_DRIVER) {
		write_half(&vq->avail, offset - VIRTIO_COMMON_QUEUE_DRIVER, len, value);
	} else if (offset >= VIRTIO_COMMON_QUEUE_DESC) {
		write_half(&vq->desc, offset - VIRTIO_COMMON_QUEUE_DESC, len, value);
	}
}

/* A write of another size than the register's is a driver's fault and does nothing. */
static void write_common(struct virtio_device *v, uint32_t offset, unsigned int len, uint64_t value)
{
	if (offset == VIRTIO_COMMON_DEVICE_FEATURE_SELECT && len == 4)
		v->device_feature_select = (uint32_t)value;
	else if (offset == VIRTIO_COMMON_DRIVER_FEATURE_SELECT && len == 4)
		v->driver_feature_select = (uint32_t)value;
	else if (offset == VIRTIO_COMMON_DRIVER_FEATURE && len == 4)
		write_features(v, (uint32_t)value);
	else if (offset == VIRTIO_COMMON_CONFIG_VECTOR && len == 2)
		v->config_vector = known_vector(v, value);
	else if (offset == VIRTIO_COMMON_STATUS && len == 1)
		write_status(v, (uint8_t)value);
	else if (offset == VIRTIO_COMMON_QUEUE_SELECT && len == 2)
		v->queue_select = (uint16_t)value;
	else if (offset > VIRTIO_COMMON_QUEUE_SELECT && offset < VIRTIO_COMMON_END)
		write_queue(v, offset, len, value);
}

static void bar_write(struct pci_device *pci, uint32_t offset, unsigned int len, uint64_t value)
{
	struct virtio_device *v = from_pci(pci);

	/* Usually an ioeventfd takes these; not when another BAR was laid over this one. */
	if (offset >= VIRTIO_BAR_NOTIFY && offset < VIRTIO_BAR_END) {
		uint32_t q = (offset - VIRTIO_BAR_NOTIFY) / VIRTIO_NOTIFY_STEP;

		if (q < v->nr_queues)
			virtio_worker_kick(v, q);
		return;
	}
	if (offset >= VIRTIO_BAR_ISR)
		return;
	pthread_mutex_lock(&v->lock);
	write_common(v, offset, len, value);
	pthread_mutex_unlock(&v->lock);
}

/* A failure to register leaves bar_write() to take the notifications. */
static void bar_moved(struct pci_device *pci, uint64_t gpa)
{
	struct virtio_device *v = from_pci(pci);
	uint64_t notify = gpa ? gpa + VIRTIO_BAR_NOTIFY : 0;

	if (notify == v->notify_gpa)
		return;
	for (unsigned int q = 0; q < v->nr_queues; q++) {
		uint64_t step = (uint64_t)q * VIRTIO_NOTIFY_STEP;

		if (v->notify_gpa)
			vm_ioeventfd(v->vm, v->notify_gpa + step, 0, v->kick_fd[q], false);
		if (notify)
			vm_ioeventfd(v->vm, notify + step, 0, v->kick_fd[q], true);
	}
	v->notify_gpa = notify;
}

static const struct pci_device_ops pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_moved = bar_moved,
};

/* --- life ----------------------------------------------------------------------------- */

static void state_transport(struct virtio_device *v, struct state *s)
{
	state_u64(s, &v->accepted);
	state_u32(s, &v->device_feature_select);
	state_u32(s, &v->driver_feature_select);
	state_u8(s, &v->status);
	state_u8(s, &v->isr);
	state_u16(s, &v->config_vector);
	state_u16(s, &v->queue_select);
	state_check(s, !(v->status & VIRTIO_STATUS_FEATURES_OK) || !(v->accepted & ~v->offered));
	for (unsigned int q = 0; q < v->nr_queues; q++)
		virtqueue_state(&v->queue[q], s);
	if (s->loading) {
		v->resets++;
		apply_features(v);
	}
}

static void virtio_state(struct vm_device *base, struct state *s)
{
	struct virtio_device *v = from_base(base);

	pci_device_state(&v->pci, s);
	pthread_mutex_lock(&v->lock);
	state_transport(v, s);
	if (v->ops->state)
		v->ops->state(v, s);
	pthread_mutex_unlock(&v->lock);
}

static int virtio_start(struct vm_device *base)
{
	struct virtio_device *v = from_base(base);
	int err = v->ops->start ? v->ops->start(v) : 0;

	return err ? err : virtio_worker_start(v);
}

static void virtio_reset(struct vm_device *base)
{
	struct virtio_device *v = from_base(base);

	pthread_mutex_lock(&v->lock);
	reset_transport(v);
	pthread_mutex_unlock(&v->lock);
	pci_device_reset(&v->pci);
}

static void virtio_stop(struct vm_device *base)
{
	virtio_worker_stop(from_base(base));
}

static void virtio_destroy(struct vm_device *base)
{
	struct virtio_device *v = from_base(base);

	v->ops->destroy(v);
}

static const struct vm_device_ops device_ops = {
	.state = virtio_state,
	.start = virtio_start,
	.reset = virtio_reset,
	.stop = virtio_stop,
	.destroy = virtio_destroy,
};

/* 4.1.4: {cap_len, cfg_type, bar, id, padding, offset, length}, for NOTIFY a multiplier, for
 * WINDOW the data. */
static int add_capability(struct pci_device *pci, uint8_t type, uint32_t offset, uint32_t length)
{
	uint8_t body[18] = { 0 };
	struct cursor c = cursor_over(body, sizeof(body));
	uint8_t len = type == CAPABILITY_NOTIFY || type == CAPABILITY_WINDOW ? 18 : 14;
	int at;

	cursor_put_u8(&c, len + 2);
	cursor_put_u8(&c, type);
	cursor_put_u32(&c, 0); /* BAR 0 */
	cursor_put_u32(&c, offset);
	cursor_put_u32(&c, length);
	cursor_put_u32(&c, type == CAPABILITY_NOTIFY ? VIRTIO_NOTIFY_STEP : 0);
	assert(cursor_done(&c));
	at = pci_add_capability(pci, PCI_CAPABILITY_VENDOR, body, len);
	if (at > 0 && type == CAPABILITY_WINDOW)
		pci_set_window(pci, (uint8_t)at);
	return at < 0 ? at : 0;
}

static int add_to_bus(struct virtio_device *v, const struct virtio_identity *identity)
{
	struct pci_ids ids = {
		.vendor = VIRTIO_PCI_VENDOR,
		.device = (uint16_t)(VIRTIO_PCI_DEVICE + identity->id),
		.subsystem_vendor = VIRTIO_PCI_VENDOR,
		.subsystem = VIRTIO_PCI_DEVICE,
		.class_revision = identity->class_revision << 8 | 1,
	};
	int err;

	v->pci.ops = &pci_ops;
	v->pci.vm = v->vm;
	err = pci_add_device(v->vm, &v->pci, &ids, (uint16_t)(v->nr_queues + 1));
	if (!err)
		err = add_capability(&v->pci, CAPABILITY_COMMON, VIRTIO_BAR_COMMON,
				     VIRTIO_COMMON_END);
	if (!err)
		err = add_capability(&v->pci, CAPABILITY_NOTIFY, VIRTIO_BAR_NOTIFY,
				     v->nr_queues * VIRTIO_NOTIFY_STEP);
	if (!err)
		err = add_capability(&v->pci, CAPABILITY_ISR, VIRTIO_BAR_ISR, 1);
	if (!err)
		err = add_capability(&v->pci, CAPABILITY_DEVICE, VIRTIO_BAR_DEVICE,
				     VIRTIO_CONFIG_BYTES);
	if (!err)
		err = add_capability(&v->pci, CAPABILITY_WINDOW, 0, 0);
	return err;
}

int virtio_add(struct virtio_device *v, struct vm *vm, const struct virtio_ops *ops,
	       const struct virtio_identity *identity, struct reason *why)
{
	static const char *const names[] = {
		[VIRTIO_ID_NET] = "net",
		[VIRTIO_ID_BLK] = "blk",
		[VIRTIO_ID_CONSOLE] = "console",
		[VIRTIO_ID_RNG] = "rng",
	};
	int err;

	assert(identity->nr_queues <= VIRTIO_MAX_QUEUES);
	v->vm = vm;
	v->ops = ops;
	v->name = names[identity->id];
	v->nr_queues = identity->nr_queues;
	v->offered = identity->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
		     VIRTIO_F_INDIRECT_DESC;
	v->config_vector = VIRTQUEUE_NO_VECTOR;
	for (unsigned int q = 0; q < v->nr_queues; q++) {
		v->queue[q].mem = &vm->memory;
		virtqueue_reset(&v->queue[q]);
	}
	err = virtio_worker_open(v);
	if (err)
		return reason_set(why, -err, "no eventfd for a virtio device");
	err = add_to_bus(v, identity);
	if (err) {
		virtio_worker_close(v);
		return reason_set(why, -err, "no room on the PCI bus for virtio device %u.%u",
				  (unsigned int)identity->id, identity->instance);
	}
	pthread_mutex_init(&v->lock, NULL);
	v->base.ops = &device_ops;
	v->base.type = identity->state_type;
	v->base.instance = identity->instance;
	vm_add_device(vm, &v->base);
	return 0;
}

void virtio_release(struct virtio_device *v)
{
	virtio_worker_close(v);
	pthread_mutex_destroy(&v->lock);
}
