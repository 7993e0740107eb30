/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net. Queue 0 receives, queue 1 transmits (virtio 1.2, 5.1.2); each packet is a
 * 12-byte header (5.1.6) and a frame. net_offload.h judges the header in both directions, and
 * the tap's header is the same, so a packet of many segments stays one on its way.
 *
 * Transmit: the packet is copied out of the guest, given to the hold queue and completed,
 * all in one passage of the gate: the guest sees it sent in the epoch to which the queue
 * counts it (P1). With holding off it is emitted outside the gate instead. When the queue
 * is full the frame stays with the guest and the worker waits for room_fd.
 *
 * Receive: a packet is read from the tap outside the gate into `rx_packet`, and stays there
 * until the guest has the buffers. What is there at a takeover is lost, as on a wire.
 *
 * Threads: the worker; vCPUs see only the configuration, which is fixed.
 */
#include "hypervisor/vmm/virtio_net.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/net_addresses.h"
#include "hypervisor/vmm/net_hold.h"
#include "hypervisor/vmm/net_offload.h"
#include "hypervisor/vmm/net_tap.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_pci.h"
#include "hypervisor/vmm/vm.h"

#define RX 0u
#define TX 1u

#define SOURCE_TAP  0u
#define SOURCE_ROOM 1u

#define HEADER_BYTES NET_TAP_HEADER_BYTES
/* Frames in one passage of the gate, and the bytes after which no other begins: a pause waits
 * for no more copying than this. */
#define GATE_FRAMES 8u
#define GATE_BYTES  (64u << 10)

#define VIRTIO_NET_F_MAC     (UINT64_C(1) << 5)
#define VIRTIO_NET_F_STATUS  (UINT64_C(1) << 16)
#define VIRTIO_NET_S_LINK_UP 1u

#define PCI_CLASS_ETHERNET 0x020000u

struct virtio_net {
	struct virtio_device v;
	unsigned int index;
	uint8_t mac[6];			/* fixed */
	int tap_fd;			/* fixed */
	int room_fd;			/* fixed: raised when the hold queue has room again */
	struct net_addresses addresses; /* v.lock */

	/* The worker's own. */
	unsigned int tap_offload; /* what the tap was told */
	size_t rx_len;		  /* bytes in rx_packet, 0: none waits */
	uint8_t rx_packet[HEADER_BYTES + NET_FRAME_MAX];
	struct virtqueue_done rx_done[VIRTQUEUE_MAX];
	size_t tx_len; /* bytes in tx_packet: completed, and not yet on its way; 0: none */
	uint8_t tx_packet[HEADER_BYTES + NET_FRAME_MAX];
	struct virtqueue_chain chain;
};

static struct virtio_net *from_virtio(struct virtio_device *v)
{
	return (struct virtio_net *)v;
}

/* --- transmit ------------------------------------------------------------------------- */

/* The first two ask for more. */
enum tx_result { TX_HELD, TX_DIRECT, TX_NONE, TX_FULL };

/* Inside. A frame of an impossible length or header is completed and goes nowhere. */
static enum tx_result take_frame(struct virtio_net *n)
{
	struct virtqueue *vq = &n->v.queue[TX];
	size_t len;
	int err;

	if (!virtio_pop(&n->v, TX, &n->chain))
		return TX_NONE;
	if (n->chain.out_bytes < HEADER_BYTES) {
		virtio_break(&n->v);
		return TX_NONE;
	}
	len = (size_t)n->chain.out_bytes;
	if (len < HEADER_BYTES + NET_FRAME_MIN || len > sizeof(n->tx_packet)) {
		virtio_push(&n->v, TX, n->chain.head, 0);
		return TX_HELD;
	}
	if (virtqueue_read(vq, &n->chain, 0, n->tx_packet, len)) {
		virtio_break(&n->v);
		return TX_NONE;
	}
	if (!net_offload_out(n->v.accepted, n->tx_packet, len - HEADER_BYTES)) {
		virtio_push(&n->v, TX, n->chain.head, 0);
		return TX_HELD;
	}
	err = net_hold_put(n->v.vm->net_hold, n->index, n->tx_packet, len);
	if (err == -ENOBUFS) {
		virtqueue_unpop(vq);
		return TX_FULL;
	}
	net_addresses_learn(&n->addresses, n->mac, n->tx_packet + HEADER_BYTES, len - HEADER_BYTES);
	virtio_push(&n->v, TX, n->chain.head, 0);
	if (err == -ENOTCONN)
		n->tx_len = len;
	return err == -ENOTCONN ? TX_DIRECT : TX_HELD;
}

/* Sends what was completed while holding was off. False: holding began, and it is full. */
static bool send_direct(struct virtio_net *n)
{
	if (n->tx_len &&
	    net_hold_send(n->v.vm->net_hold, n->index, n->tx_packet, n->tx_len) == -ENOBUFS)
		return false;
	n->tx_len = 0;
	return true;
}

