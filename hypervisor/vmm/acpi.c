/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/acpi.h"

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/vmm/boot.h"
#include "hypervisor/vmm/dsdt.h" /* dsdt_aml_code[], compiled from dsdt.asl */
#include "hypervisor/vmm/power.h"
#include "hypervisor/vmm/vm.h"

#define HEADER_BYTES   36u
#define TABLE_MAX      4096u
#define CHECKSUM_AT    9u
#define LENGTH_AT      4u
#define RSDP_BYTES     36u
#define IOAPIC_ADDRESS 0xfec00000u
#define LAPIC_ADDRESS  0xfee00000u

#define FADT_WBINVD	  (1u << 0)
#define FADT_PROC_C1	  (1u << 2)
#define FADT_NO_SLEEP_BTN (1u << 5)
#define FADT_NO_RTC_WAKE  (1u << 6)
#define FADT_TIMER_32	  (1u << 8)
#define FADT_RESET	  (1u << 10)
#define BOOT_NO_VGA	  (1u << 2)
#define BOOT_NO_ASPM	  (1u << 4)

#define GAS_IO	  1u
#define GAS_BYTE  1u
#define GAS_WORD  2u
#define GAS_DWORD 3u

/* Tables are laid one after the other from here on. */
struct layout {
	struct vm *vm;
	uint64_t next;
	int err;
};

static uint8_t checksum(const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + data[i]);
	return (uint8_t)-sum;
}

/* Writes a finished table, aligned for a FACS; returns its address. */
static uint64_t place(struct layout *at, const uint8_t *table, size_t len)
{
	uint64_t gpa = (at->next + 63) & ~UINT64_C(63);

	at->next = gpa + len;
	if (!at->err && at->next > BOOT_ACPI_GPA + BOOT_ACPI_BYTES)
		at->err = -ENOSPC;
	if (!at->err)
		at->err = guest_write(&at->vm->memory, gpa, table, len);
	return gpa;
}

static void begin(struct cursor *c, uint8_t *table, const char *signature, uint8_t revision)
{
	*c = cursor_over(table, TABLE_MAX);
	cursor_put_bytes(c, signature, 4);
	cursor_put_u32(c, 0); /* length and checksum: finish() */
	cursor_put_u8(c, revision);
	cursor_put_u8(c, 0);
	cursor_put_bytes(c, "POLLUX", 6);
	cursor_put_bytes(c, "POLLUXVM", 8);
	cursor_put_u32(c, 1);
	cursor_put_bytes(c, "PLLX", 4);
	cursor_put_u32(c, 1);
}

static uint64_t finish(struct layout *at, struct cursor *c, uint8_t *table)
{
	size_t len = (size_t)(c->pos - table);
	struct cursor length = cursor_over(table + LENGTH_AT, 4);

	assert(cursor_ok(c));
	cursor_put_u32(&length, (uint32_t)len);
	table[CHECKSUM_AT] = checksum(table, len);
	return place(at, table, len);
}

static void put_zeros(struct cursor *c, size_t n)
{
	while (n-- > 0)
		cursor_put_u8(c, 0);
}

/* A generic address: a register in I/O space. */
static void put_gas(struct cursor *c, uint16_t port, uint8_t size)
{
	cursor_put_u8(c, port ? GAS_IO : 0);
	cursor_put_u8(c, port ? (uint8_t)(8u << (size - 1)) : 0);
	cursor_put_u8(c, 0);
	cursor_put_u8(c, port ? size : 0);
	cursor_put_u64(c, port);
}

static uint64_t put_facs(struct layout *at)
{
	uint8_t facs[64] = "FACS";
	struct cursor c = cursor_over(facs + 4, 4);

	cursor_put_u32(&c, sizeof(facs));
	facs[32] = 2;
	return place(at, facs, sizeof(facs));
}

