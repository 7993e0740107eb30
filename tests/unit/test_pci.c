/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/pci.h: configuration space, the BAR and MSI-X as a guest finds them, and
 * accesses of any size at any place. Without KVM: an interrupt that is delivered goes
 * nowhere, and is seen by no longer being pending.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "base/err.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vm.h"

#define ADDRESS 0xcf8
#define DATA	0xcfc
#define TABLE	PCI_BAR_MSIX_OFFSET
#define PBA	(PCI_BAR_MSIX_OFFSET + 0x800u)

struct fixture {
	struct vm vm;
	struct pci_device dev;
	uint64_t moved_to, written;
	uint32_t offset;
	unsigned int len, accesses;
};

static struct fixture *of(struct pci_device *dev)
{
	return (struct fixture *)((char *)dev - offsetof(struct fixture, dev));
}

static void note(struct pci_device *dev, uint32_t offset, unsigned int len)
{
	assert_true(len == 1 || len == 2 || len == 4 || len == 8);
	assert_true(offset + len <= PCI_BAR_MSIX_OFFSET);
	of(dev)->offset = offset;
	of(dev)->len = len;
	of(dev)->accesses++;
}

static uint64_t bar_read(struct pci_device *dev, uint32_t offset, unsigned int len)
{
	note(dev, offset, len);
	return UINT64_C(0x1122334455667788);
}

static void bar_write(struct pci_device *dev, uint32_t offset, unsigned int len, uint64_t v)
{
	note(dev, offset, len);
	of(dev)->written = v;
}

static void bar_moved(struct pci_device *dev, uint64_t gpa)
{
	of(dev)->moved_to = gpa;
}

static const struct pci_device_ops ops = { bar_read, bar_write, bar_moved };

static int open_bus(void **state)
{
	static const struct pci_ids ids = { 0x1af4, 0x1042, 0x1af4, 0x1100, 0x01000001 };
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	f->vm.fd = -1;
	f->dev.ops = &ops;
	if (io_bus_open(&f->vm.io) || pci_bus_open(&f->vm))
		return -1;
	return pci_add_device(&f->vm, &f->dev, &ids, 3);
}

static int close_bus(void **state)
{
	struct fixture *f = *state;

	pci_bus_close(f->vm.pci);
	io_bus_close(f->vm.io);
	free(f);
	return 0;
}

static uint32_t cfg_read(struct fixture *f, unsigned int slot, unsigned int reg, unsigned int len)
{
	io_write(f->vm.io, ADDRESS, 4, 0x80000000 | slot << 11 | (reg & 0xfc));
	return io_read(f->vm.io, (uint16_t)(DATA + (reg & 3)), len);
}

static void cfg_write(struct fixture *f, unsigned int reg, unsigned int len, uint32_t v)
{
	io_write(f->vm.io, ADDRESS, 4, 0x80000000 | 1u << 11 | (reg & 0xfc));
	io_write(f->vm.io, (uint16_t)(DATA + (reg & 3)), len, v);
}

#define CAP 0x4c /* after MSI-X */

static void point_window(struct fixture *f, uint32_t offset, uint32_t len)
{
	cfg_write(f, CAP + 8, 4, offset);
	cfg_write(f, CAP + 12, 4, len);
}

static uint64_t mmio(struct fixture *f, uint64_t offset, unsigned int len)
{
	uint64_t v = 0;

	assert_true(pci_mmio(&f->vm, f->dev.bar_gpa + offset, &v, len, false));
	return v;
}

static void mmio_write(struct fixture *f, uint64_t offset, unsigned int len, uint64_t v)
{
	assert_true(pci_mmio(&f->vm, f->dev.bar_gpa + offset, &v, len, true));
}

static void test_config(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(cfg_read(f, 0, 8, 4) >> 16, 0x0600);
	assert_int_equal(cfg_read(f, 1, 0, 4), 0x10421af4);
	assert_int_equal(cfg_read(f, 1, 2, 2), 0x1042);
	assert_int_equal(cfg_read(f, 1, 3, 1), 0x10);
	assert_int_equal(cfg_read(f, 2, 0, 4), UINT32_MAX);
	/* Not enabled, another bus, another function. */
	io_write(f->vm.io, ADDRESS, 4, 1u << 11);
	assert_int_equal(io_read(f->vm.io, DATA, 4), UINT32_MAX);
	io_write(f->vm.io, ADDRESS, 4, 0x80000000 | 1u << 16);
	assert_int_equal(io_read(f->vm.io, DATA, 4), UINT32_MAX);
	io_write(f->vm.io, ADDRESS, 4, 0x80000000 | 1u << 11 | 1u << 8);
	assert_int_equal(io_read(f->vm.io, DATA, 4), UINT32_MAX);
	/* What identifies the device cannot be written. */
	cfg_write(f, 0, 4, 0);
	assert_int_equal(cfg_read(f, 1, 0, 4), 0x10421af4);
}