/* Inside: some frames, or one when it must be emitted. */
static enum tx_result take_frames(struct virtio_net *n)
{
	enum tx_result result = TX_HELD;
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < GATE_FRAMES && bytes < GATE_BYTES && result == TX_HELD; i++) {
		result = take_frame(n);
		bytes += n->chain.out_bytes;
		if (result == TX_NONE && virtio_arm(&n->v, TX))
			result = TX_HELD;
	}
	virtio_signal(&n->v, TX);
	return result;
}

/* Returns what is to be done again at once. */
static unsigned int transmit(struct virtio_net *n)
{
	enum tx_result result = TX_HELD;

	n->v.source_fd[SOURCE_ROOM] = -1;
	for (unsigned int i = 0; i < VIRTIO_TURN / GATE_FRAMES && result <= TX_DIRECT; i++) {
		if (!send_direct(n)) {
			result = TX_FULL;
			break;
		}
		virtio_enter(&n->v);
		result = take_frames(n);
		virtio_leave(&n->v);
	}
	if (result == TX_FULL) {
		n->v.source_fd[SOURCE_ROOM] = n->room_fd;
		return 0;
	}
	return result == TX_NONE ? 0 : VIRTIO_READY_QUEUE(TX);
}

/* --- receive -------------------------------------------------------------------------- */

/* The tap leaves to the guest what the driver that runs has agreed to, and else nothing. What
 * is no tap gives plain frames anyway. */
static void follow_features(struct virtio_net *n)
{
	unsigned int flags;

	pthread_mutex_lock(&n->v.lock);
	flags = virtio_ready(&n->v, RX) ? net_offload_tap(n->v.accepted) : 0;
	pthread_mutex_unlock(&n->v.lock);
	if (flags != n->tap_offload)
		net_tap_offload(n->tap_fd, flags);
	n->tap_offload = flags;
}

static void read_tap(struct virtio_net *n)
{
	ssize_t len = read(n->tap_fd, n->rx_packet, sizeof(n->rx_packet));

	n->rx_len = len > (ssize_t)HEADER_BYTES ? (size_t)len : 0;
}

/* Inside. The next buffer, looked for once more after asking to be told of it. */
static bool take_buffer(struct virtio_net *n)
{
	return virtio_pop(&n->v, RX, &n->chain) ||
	       (virtio_arm(&n->v, RX) && virtio_pop(&n->v, RX, &n->chain));
}

/* Inside. Writes the packet into one buffer, or over several. Returns their number; 0: they
 * do not suffice yet; -EMSGSIZE: they never will. Then all are the guest's again. */
static int fill_buffers(struct virtio_net *n)
{
	bool several = n->v.accepted & NET_OFFLOAD_MRG_RXBUF;
	struct virtqueue *vq = &n->v.queue[RX];
	size_t at = 0, len;
	uint16_t nr = 0;
	int err = 0;

	while (at < n->rx_len && !err) {
		if (nr == vq->size) {
			err = -EMSGSIZE;
			break;
		}
		if (!take_buffer(n))
			break;
		nr++;
		len = MIN(n->rx_len - at, (size_t)n->chain.in_bytes);
		if (len < (several ? HEADER_BYTES : n->rx_len) && !at)
			err = -EMSGSIZE;
		else if (virtqueue_write(vq, &n->chain, 0, n->rx_packet + at, len))
			err = -EFAULT;
		n->rx_done[nr - 1] = (struct virtqueue_done){ n->chain.head, (uint32_t)len };
		at += len;
	}
	if (at == n->rx_len && !err)
		return nr;
	while (nr--)
		virtqueue_unpop(vq);
	return err;
}

/* Inside. The first of several buffers tells their number (5.1.6.4). */
static int tell_buffers(struct virtio_net *n, uint16_t nr)
{
	struct virtqueue *vq = &n->v.queue[RX];

	net_offload_set_buffers(n->rx_packet, nr);
	if (virtqueue_walk(vq, n->rx_done[0].head, &n->chain))
		return -EFAULT;
	return virtqueue_write(vq, &n->chain, 0, n->rx_packet, HEADER_BYTES);
}

/* Inside. False: the guest has no buffer. A buffer that is too small costs the frame, and so
 * does a guest that does not listen, or not to such frames. */
static bool deliver(struct virtio_net *n)
{
	int nr = -EMSGSIZE;

	if (virtio_ready(&n->v, RX) && net_offload_in(n->v.accepted, n->rx_packet))
		nr = fill_buffers(n);
	if (nr == 0)
		return false;
	if (nr == -EFAULT || (nr > 1 && tell_buffers(n, (uint16_t)nr))) {
		virtio_break(&n->v);
		return false;
	}
	if (nr > 0)
		virtio_push_all(&n->v, RX, n->rx_done, (uint16_t)nr);
	n->rx_len = 0;
	return true;
}