/* 5.2.9. SMI_CMD is 0: the machine is always in ACPI mode. */
static uint64_t put_fadt(struct layout *at, uint64_t facs, uint64_t dsdt)
{
	uint8_t table[TABLE_MAX];
	struct cursor c;

	begin(&c, table, "FACP", 6);
	cursor_put_u32(&c, (uint32_t)facs);
	cursor_put_u32(&c, (uint32_t)dsdt);
	cursor_put_u8(&c, 0);
	cursor_put_u8(&c, 4); /* profile: enterprise server */
	cursor_put_u16(&c, POWER_SCI);
	put_zeros(&c, 8); /* SMI_CMD and its values */
	cursor_put_u32(&c, POWER_EVENT_PORT);
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, POWER_CONTROL_PORT);
	put_zeros(&c, 8); /* PM1b control, PM2 control */
	cursor_put_u32(&c, POWER_TIMER_PORT);
	put_zeros(&c, 8);     /* GPE blocks */
	cursor_put_u8(&c, 4); /* lengths: event, control, PM2, timer, GPE0, GPE1 */
	cursor_put_u8(&c, 2);
	cursor_put_u8(&c, 0);
	cursor_put_u8(&c, 4);
	put_zeros(&c, 4);
	cursor_put_u16(&c, 101); /* C2 and C3 are not there */
	cursor_put_u16(&c, 1001);
	put_zeros(&c, 8);	 /* flush, duty, alarm registers */
	cursor_put_u8(&c, 0x32); /* CMOS register of the century */
	cursor_put_u16(&c, BOOT_NO_VGA | BOOT_NO_ASPM);
	cursor_put_u8(&c, 0);
	cursor_put_u32(&c, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BTN | FADT_NO_RTC_WAKE |
				   FADT_TIMER_32 | FADT_RESET);
	put_gas(&c, POWER_RESET_PORT, GAS_BYTE);
	cursor_put_u8(&c, POWER_RESET_VALUE);
	put_zeros(&c, 2);
	cursor_put_u8(&c, 4);  /* minor version: 6.4 */
	cursor_put_u64(&c, 0); /* X_FIRMWARE_CTRL: the 32-bit field is set, this must not be */
	cursor_put_u64(&c, dsdt);
	put_gas(&c, POWER_EVENT_PORT, GAS_DWORD);
	put_gas(&c, 0, 0);
	put_gas(&c, POWER_CONTROL_PORT, GAS_WORD);
	put_gas(&c, 0, 0);
	put_gas(&c, 0, 0);
	put_gas(&c, POWER_TIMER_PORT, GAS_DWORD);
	for (int i = 0; i < 4; i++) /* GPE blocks, sleep control and status */
		put_gas(&c, 0, 0);
	put_zeros(&c, 8); /* hypervisor vendor */
	return finish(at, &c, table);
}

static void put_override(struct cursor *c, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	cursor_put_u8(c, 2);
	cursor_put_u8(c, 10);
	cursor_put_u8(c, 0);
	cursor_put_u8(c, irq);
	cursor_put_u32(c, gsi);
	cursor_put_u16(c, flags);
}

/* 5.2.12. The PIT is on pin 2, as on every PC; the SCI is level, active high. */
static uint64_t put_madt(struct layout *at)
{
	uint8_t table[TABLE_MAX];
	struct cursor c;

	begin(&c, table, "APIC", 5);
	cursor_put_u32(&c, LAPIC_ADDRESS);
	cursor_put_u32(&c, 1); /* there are two 8259s as well */
	for (unsigned int i = 0; i < at->vm->config.nr_vcpus; i++) {
		cursor_put_u8(&c, 0);
		cursor_put_u8(&c, 8);
		cursor_put_u8(&c, (uint8_t)i);
		cursor_put_u8(&c, (uint8_t)i);
		cursor_put_u32(&c, 1);
	}
	cursor_put_u8(&c, 1); /* IOAPIC */
	cursor_put_u8(&c, 12);
	cursor_put_u8(&c, 0);
	cursor_put_u8(&c, 0);
	cursor_put_u32(&c, IOAPIC_ADDRESS);
	cursor_put_u32(&c, 0);
	put_override(&c, 0, 2, 0);
	put_override(&c, POWER_SCI, POWER_SCI, 0xd);
	cursor_put_u8(&c, 4); /* LINT1 is NMI, on every processor */
	cursor_put_u8(&c, 6);
	cursor_put_u8(&c, 0xff);
	cursor_put_u16(&c, 0);
	cursor_put_u8(&c, 1);
	return finish(at, &c, table);
}

/* 5.2.5.3; it goes to BOOT_ACPI_GPA, where the zero page points and a kernel also scans. */
static int put_rsdp(struct layout *at, uint64_t xsdt)
{
	uint8_t rsdp[RSDP_BYTES] = { 0 };
	struct cursor c = cursor_over(rsdp, sizeof(rsdp));

	cursor_put_bytes(&c, "RSD PTR ", 8);
	cursor_put_u8(&c, 0);
	cursor_put_bytes(&c, "POLLUX", 6);
	cursor_put_u8(&c, 2);
	cursor_put_u32(&c, 0); /* no RSDT */
	cursor_put_u32(&c, RSDP_BYTES);
	cursor_put_u64(&c, xsdt);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	return guest_write(&at->vm->memory, BOOT_ACPI_GPA, rsdp, sizeof(rsdp));
}

int acpi_load_tables(struct vm *vm)
{
	struct layout at = { .vm = vm, .next = BOOT_ACPI_GPA + RSDP_BYTES };
	uint8_t table[TABLE_MAX];
	struct cursor c;
	uint64_t facs, dsdt, fadt, madt, xsdt;

	facs = put_facs(&at);
	dsdt = place(&at, dsdt_aml_code, sizeof(dsdt_aml_code));
	fadt = put_fadt(&at, facs, dsdt);
	madt = put_madt(&at);
	begin(&c, table, "XSDT", 1);
	cursor_put_u64(&c, fadt);
	cursor_put_u64(&c, madt);
	xsdt = finish(&at, &c, table);
	return at.err ? at.err : put_rsdp(&at, xsdt);
}
