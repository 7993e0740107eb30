/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against all four virtio devices: the input is a program of register
 * accesses, writes into guest memory, queues set up in earnest and then bent, frames from
 * the wire, states saved and loaded. The workers run in turns on this thread, so a finding
 * can be repeated. What must hold: no access outside memory, no turn without end, and a
 * device that has been reset works again.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "hypervisor/vmm/virtio_blk.h"
#include "hypervisor/vmm/virtio_console.h"
#include "hypervisor/vmm/net_tap.h"
#include "hypervisor/vmm/virtio_net.h"
#include "hypervisor/vmm/virtio_rng.h"
#include "tests/lib/virtio_guest.h"

#define NR_DEVICES  4u
#define MAX_STEPS   400u
#define DISK_BYTES  (1 << 20)
#define SMALL_BYTES 0x8000u /* the part of memory that the input writes and that is cleared */
#define STATE_BYTES 16384u

enum step {
	STEP_WRITE_REGISTER,
	STEP_READ_REGISTER,
	STEP_WRITE_MEMORY,
	STEP_SET_UP,
	STEP_POST,
	STEP_WORK,
	STEP_FRAME,
	STEP_SAVE_AND_LOAD,
	STEP_LOAD,
	STEP_HOLD,
	NR_STEPS,
};

static struct vm *vm;
static struct guest_device device[NR_DEVICES];
static int wire;
static uint8_t saved[STATE_BYTES];

static void make_disk(void)
{
	static char path[64];
	int fd = memfd_create("disk", 0);

	if (fd < 0 || ftruncate(fd, DISK_BYTES))
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	vm->config.nr_disks = 1;
	vm->config.disk[0].path = path;
}

static void make_machine(void)
{
	struct reason why;
	int pair[2];

	vm = guest_vm_open("/tmp");
	make_disk();
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair))
		abort();
	wire = pair[1];
	vm->config.nr_nics = 1;
	if (virtio_blk_create(vm, 0, &why))
		abort();
	device[0] = guest_device_last(vm);
	if (virtio_net_create_over(vm, 0, pair[0], &why))
		abort();
	device[1] = guest_device_last(vm);
	if (virtio_console_create(vm, 0, &why))
		abort();
	device[2] = guest_device_last(vm);
	if (virtio_rng_create(vm, 0, &why))
		abort();
	device[3] = guest_device_last(vm);
}

static void drain_wire(void)
{
	uint8_t frame[2048];

	while (recv(wire, frame, sizeof(frame), MSG_DONTWAIT) >= 0)
		continue;
}

static void work(struct guest_device *d)
{
	struct virtio_device *v = d->v;
	unsigned int ready = VIRTIO_READY_QUEUE(0) | VIRTIO_READY_QUEUE(1) |
			     VIRTIO_READY_SOURCE(0) | VIRTIO_READY_SOURCE(1);

	v->ops->work(v, ready);
}

/* A chain of up to 4, with addresses that are mostly memory and mostly small. */
static void post(struct guest_device *d, struct cursor *c)
{
	struct guest_segment segment[4];
	unsigned int q = cursor_get_u8(c) % d->v->nr_queues;
	unsigned int n = 1 + cursor_get_u8(c) % 4;

	if (!d->queue[q].desc)
		return;
	for (unsigned int i = 0; i < n; i++) {
		uint8_t kind = cursor_get_u8(c);

		segment[i].gpa = cursor_get_u16(c) | (kind & 0xf0 ? 0 : cursor_get_u64(c));
		segment[i].len = kind & 2 ? cursor_get_u8(c) : cursor_get_u32(c);
		segment[i].in = kind & 1;
	}
	guest_post(d, q, segment, n);
}

static void write_memory(struct guest_device *d, struct cursor *c)
{
	uint32_t at = cursor_get_u16(c), len = cursor_get_u8(c);
	const void *bytes = cursor_get_view(c, len);
	unsigned int q = at >> 15;

	/* Half of them go to the rings of this device. */
	if (bytes && q < d->v->nr_queues)
		guest_write(&vm->memory, d->queue[q].desc + (at & 0x3fff), bytes, len);
	else if (bytes)
		guest_write(&vm->memory, at & (SMALL_BYTES - 1), bytes, len);
}