static void test_bar(void **state)
{
	struct fixture *f = *state;
	uint64_t first = f->dev.bar_gpa, v;

	assert_true(first >= PCI_MMIO_START && first % PCI_BAR_BYTES == 0);
	assert_int_equal(f->moved_to, first);
	/* Sizing, as every guest does it: with decoding off. */
	cfg_write(f, 4, 2, 0);
	assert_int_equal(f->moved_to, 0);
	cfg_write(f, 0x10, 4, UINT32_MAX);
	cfg_write(f, 0x14, 4, UINT32_MAX);
	assert_int_equal(cfg_read(f, 1, 0x10, 4), (uint32_t) ~(PCI_BAR_BYTES - 1) | 4);
	assert_int_equal(cfg_read(f, 1, 0x14, 4), UINT32_MAX);
	/* Decoding on, the all-ones address decodes but never wraps. */
	cfg_write(f, 4, 2, 6);
	assert_false(pci_mmio(&f->vm, 0, &v, 8, false));
	cfg_write(f, 0x14, 4, 0x12);
	cfg_write(f, 0x10, 4, 0x40000);
	assert_int_equal(f->moved_to, UINT64_C(0x1200040000));
	assert_false(pci_mmio(&f->vm, first, &v, 4, false));
	assert_int_equal(mmio(f, 0x100, 4), 0x55667788);
	pci_device_reset(&f->dev);
	assert_int_equal(f->moved_to, first);
}

/* P4: every size at every offset around each border, and nothing reaches the device that it
 * was not promised. */
static void test_accesses(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8] = { 0 };

	for (uint64_t at = 0; at <= PCI_BAR_BYTES; at += at < 16 || at % 0x400 > 0x3f0 ? 1 : 0x3f1)
		for (unsigned int len = 0; len <= 8; len++)
			for (int write = 0; write < 2; write++)
				pci_mmio(&f->vm, f->dev.bar_gpa + at, data, len, write);
	assert_true(f->accesses > 0);
	assert_false(pci_mmio(&f->vm, f->dev.bar_gpa + TABLE - 2, data, 4, false));
	assert_false(pci_mmio(&f->vm, f->dev.bar_gpa + PCI_BAR_BYTES - 2, data, 4, false));
	for (unsigned int reg = 0; reg < 256; reg++)
		for (unsigned int len = 1; len <= 4; len <<= 1)
			cfg_write(f, reg, len, UINT32_MAX);
	assert_int_equal(cfg_read(f, 1, 0, 4), 0x10421af4);
}

static unsigned int msix_at(struct fixture *f)
{
	unsigned int at = cfg_read(f, 1, 0x34, 1);

	while (at && cfg_read(f, 1, at, 1) != 0x11)
		at = cfg_read(f, 1, at + 1, 1);
	assert_true(at);
	return at;
}

static void test_msix(void **state)
{
	struct fixture *f = *state;
	unsigned int at = msix_at(f);

	assert_int_equal(cfg_read(f, 1, at + 2, 2), 2); /* three vectors, off */
	mmio_write(f, TABLE + 16, 8, 0xfee00000);
	mmio_write(f, TABLE + 24, 4, 0x41);
	assert_int_equal(mmio(f, TABLE + 16, 4), 0xfee00000);
	assert_int_equal(mmio(f, TABLE + 24, 8), UINT64_C(0x100000041));
	/* Off: it waits. On but masked: it waits. Unmasked: it goes. */
	pci_msix_raise(&f->dev, 1);
	pci_msix_raise(&f->dev, 9);
	cfg_write(f, at + 2, 2, 0x8000);
	assert_int_equal(mmio(f, PBA, 8), 2);
	mmio_write(f, TABLE + 28, 4, 0);
	assert_int_equal(mmio(f, PBA, 8), 0);
	cfg_write(f, at + 2, 2, 0xc000);
	pci_msix_raise(&f->dev, 1);
	assert_int_equal(mmio(f, PBA, 4), 2);
	cfg_write(f, at + 2, 2, 0x8000);
	assert_int_equal(mmio(f, PBA, 4), 0);
	/* Beyond the table there is nothing. */
	mmio_write(f, TABLE + 3 * 16, 4, UINT32_MAX);
	assert_int_equal(mmio(f, TABLE + 3 * 16, 4), 0);
}

