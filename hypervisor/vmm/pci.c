/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space and decoding. Registers of a header of type 0 (PCI Local Bus 3.0,
 * 6.1) that the guest may write are given by a mask, so that an access of any size at
 * any offset is byte by byte the same code.
 */
#include "hypervisor/vmm/pci.h"

#include "base/err.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/msix.h"
#include "hypervisor/vmm/power.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define PORT_ADDRESS 0xcf8u
#define PORT_DATA    0xcfcu

#define ADDRESS_ENABLE UINT32_C(0x80000000)

#define REG_VENDOR     0x00u
#define REG_COMMAND    0x04u
#define REG_STATUS     0x06u
#define REG_CLASS      0x08u
#define REG_CACHE_LINE 0x0cu
#define REG_BAR0       0x10u
#define REG_BAR1       0x14u
#define REG_SUBSYSTEM  0x2cu
#define REG_CAP_PTR    0x34u
#define REG_INT_LINE   0x3cu
#define REG_CAPS       0x40u

/* In a window's capability. */
#define WINDOW_BAR    4u
#define WINDOW_OFFSET 8u
#define WINDOW_LENGTH 12u
#define WINDOW_DATA   16u

#define COMMAND_MEMORY	    0x0002u
#define COMMAND_WRITABLE    0x0406u /* memory, bus master, INTx disable */
#define STATUS_CAPABILITIES 0x0010u
#define BAR_MEMORY_64	    0x4u
#define BAR_FLAGS	    0xfu

struct pci_bus {
	struct vm_device dev; /* first: what the device list knows */
	struct vm *vm;
	pthread_mutex_t lock;
	uint32_t address; /* lock. What the guest wrote to 0xcf8 */
	struct pci_device bridge;
	struct pci_device *slot[PCI_MAX_DEVICES + 1]; /* fixed once the VM is built */
};

static void put16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)v;
	at[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, (uint16_t)v);
	put16(at + 2, (uint16_t)(v >> 16));
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

/* --- decoding ---------------------------------------------------------------------------- */

/* Where BAR 0 decodes as configuration space now says: above memory, or nowhere. */
static uint64_t bar_of(const struct pci_device *dev)
{
	uint64_t gpa = (uint64_t)get32(dev->config + REG_BAR1) << 32 |
		       (get32(dev->config + REG_BAR0) & ~BAR_FLAGS);

	if (!(dev->config[REG_COMMAND] & COMMAND_MEMORY))
		return 0;
	/* While the guest sizes the BAR it holds all ones. */
	if (gpa > UINT64_MAX - PCI_BAR_BYTES)
		return 0;
	return gpa;
}

/* Bus lock held. */
static void follow_bar(struct pci_device *dev)
{
	uint64_t gpa = bar_of(dev);

	if (gpa == dev->bar_gpa)
		return;
	dev->bar_gpa = gpa;
	if (dev->ops && dev->ops->bar_moved)
		dev->ops->bar_moved(dev, gpa);
}

static void access_bar(struct pci_device *dev, uint32_t offset, uint8_t *data, unsigned int len,
		       bool write)
{
	uint64_t value = 0;

	if (offset >= PCI_BAR_MSIX_OFFSET) {
		msix_access(dev, offset - PCI_BAR_MSIX_OFFSET, data, len, write);
		return;
	}
	if (write) {
		memcpy(&value, data, len);
		dev->ops->bar_write(dev, offset, len, value);
		return;
	}
	value = dev->ops->bar_read(dev, offset, len);
	memcpy(data, &value, len);
}

