/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM: everything that makes it up, and what a device may ask of it.
 *
 * One process, one VM. vm_open() builds it while the process still has its
 * privileges: opens /dev/kvm, reserves memory, creates the processors and every
 * device (which open their disks and taps then). vm_start() is called once the
 * process is confined: it starts the devices and the vCPU threads.
 *
 * Threads: one per vCPU, those of the devices, one per control connection, one for
 * the console socket, and the main thread, which executes what a vCPU or a client
 * asked for (reset, stop). Stopping the VM, see run.h.
 *
 * Interrupts are given to KVM by system calls that return after the interrupt is in
 * the chip's own state (KVM_SIGNAL_MSI, KVM_IRQ_LINE), never by an irqfd, which may
 * leave it to a kernel thread: an interrupt raised before a checkpoint is therefore
 * in the checkpoint. Notifications from the guest by ioeventfd need no such care as
 * long as a device, when started, looks at every one of its queues: what the eventfd
 * held is not saved.
 */
#ifndef POLLUX_VMM_VM_H
#define POLLUX_VMM_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hypervisor/vmm/config.h"
#include "hypervisor/vmm/device.h"
#include "hypervisor/vmm/export.h"
#include "hypervisor/vmm/gate.h"
#include "hypervisor/vmm/memory.h"

struct boot;
struct chip_state;
struct console;
struct context;
struct dirty;
struct disk_mirror;
struct disk_track;
struct io_bus;
struct net_hold;
struct pci_bus;
struct power;
struct rtc;
struct run;
struct serial;
struct vcpu;

#define VM_RUN_DIR_MAX 80u /* so that /console fits into sun_path */

struct vm_options {
	unsigned int domid;
	const char *run_dir; /* exists; serial.log, control and console are made in it */
	bool standby;	     /* no kernel is loaded; it waits, paused, for a state */
	int memory_fd;	     /* a standby's, inherited: see guest_memory_open(); or -1 */
	const char *regions; /* NULL, or the region file by which writes are tracked at once */
};

/* All fields are set by vm_open() and fixed from then on, unless they name a lock. */
struct vm {
	struct vm_config config;
	unsigned int domid;
	char run_dir[VM_RUN_DIR_MAX];
	bool standby;
	bool built; /* vm_open() came to its end */

	int kvm_fd; /* /dev/kvm */
	int fd;	    /* the KVM VM */
	struct guest_memory memory;
	struct export_area export;
	struct gate gate;
	struct vm_device *devices;  /* in the order of vm_add_device() */
	struct vm_device *to_start; /* first one that was not started yet (the control lock) */

	struct vcpu *vcpu; /* config.nr_vcpus of them */
	struct io_bus *io;
	struct pci_bus *pci;
	struct power *power;
	struct rtc *rtc;
	struct serial *serial;
	struct chip_state *chips;
	struct dirty *dirty;
	struct boot *boot;
	struct run *run;
	struct context *context;
	struct console *console;

	struct net_hold *net_hold;
	struct disk_mirror *disk_mirror;
	struct disk_track *disk_track;
};

/* Takes config over, also when it fails. */
int vm_open(const struct vm_options *options, struct vm_config *config, struct vm **ret,
	    struct reason *why);
/* Starts devices and vCPU threads. A standby's vCPUs wait, and its devices are started by
 * whoever lets it run for the first time. */
int vm_start(struct vm *vm, struct reason *why);
/* Starts the devices that are not started; after a failure it may be called again. */
int vm_start_devices(struct vm *vm);
/* Stops and joins all threads of the VM and frees it. NULL is fine. */
void vm_close(struct vm *vm);

/* --- for devices ------------------------------------------------------------------------- */

/* Puts a device into the list, at the end; it is saved, started and reset in this order. */
void vm_add_device(struct vm *vm, struct vm_device *dev);
/*
 * Has KVM raise eventfd `fd` at each guest write of `len` (2 or 4; 0: any) bytes to `gpa`,
 * or stop doing so. -EEXIST: another device's BAR lies there; the writes then arrive at
 * bar_write() of one of them, so a device must understand its notifications there too.
 */
int vm_ioeventfd(struct vm *vm, uint64_t gpa, unsigned int len, int fd, bool assign);
/* Delivers a message-signalled interrupt; it has reached the LAPIC on return. */
void vm_signal_msi(struct vm *vm, uint64_t address, uint32_t data);
/* Sets an interrupt line of the PIC and IOAPIC. */
void vm_irq_line(struct vm *vm, unsigned int gsi, bool level);

/*
 * What each kind of virtio device offers, declared in its own header and called by
 * vm_open() for config.disk[index], config.nic[index], and for console and rng once:
 *
 *	int virtio_blk_create(struct vm *vm, unsigned int index, struct reason *why);
 *	int virtio_net_create(struct vm *vm, unsigned int index, struct reason *why);
 *	int virtio_console_create(struct vm *vm, unsigned int index, struct reason *why);
 *	int virtio_rng_create(struct vm *vm, unsigned int index, struct reason *why);
 *
 * It allocates the device, opens what it needs of the host, calls pci_add_device() and
 * vm_add_device(). No thread is started before device.start.
 */

#endif