static size_t save(struct fixture *f, uint8_t *data, size_t max)
{
	struct state s = { .at = cursor_over(data, max) };

	pci_device_state(&f->dev, &s);
	assert_true(state_ok(&s));
	return (size_t)(s.at.pos - data);
}

static bool load(struct fixture *f, const uint8_t *data, size_t len)
{
	struct state s = { .at = cursor_over(data, len), .loading = true };

	pci_device_state(&f->dev, &s);
	return cursor_done(&s.at);
}

static void test_state(void **state)
{
	struct fixture *f = *state;
	uint8_t data[1024];
	size_t len;

	cfg_write(f, 0x10, 4, 0xe1000000);
	mmio_write(f, TABLE, 8, 0xfee01000);
	pci_msix_raise(&f->dev, 0);
	len = save(f, data, sizeof(data));
	pci_device_reset(&f->dev);
	assert_true(load(f, data, len));
	assert_int_equal(f->moved_to, 0xe1000000);
	assert_int_equal(mmio(f, TABLE, 8), 0xfee01000);
	assert_int_equal(mmio(f, PBA, 8), 1);
	for (size_t cut = 0; cut < len; cut++)
		assert_false(load(f, data, cut));
	data[0] ^= 1; /* another device's state */
	assert_false(load(f, data, len));
}

/* virtio 1.2, 4.1.4.9: the BAR through configuration space, memory decoding on or off. */
static void test_window(void **state)
{
	static const uint8_t body[18] = { 20, 5 };
	struct fixture *f = *state;
	unsigned int accesses;

	assert_int_equal(pci_add_capability(&f->dev, 0x09, body, sizeof(body)), CAP);
	pci_set_window(&f->dev, CAP);
	cfg_write(f, 4, 2, 0);
	point_window(f, 0x104, 4);
	assert_int_equal(cfg_read(f, 1, CAP + 16, 4), 0x55667788);
	assert_int_equal(f->offset, 0x104);
	assert_int_equal(f->len, 4);
	point_window(f, 0x2006, 2);
	cfg_write(f, CAP + 16, 2, 0xabcd);
	assert_int_equal(f->written, 0xabcd);
	assert_int_equal(f->offset, 0x2006);
	assert_int_equal(f->len, 2);
	/* The MSI-X table is in the BAR as well. */
	point_window(f, TABLE + 8, 4);
	cfg_write(f, CAP + 16, 4, 0x4321);
	point_window(f, 0, 1);
	point_window(f, TABLE + 8, 4);
	assert_int_equal(cfg_read(f, 1, CAP + 16, 4), 0x4321);
	/* P4: what points nowhere does nothing: wrong length, alignment, place, BAR. */
	accesses = f->accesses;
	point_window(f, 0x104, 3);
	cfg_write(f, CAP + 16, 4, 1);
	point_window(f, 0x104, 0x80000004);
	cfg_write(f, CAP + 16, 4, 1);
	point_window(f, 0x102, 4);
	cfg_write(f, CAP + 16, 4, 1);
	point_window(f, PCI_BAR_BYTES, 4);
	cfg_write(f, CAP + 16, 4, 1);
	point_window(f, 0xfffffffc, 4);
	cfg_read(f, 1, CAP + 16, 4);
	point_window(f, 0x104, 4);
	cfg_write(f, CAP + 4, 1, 1);
	cfg_write(f, CAP + 16, 4, 1);
	assert_int_equal(f->accesses, accesses);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, open_bus, close_bus),
		cmocka_unit_test_setup_teardown(test_bar, open_bus, close_bus),
		cmocka_unit_test_setup_teardown(test_accesses, open_bus, close_bus),
		cmocka_unit_test_setup_teardown(test_window, open_bus, close_bus),
		cmocka_unit_test_setup_teardown(test_msix, open_bus, close_bus),
		cmocka_unit_test_setup_teardown(test_state, open_bus, close_bus),
	};

	return test_main(tests);
}