bool pci_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len, bool write)
{
	struct pci_bus *bus = vm->pci;
	struct pci_device *hit = NULL;
	uint32_t offset = 0;

	pthread_mutex_lock(&bus->lock);
	for (unsigned int i = 1; i <= PCI_MAX_DEVICES && !hit; i++) {
		struct pci_device *dev = bus->slot[i];

		if (dev && dev->bar_gpa && gpa >= dev->bar_gpa &&
		    gpa - dev->bar_gpa < PCI_BAR_BYTES) {
			hit = dev;
			offset = (uint32_t)(gpa - dev->bar_gpa);
		}
	}
	pthread_mutex_unlock(&bus->lock);

	/* P4: devices are promised a power of two that stays on their side of the BAR. */
	if (!hit || (len != 1 && len != 2 && len != 4 && len != 8) ||
	    offset + len > PCI_BAR_BYTES ||
	    (offset < PCI_BAR_MSIX_OFFSET && offset + len > PCI_BAR_MSIX_OFFSET))
		return false;
	access_bar(hit, offset, data, len, write);
	return true;
}

/* --- configuration space ----------------------------------------------------------------- */

/* Bus 0, function 0; everything else is empty. */
static struct pci_device *decode(const struct pci_bus *bus, uint32_t address)
{
	if (!(address & ADDRESS_ENABLE) || address & 0x00ff0700)
		return NULL;
	return bus->slot[address >> 11 & 31];
}

static uint32_t config_read(struct pci_bus *bus, uint32_t address, unsigned int len)
{
	struct pci_device *dev = decode(bus, address);
	unsigned int reg = address & 0xff;
	uint32_t value = 0;

	if (!dev)
		return UINT32_MAX;
	for (unsigned int i = 0; i < len; i++)
		value |= (uint32_t)dev->config[(reg + i) & 0xff] << (i * 8);
	return value;
}

static void config_write(struct pci_bus *bus, uint32_t address, unsigned int len, uint32_t value)
{
	struct pci_device *dev = decode(bus, address);
	unsigned int reg = address & 0xff;

	if (!dev)
		return;
	for (unsigned int i = 0; i < len; i++) {
		unsigned int at = (reg + i) & 0xff;
		uint8_t mask = dev->writable[at];

		dev->config[at] = (uint8_t)((dev->config[at] & ~mask) | (value >> (i * 8) & mask));
	}
	follow_bar(dev);
	msix_update(dev);
}

/* An access through a window: what of the BAR it means, and where its data lies. */
struct window {
	struct pci_device *dev;
	uint32_t offset;
	unsigned int len;
	uint8_t *data;
};

/* Bus lock held. False: not a window's data, or it does not point at anything (P4: as in
 * pci_mmio(); aligned, it does not cross into the MSI-X table either). */
static bool find_window(const struct pci_bus *bus, uint32_t address, struct window *ret)
{
	struct pci_device *dev = decode(bus, address);
	uint8_t *cap;

	if (!dev || !dev->window_capability ||
	    (address & 0xfc) != dev->window_capability + WINDOW_DATA)
		return false;
	cap = dev->config + dev->window_capability;
	*ret = (struct window){ .dev = dev,
				.offset = get32(cap + WINDOW_OFFSET),
				.len = get32(cap + WINDOW_LENGTH),
				.data = cap + WINDOW_DATA };
	return cap[WINDOW_BAR] == 0 && (ret->len == 1 || ret->len == 2 || ret->len == 4) &&
	       ret->offset % ret->len == 0 && ret->offset < PCI_BAR_BYTES;
}

static uint32_t data_read(struct pci_bus *bus, uint16_t port, unsigned int len)
{
	uint32_t address, value;
	struct window window;
	uint8_t data[4];

	pthread_mutex_lock(&bus->lock);
	address = (bus->address & ~3u) | (port & 3u);
	if (find_window(bus, address, &window)) {
		pthread_mutex_unlock(&bus->lock);
		access_bar(window.dev, window.offset, data, window.len, false);
		pthread_mutex_lock(&bus->lock);
		memcpy(window.data, data, window.len);
	}
	value = config_read(bus, address, len);
	pthread_mutex_unlock(&bus->lock);
	return value;
}

