/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one host bridge, bus 0, up to 31 devices, configuration by ports 0xcf8/0xcfc
 * (PCI Local Bus 3.0, 3.2.2.3.2), one memory BAR and MSI-X (6.8.2) a device. No INTx:
 * every driver of ours uses MSI-X.
 *
 * BAR addresses are given before boot, in the hole below 4 GiB, as firmware would; a
 * guest may move or disable them. pci.c owns configuration space, the BAR's decoding,
 * and the MSI-X table and PBA (which lie in the device's BAR, at PCI_BAR_MSIX_OFFSET; msix.c);
 * the device sees only accesses to the rest of its BAR.
 *
 * Threads: vCPUs and devices' threads meet here. The bus lock guards configuration space and
 * decoding and is held while bar_moved() runs, never while bar_read() or bar_write() do; the
 * MSI-X lock guards vectors. Order: bus lock, device's own lock, MSI-X lock.
 */
#ifndef POLLUX_VMM_PCI_H
#define POLLUX_VMM_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct pci_device;
struct state;
struct vm;

#define PCI_CONFIG_BYTES    256u
#define PCI_MSIX_MAX	    8u
#define PCI_BAR_BYTES	    0x8000u /* every device's one BAR, BAR 0 (64-bit memory) */
#define PCI_BAR_MSIX_OFFSET 0x7000u /* table; the PBA follows at 0x7800 */

struct pci_device_ops {
	/* Accesses to BAR 0 below PCI_BAR_MSIX_OFFSET, on a vCPU thread. `len` is 1, 2, 4 or 8;
	 * `offset + len` stays within the BAR. */
	uint64_t (*bar_read)(struct pci_device *dev, uint32_t offset, unsigned int len);
	void (*bar_write)(struct pci_device *dev, uint32_t offset, unsigned int len, uint64_t v);
	/* The BAR has moved to `gpa` (0: not decoded): ioeventfds must follow. May be NULL. */
	void (*bar_moved)(struct pci_device *dev, uint64_t gpa);
};

struct pci_device {
	const struct pci_device_ops *ops;
	struct vm *vm;
	uint8_t slot;
	uint8_t config[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* mask of bits the guest may write */
	uint8_t next_capability;	    /* offset of the next free capability byte */
	uint8_t msix_capability;	    /* its offset, 0: none */
	uint8_t window_capability;	    /* likewise */
	uint16_t nr_vectors;
	struct pci_msix_entry {
		uint64_t address;
		uint32_t data;
		uint32_t control; /* bit 0: masked */
	} vector[PCI_MSIX_MAX];
	uint64_t pending; /* MSI-X lock. Bit a vector: raised while masked */
	uint64_t bar_gpa; /* bus lock. Where BAR 0 decodes now, 0: nowhere */
	pthread_mutex_t msix_lock;
	uint8_t power_on[PCI_CONFIG_BYTES]; /* configuration space for a reset */
};

struct pci_ids {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_revision; /* class << 8 | revision */
};

/* Fills in configuration space with one 64-bit memory BAR and an MSI-X capability of
 * nr_vectors, and puts the device into the lowest free slot. */
int pci_add_device(struct vm *vm, struct pci_device *dev, const struct pci_ids *ids,
		   uint16_t nr_vectors);
/* Appends a capability; returns its offset in configuration space or -ENOSPC. */
int pci_add_capability(struct pci_device *dev, uint8_t id, const void *body, uint8_t len);
/* Makes a capability laid out as struct virtio_pci_cfg_cap (virtio 1.2, 4.1.4.9) a window: an
 * access to its last four bytes is one to BAR 0, at the offset and of the length that the
 * guest has written into it. So a driver that cannot map the BAR reaches it. */
void pci_set_window(struct pci_device *dev, uint8_t capability);
/* Raises MSI-X vector `v`, or makes it pending when masked; on return it is in the LAPIC or in
 * the PBA (vm.h says why that matters). Any thread, inside the gate or on a vCPU thread. A
 * vector that does not exist is ignored. */
void pci_msix_raise(struct pci_device *dev, uint16_t v);
/* Configuration space, BAR and MSI-X in a device's state record. After loading, decoding is
 * as it was. The layout (capabilities, number of vectors) is not loaded but compared. */
void pci_device_state(struct pci_device *dev, struct state *s);
/* As at power-on, its BAR where firmware would have put it. */
void pci_device_reset(struct pci_device *dev);

/* --- for the VM --- */

struct pci_bus;
struct io_bus;

#define PCI_MAX_DEVICES 31u		     /* slots 1 to 31; the host bridge is slot 0 */
#define PCI_MMIO_START	UINT64_C(0xe0000000) /* the window that dsdt.asl names */
#define PCI_MMIO_END	UINT64_C(0xfec00000) /* excluded: the IOAPIC */

/* The bus with its host bridge; needs no KVM. It saves itself as STATE_PCI. */
int pci_bus_open(struct vm *vm);
void pci_bus_close(struct pci_bus *bus);
/* An access of a vCPU to an address where no memory is. False: no BAR decodes it. */
bool pci_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len, bool write);

#endif
