/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI: the tables that tell a kernel what the machine is made of.
 *
 * RSDP, XSDT, FADT, FACS, MADT and the DSDT (dsdt.asl), at BOOT_ACPI_GPA. Source: ACPI
 * 6.4, chapter 5.2. The registers that the FADT names are power.h.
 */
#ifndef POLLUX_VMM_ACPI_H
#define POLLUX_VMM_ACPI_H

struct vm;

int acpi_load_tables(struct vm *vm);

#endif