static void data_write(struct pci_bus *bus, uint16_t port, unsigned int len, uint32_t value)
{
	struct window window;
	uint32_t address;
	uint8_t data[4];
	bool hit;

	pthread_mutex_lock(&bus->lock);
	address = (bus->address & ~3u) | (port & 3u);
	config_write(bus, address, len, value);
	hit = find_window(bus, address, &window);
	if (hit)
		memcpy(data, window.data, window.len);
	pthread_mutex_unlock(&bus->lock);
	if (hit)
		access_bar(window.dev, window.offset, data, window.len, true);
}

static uint32_t port_read(void *context, uint16_t port, unsigned int len)
{
	struct pci_bus *bus = context;
	uint32_t value;

	if (port >= PORT_DATA)
		return data_read(bus, port, len);
	pthread_mutex_lock(&bus->lock);
	value = bus->address >> ((port & 3) * 8);
	pthread_mutex_unlock(&bus->lock);
	return value;
}

static void port_write(void *context, uint16_t port, unsigned int len, uint32_t value)
{
	struct pci_bus *bus = context;

	if (port >= PORT_DATA)
		data_write(bus, port, len, value);
	else if (port == POWER_RESET_PORT && len == 1)
		power_reset_write(bus->vm, (uint8_t)value);
	else if (port == PORT_ADDRESS && len == 4) {
		pthread_mutex_lock(&bus->lock);
		bus->address = value;
		pthread_mutex_unlock(&bus->lock);
	}
}

/* --- building ---------------------------------------------------------------------------- */

static void fill_header(struct pci_device *dev, const struct pci_ids *ids)
{
	put16(dev->config + REG_VENDOR, ids->vendor);
	put16(dev->config + REG_VENDOR + 2, ids->device);
	put32(dev->config + REG_CLASS, ids->class_revision);
	put16(dev->config + REG_SUBSYSTEM, ids->subsystem_vendor);
	put16(dev->config + REG_SUBSYSTEM + 2, ids->subsystem);
	put16(dev->writable + REG_COMMAND, COMMAND_WRITABLE);
	dev->writable[REG_CACHE_LINE] = 0xff;
	dev->writable[REG_INT_LINE] = 0xff;
}

static void fill_bar(struct pci_device *dev)
{
	uint32_t gpa = (uint32_t)PCI_MMIO_START + dev->slot * PCI_BAR_BYTES;

	put32(dev->config + REG_BAR0, gpa | BAR_MEMORY_64);
	put32(dev->writable + REG_BAR0, ~(PCI_BAR_BYTES - 1));
	put32(dev->writable + REG_BAR1, UINT32_MAX);
	put16(dev->config + REG_COMMAND, COMMAND_MEMORY);
}

int pci_add_capability(struct pci_device *dev, uint8_t id, const void *body, uint8_t len)
{
	unsigned int at = dev->next_capability ? dev->next_capability : REG_CAPS;
	uint8_t *link = &dev->config[REG_CAP_PTR];

	if (at + 2u + len > PCI_CONFIG_BYTES)
		return -ENOSPC;
	while (*link)
		link = &dev->config[*link + 1];
	*link = (uint8_t)at;
	dev->config[at] = id;
	memcpy(&dev->config[at + 2], body, len);
	dev->config[REG_STATUS] |= STATUS_CAPABILITIES;
	/* Capabilities are aligned to 4; a full space leaves no room for a body. */
	dev->next_capability = (uint8_t)MIN((at + 2 + len + 3) & ~3u, PCI_CONFIG_BYTES - 1u);
	memcpy(dev->power_on, dev->config, sizeof(dev->power_on));
	return (int)at;
}

void pci_set_window(struct pci_device *dev, uint8_t capability)
{
	assert(capability % 4 == 0);
	dev->window_capability = capability;
	dev->writable[capability + WINDOW_BAR] = 0xff;
	put32(dev->writable + capability + WINDOW_OFFSET, UINT32_MAX);
	put32(dev->writable + capability + WINDOW_LENGTH, UINT32_MAX);
	put32(dev->writable + capability + WINDOW_DATA, UINT32_MAX);
}