static void access_register(struct guest_device *d, struct cursor *c, bool write)
{
	uint32_t offset = cursor_get_u16(c) % PCI_BAR_BYTES;
	unsigned int len = 1u << cursor_get_u8(c) % 4;
	uint64_t value = write ? cursor_get_u64(c) : 0;

	/* Mostly where something is. */
	if (offset & 1 && len > 1)
		offset = (offset >> 1) % 64 / len * len;
	pci_mmio(vm, d->v->pci.bar_gpa + offset, &value, len, write);
}

static void load(struct guest_device *d, struct cursor *c)
{
	size_t len = MIN(cursor_get_u16(c), cursor_left(c));
	const void *bytes = cursor_get_view(c, len);
	size_t good = guest_save(d, saved, sizeof(saved));

	/* The machine puts the old state back when any record is refused. */
	if (bytes && !guest_load(d, bytes, len) && !guest_load(d, saved, good))
		abort();
}

/* Changes one byte of what the device itself saved, and loads that. */
static void save_and_load(struct guest_device *d, struct cursor *c)
{
	static uint8_t bent[STATE_BYTES];
	size_t len = guest_save(d, saved, sizeof(saved));
	uint16_t at = cursor_get_u16(c);

	if (!len)
		abort();
	memcpy(bent, saved, len);
	bent[at % len] ^= cursor_get_u8(c);
	if (!guest_load(d, bent, len) && !guest_load(d, saved, len))
		abort();
}

static void hold(struct cursor *c)
{
	uint64_t frames, bytes;
	uint8_t what = cursor_get_u8(c);

	if (what & 1)
		net_hold_set(vm->net_hold, what & 2, NET_HOLD_MIN_BYTES, NULL);
	net_hold_mark(vm->net_hold, what);
	net_hold_release(vm->net_hold, cursor_get_u8(c), 0, &frames, &bytes);
}

static void one_step(struct cursor *c)
{
	enum step step = cursor_get_u8(c) % NR_STEPS;
	struct guest_device *d = &device[cursor_get_u8(c) % NR_DEVICES];
	uint8_t frame[256] = { 0 };

	switch (step) {
	case STEP_WRITE_REGISTER:
	case STEP_READ_REGISTER:
		access_register(d, c, step == STEP_WRITE_REGISTER);
		break;
	case STEP_WRITE_MEMORY:
		write_memory(d, c);
		break;
	case STEP_SET_UP:
		guest_setup(d, cursor_get_u64(c) & d->v->offered);
		break;
	case STEP_POST:
		post(d, c);
		break;
	case STEP_WORK:
		work(d);
		drain_wire();
		break;
	case STEP_FRAME:
		cursor_get_bytes(c, frame, NET_TAP_HEADER_BYTES);
		(void)!send(wire, frame, cursor_get_u8(c), 0);
		break;
	case STEP_SAVE_AND_LOAD:
		save_and_load(d, c);
		break;
	case STEP_LOAD:
		load(d, c);
		break;
	case STEP_HOLD:
		hold(c);
		break;
	case NR_STEPS:
		break;
	}
}

/* Whatever has happened: after a reset the rng serves a request. */
static void check_alive(void)
{
	const struct guest_segment buffer = { GUEST_DATA, 8, true };
	struct guest_device *d = &device[3];

	guest_setup(d, 0);
	guest_post(d, 0, &buffer, 1);
	work(d);
	if (guest_used(d, 0) != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t zeros[SMALL_BYTES];
	struct cursor c = cursor_over(data, size);

	if (!vm)
		make_machine();
	for (unsigned int i = 0; i < NR_DEVICES; i++) {
		device[i].v->base.ops->reset(&device[i].v->base);
		guest_setup(&device[i], device[i].v->offered);
	}
	guest_write(&vm->memory, 0, zeros, sizeof(zeros));
	net_hold_set(vm->net_hold, false, 0, NULL);
	for (unsigned int i = 0; i < MAX_STEPS && cursor_left(&c); i++)
		one_step(&c);
	check_alive();
	drain_wire();
	return 0;
}
