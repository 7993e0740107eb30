/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X (PCI Local Bus 3.0, 6.8.2): the table and the pending bits of a device, at
 * PCI_BAR_MSIX_OFFSET of its BAR. A part of pci.c: its callers are there.
 *
 * A vector is delivered when neither it nor the whole function is masked; otherwise it
 * is pending, and delivered as soon as the last mask goes.
 *
 * Delivered by KVM_SIGNAL_MSI, not by an irqfd: the table is read at each interrupt, so no
 * routing has to follow a guest that rewrites it; the interrupt is in the LAPIC on return, so
 * it is in the next checkpoint, where an irqfd may leave it to a kernel worker (vm.h); and it
 * costs no more: one system call each, 1.1 to 1.4 us against 1.4 to 1.7 us where it was
 * measured. An irqfd pays only where something else than this process raises it.
 */
#ifndef POLLUX_VMM_MSIX_H
#define POLLUX_VMM_MSIX_H

#include <stdbool.h>
#include <stdint.h>

struct pci_device;
struct state;

/* Adds the capability, all of dev->nr_vectors masked. */
int msix_init(struct pci_device *dev);
void msix_reset(struct pci_device *dev);
/* `offset` counts from the table; the access stays below PCI_BAR_BYTES. */
void msix_access(struct pci_device *dev, uint32_t offset, uint8_t *data, unsigned int len,
		 bool write);
/* The capability's control word may have changed: delivers what is no longer masked. */
void msix_update(struct pci_device *dev);
void msix_state(struct pci_device *dev, struct state *s);

#endif
