/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one host bridge, bus 0, up to 31 devices, configuration by ports 0xcf8/0xcfc
 * (PCI Local Bus 3.0, 3.2.2.3.2), one memory BAR and MSI-X (6.8.2) a device. No INTx:
 * every driver of ours uses MSI-X.
 *
 * BAR addresses are given before boot, in the hole below 4 GiB, as firmware would; a
 * guest may move or disable them. pci.c owns configuration space, the BAR's decoding,
 * and the MSI-X table and PBA (which lie in the device's BAR, at msix_offset); the
 * device sees only accesses to the rest of its BAR.
 */
#ifndef POLLUX_VMM_PCI_H
#define POLLUX_VMM_PCI_H

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
	uint16_t nr_vectors;
	struct pci_msix_entry {
		uint64_t address;
		uint32_t data;
		uint32_t control; /* bit 0: masked */
		int irqfd;
		int gsi;
	} vector[PCI_MSIX_MAX];
	uint64_t pending; /* bit a vector: raised while masked; atomic */
	uint64_t bar_gpa; /* where BAR 0 decodes now, 0: nowhere */
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
/* Raises MSI-X vector `v`: by its irqfd, or as pending when masked. Any thread, inside the gate
 * or on a vCPU thread. A vector that does not exist is ignored. */
void pci_msix_raise(struct pci_device *dev, uint16_t v);
/* Configuration space, BAR and MSI-X in a device's state record. After loading, routes
 * and decoding are as they were. */
void pci_device_state(struct pci_device *dev, struct state *s);
void pci_device_reset(struct pci_device *dev);

#endif