/* Listens to the tap only while nothing waits: then its own queue drops, as a NIC would. */
static unsigned int receive(struct virtio_net *n)
{
	unsigned int frames;
	bool up = true;

	for (frames = 0; frames < VIRTIO_TURN; frames++) {
		if (!n->rx_len)
			read_tap(n);
		if (!n->rx_len)
			break;
		virtio_enter(&n->v);
		up = deliver(n);
		virtio_signal(&n->v, RX);
		virtio_leave(&n->v);
		if (!up)
			break;
	}
	n->v.source_fd[SOURCE_TAP] = up ? n->tap_fd : -1;
	return 0;
}

/* --- the device ----------------------------------------------------------------------- */

static unsigned int work(struct virtio_device *v, unsigned int ready)
{
	struct virtio_net *n = from_virtio(v);
	unsigned int again = 0;
	eventfd_t count;

	if (ready & VIRTIO_READY_SOURCE(SOURCE_ROOM))
		eventfd_read(n->room_fd, &count);
	follow_features(n);
	if (ready & (VIRTIO_READY_QUEUE(TX) | VIRTIO_READY_SOURCE(SOURCE_ROOM)))
		again = transmit(n);
	if (ready & (VIRTIO_READY_QUEUE(RX) | VIRTIO_READY_SOURCE(SOURCE_TAP)))
		again |= receive(n);
	return again;
}

static void config(struct virtio_device *v, uint8_t ret[VIRTIO_CONFIG_BYTES])
{
	struct cursor c = cursor_over(ret, VIRTIO_CONFIG_BYTES);

	cursor_put_bytes(&c, from_virtio(v)->mac, 6);
	cursor_put_u16(&c, VIRTIO_NET_S_LINK_UP);
}

static void state(struct virtio_device *v, struct state *s)
{
	net_addresses_state(&from_virtio(v)->addresses, s);
}

static int start(struct virtio_device *v)
{
	int err = net_tap_listen(from_virtio(v)->tap_fd);

	/* What is no tap was never deaf. */
	return err == -ENOTTY ? 0 : err;
}

static void destroy(struct virtio_device *v)
{
	struct virtio_net *n = from_virtio(v);

	virtio_release(v);
	close(n->room_fd);
	close(n->tap_fd);
	free(n);
}

static const struct virtio_ops ops = {
	.config = config,
	.state = state,
	.start = start,
	.work = work,
	.destroy = destroy,
};

int virtio_net_create_over(struct vm *vm, unsigned int index, int fd, struct reason *why)
{
	const struct virtio_identity identity = {
		.id = VIRTIO_ID_NET,
		.state_type = STATE_VIRTIO_NET,
		.instance = (uint16_t)index,
		.class_revision = PCI_CLASS_ETHERNET,
		.nr_queues = 2,
		.features = VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS | NET_OFFLOAD_FEATURES,
	};
	cleanup_close int tap_fd = fd;
	cleanup_close int room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct virtio_net *n;
	int err;

	err = net_hold_add_nic(vm->net_hold, index, tap_fd, room_fd, HEADER_BYTES);
	if (err)
		return reason_set(why, -err, "NIC %u is beyond the limit of %u", index,
				  NET_HOLD_MAX_NICS);
	n = room_fd < 0 ? NULL : calloc(1, sizeof(*n));
	if (!n)
		return reason_set(why, ENOMEM, "no memory for NIC %u", index);
	n->index = index;
	memcpy(n->mac, vm->config.nic[index].mac, sizeof(n->mac));
	n->tap_fd = tap_fd;
	n->room_fd = room_fd;
	err = virtio_add(&n->v, vm, &ops, &identity, why);
	if (err) {
		free(n);
		return err;
	}
	take_fd(&tap_fd);
	take_fd(&room_fd);
	return 0;
}

int virtio_net_create(struct vm *vm, unsigned int index, struct reason *why)
{
	char name[16];
	int err, fd;

	snprintf(name, sizeof(name), CONTROL_TAP_FORMAT, vm->domid % CONTROL_TAP_DOMIDS, index);
	err = net_tap_open(name, vm->config.nic[index].bridge, &fd, why);
	return err ? err : virtio_net_create_over(vm, index, fd, why);
}

int virtio_net_addresses(struct vm *vm, unsigned int index, uint8_t ret_mac[6],
			 struct net_addresses *ret)
{
	for (struct vm_device *dev = vm->devices; dev; dev = dev->next) {
		struct virtio_net *n = (struct virtio_net *)dev;

		if (dev->type != STATE_VIRTIO_NET || dev->instance != index)
			continue;
		pthread_mutex_lock(&n->v.lock);
		memcpy(ret_mac, n->mac, sizeof(n->mac));
		*ret = n->addresses;
		pthread_mutex_unlock(&n->v.lock);
		return 0;
	}
	return -ENODEV;
}
