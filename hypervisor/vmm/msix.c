/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/msix.h"

#include "base/err.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define CAP_MSIX 0x11u

#define CONTROL_HIGH	0x03u /* offset in the capability of the control word's high byte */
#define CONTROL_ENABLE	0x80u
#define CONTROL_MASKALL 0x40u

#define ENTRY_BYTES  16u
#define ENTRY_MASKED 1u
#define PBA_OFFSET   0x800u /* from the table */

/* The capability of the host bridge is absent: offset 0. */
static uint8_t control(const struct pci_device *dev)
{
	return dev->msix_capability ? dev->config[dev->msix_capability + CONTROL_HIGH] : 0;
}

static bool deliverable(const struct pci_device *dev, unsigned int v)
{
	return (control(dev) & (CONTROL_ENABLE | CONTROL_MASKALL)) == CONTROL_ENABLE &&
	       !(dev->vector[v].control & ENTRY_MASKED);
}

/* MSI-X lock held. */
static void deliver_pending(struct pci_device *dev)
{
	for (unsigned int v = 0; v < dev->nr_vectors; v++) {
		if (!(dev->pending >> v & 1) || !deliverable(dev, v))
			continue;
		dev->pending &= ~(UINT64_C(1) << v);
		vm_signal_msi(dev->vm, dev->vector[v].address, dev->vector[v].data);
	}
}

static void mask_all(struct pci_device *dev)
{
	memset(dev->vector, 0, sizeof(dev->vector));
	for (unsigned int v = 0; v < dev->nr_vectors; v++)
		dev->vector[v].control = ENTRY_MASKED;
	dev->pending = 0;
}

int msix_init(struct pci_device *dev)
{
	uint8_t body[10] = { 0 };
	int at;

	body[0] = (uint8_t)(dev->nr_vectors - 1);
	/* Table and PBA: offsets in BAR 0, the low three bits being the BAR's number. */
	body[3] = (uint8_t)(PCI_BAR_MSIX_OFFSET >> 8);
	body[7] = (uint8_t)((PCI_BAR_MSIX_OFFSET + PBA_OFFSET) >> 8);
	at = pci_add_capability(dev, CAP_MSIX, body, sizeof(body));
	if (at < 0)
		return at;
	pthread_mutex_init(&dev->msix_lock, NULL);
	dev->msix_capability = (uint8_t)at;
	dev->writable[at + CONTROL_HIGH] = CONTROL_ENABLE | CONTROL_MASKALL;
	mask_all(dev);
	return 0;
}

void msix_reset(struct pci_device *dev)
{
	pthread_mutex_lock(&dev->msix_lock);
	mask_all(dev);
	pthread_mutex_unlock(&dev->msix_lock);
}

void pci_msix_raise(struct pci_device *dev, uint16_t v)
{
	if (v >= dev->nr_vectors)
		return;
	pthread_mutex_lock(&dev->msix_lock);
	if (deliverable(dev, v))
		vm_signal_msi(dev->vm, dev->vector[v].address, dev->vector[v].data);
	else
		dev->pending |= UINT64_C(1) << v;
	pthread_mutex_unlock(&dev->msix_lock);
}

void msix_update(struct pci_device *dev)
{
	if (!dev->msix_capability)
		return;
	pthread_mutex_lock(&dev->msix_lock);
	deliver_pending(dev);
	pthread_mutex_unlock(&dev->msix_lock);
}

/* One aligned 32-bit word of the table or the PBA; reserved space reads 0. */
static uint32_t read_word(const struct pci_device *dev, uint32_t offset)
{
	const struct pci_msix_entry *entry;

	if (offset == PBA_OFFSET)
		return (uint32_t)dev->pending;
	if (offset / ENTRY_BYTES >= dev->nr_vectors)
		return 0;
	entry = &dev->vector[offset / ENTRY_BYTES];
	switch (offset % ENTRY_BYTES / 4) {
	case 0:
		return (uint32_t)entry->address;
	case 1:
		return (uint32_t)(entry->address >> 32);
	case 2:
		return entry->data;
	}
	return entry->control;
}

static void write_word(struct pci_device *dev, uint32_t offset, uint32_t value)
{
	struct pci_msix_entry *entry;

	if (offset / ENTRY_BYTES >= dev->nr_vectors)
		return;
	entry = &dev->vector[offset / ENTRY_BYTES];
	switch (offset % ENTRY_BYTES / 4) {
	case 0:
		entry->address = (entry->address & ~UINT64_C(0xffffffff)) | (value & ~3u);
		break;
	case 1:
		entry->address = (entry->address & 0xffffffff) | (uint64_t)value << 32;
		break;
	case 2:
		entry->data = value;
		break;
	case 3:
		entry->control = value & ENTRY_MASKED;
		break;
	}
}

/* The specification knows aligned accesses of 4 and 8 bytes; others read 0 and do nothing. */
void msix_access(struct pci_device *dev, uint32_t offset, uint8_t *data, unsigned int len,
		 bool write)
{
	if (len < 4 || offset % len) {
		if (!write)
			memset(data, 0, len);
		return;
	}
	pthread_mutex_lock(&dev->msix_lock);
	for (unsigned int done = 0; done < len; done += 4) {
		uint32_t word;

		if (write) {
			memcpy(&word, data + done, 4);
			write_word(dev, offset + done, word);
		} else {
			word = read_word(dev, offset + done);
			memcpy(data + done, &word, 4);
		}
	}
	deliver_pending(dev);
	pthread_mutex_unlock(&dev->msix_lock);
}

void msix_state(struct pci_device *dev, struct state *s)
{
	uint32_t n = dev->nr_vectors;

	pthread_mutex_lock(&dev->msix_lock);
	state_count(s, &n, PCI_MSIX_MAX);
	state_check(s, n == dev->nr_vectors);
	for (uint32_t v = 0; state_ok(s) && v < dev->nr_vectors; v++) {
		state_u64(s, &dev->vector[v].address);
		state_u32(s, &dev->vector[v].data);
		state_u32(s, &dev->vector[v].control);
	}
	state_u64(s, &dev->pending);
	if (s->loading)
		dev->pending &= (UINT64_C(1) << dev->nr_vectors) - 1;
	pthread_mutex_unlock(&dev->msix_lock);
}