int pci_add_device(struct vm *vm, struct pci_device *dev, const struct pci_ids *ids,
		   uint16_t nr_vectors)
{
	struct pci_bus *bus = vm->pci;
	unsigned int slot = 1;
	int err;

	if (nr_vectors == 0 || nr_vectors > PCI_MSIX_MAX)
		return -EINVAL;
	while (slot <= PCI_MAX_DEVICES && bus->slot[slot])
		slot++;
	if (slot > PCI_MAX_DEVICES)
		return -ENOSPC;
	dev->vm = vm;
	dev->slot = (uint8_t)slot;
	dev->nr_vectors = nr_vectors;
	fill_header(dev, ids);
	fill_bar(dev);
	err = msix_init(dev);
	if (err)
		return err;
	memcpy(dev->power_on, dev->config, sizeof(dev->power_on));
	bus->slot[slot] = dev;
	pthread_mutex_lock(&bus->lock);
	follow_bar(dev);
	pthread_mutex_unlock(&bus->lock);
	return 0;
}

void pci_device_reset(struct pci_device *dev)
{
	struct pci_bus *bus = dev->vm->pci;

	pthread_mutex_lock(&bus->lock);
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
	msix_reset(dev);
	follow_bar(dev);
	pthread_mutex_unlock(&bus->lock);
}

void pci_device_state(struct pci_device *dev, struct state *s)
{
	struct pci_bus *bus = dev->vm->pci;
	uint8_t config[PCI_CONFIG_BYTES];

	pthread_mutex_lock(&bus->lock);
	memcpy(config, dev->config, sizeof(config));
	state_bytes(s, config, sizeof(config));
	for (unsigned int i = 0; i < sizeof(config); i++)
		state_check(s, !((config[i] ^ dev->config[i]) & ~dev->writable[i]));
	msix_state(dev, s);
	if (s->loading && state_ok(s)) {
		memcpy(dev->config, config, sizeof(config));
		follow_bar(dev);
		msix_update(dev);
	}
	pthread_mutex_unlock(&bus->lock);
}

/* --- the bus as a device ----------------------------------------------------------------- */

static void bus_state(struct vm_device *dev, struct state *s)
{
	struct pci_bus *bus = (struct pci_bus *)dev;

	pthread_mutex_lock(&bus->lock);
	state_u32(s, &bus->address);
	state_bytes(s, &bus->bridge.config[REG_COMMAND], 1);
	pthread_mutex_unlock(&bus->lock);
}

static void bus_reset(struct vm_device *dev)
{
	struct pci_bus *bus = (struct pci_bus *)dev;

	pthread_mutex_lock(&bus->lock);
	bus->address = 0;
	memcpy(bus->bridge.config, bus->bridge.power_on, sizeof(bus->bridge.config));
	pthread_mutex_unlock(&bus->lock);
}

static const struct vm_device_ops bus_ops = { .state = bus_state, .reset = bus_reset };

int pci_bus_open(struct vm *vm)
{
	/* Intel's number for a host bridge of virtual machines: drivers leave it alone. */
	static const struct pci_ids ids = { .vendor = 0x8086,
					    .device = 0x0d57,
					    .class_revision = 0x06000000 };
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	struct io_range range = {
		.base = PORT_ADDRESS,
		.count = 8,
		.width = 4,
		.read = port_read,
		.write = port_write,
		.context = bus,
	};
	int err;

	if (!bus)
		return -ENOMEM;
	err = vm->io ? io_add(vm->io, &range) : 0;
	if (err) {
		free(bus);
		return err;
	}
	bus->vm = vm;
	bus->dev = (struct vm_device){ .ops = &bus_ops, .type = STATE_PCI };
	bus->bridge.vm = vm;
	pthread_mutex_init(&bus->lock, NULL);
	fill_header(&bus->bridge, &ids);
	memcpy(bus->bridge.power_on, bus->bridge.config, sizeof(bus->bridge.power_on));
	bus->slot[0] = &bus->bridge;
	vm->pci = bus;
	vm_add_device(vm, &bus->dev);
	return 0;
}

void pci_bus_close(struct pci_bus *bus)
{
	free(bus);
}
