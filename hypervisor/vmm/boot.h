/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting a Linux kernel into memory and starting it, and starting it again.
 *
 * Source: Documentation/arch/x86/boot.rst (the 32-bit boot protocol, which every bzImage
 * of the last twenty years has) and zero-page.rst. Layout of the first MiB:
 *
 *	0x00500  global descriptors	0x07000  zero page
 *	0x20000  command line		0xe0000  ACPI tables, reserved in the memory map
 *
 * The kernel goes to 1 MiB, the ramdisk as high below its limit as there is memory.
 *
 * The files stay open, for the process cannot open them any more when the guest reboots.
 * They belong to the host's administrator and are checked nevertheless (P4).
 */
#ifndef POLLUX_VMM_BOOT_H
#define POLLUX_VMM_BOOT_H

#include "base/err.h"

struct boot;
struct vm;

#define BOOT_ACPI_GPA	0xe0000u
#define BOOT_ACPI_BYTES 0x20000u

/* Opens kernel and ramdisk. A standby does with what it finds: without a kernel, the VM
 * stops when it reboots on this host. */
int boot_open(struct vm *vm, struct reason *why);
void boot_close(struct boot *boot);
/* Loads everything through guest_write() and points processor 0 at the kernel. */
int boot_load(struct vm *vm, struct reason *why);
/* Everything back to power-on, then boot_load(). The VM is halted. -ENOENT: no kernel. */
int boot_reset(struct vm *vm);

#endif
