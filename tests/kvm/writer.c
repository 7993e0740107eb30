/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that writes to its disks: the first two virtio disks, polled. It writes 4 KiB with its
 * count into one of eight regions of 64 KiB, and those wander over the disk as it counts; now and
 * then it flushes, discards and zeroes. With each 64th count it prints it on the first serial port,
 * as eight hexadecimal digits and a newline. A request that fails it prints as "!". Memory from
 * 2 MiB on is used as it is laid out below.
 */
#include "tests/kvm/bare.h"

#define DISKS_MAX  2
#define MEMORY	   0x200000u /* 64 KiB for each disk */
#define QUEUE_SIZE 4
#define REGION	   65536u
#define VIRTIO_BLK 0x10421af4u
#define F_ACCEPTED ((1u << 9) | (1u << 13) | (1u << 14)) /* flush, discard, write zeroes */

enum { OUT = 1, FLUSH = 4, DISCARD = 11, ZEROES = 13 };

struct layout {
	struct desc desc[16];
	uint16_t avail_flags, avail_idx, avail[14];
	uint8_t pad[4096 - 16 * 16 - 32];
	uint16_t used_flags, used_idx;
	uint8_t used[4092];
	uint32_t type, zero, sector, sector_high;
	uint32_t range_sector, range_high, range_count, range_flags;
	uint8_t status;
	uint8_t pad2[4096 - 33];
	uint32_t data[1024];
};
struct disk {
	volatile uint8_t *bar;
	volatile struct layout *m;
	uint32_t regions;
};

static void print_number(uint32_t n)
{
	for (int i = 28; i >= 0; i -= 4) {
		uint32_t digit = n >> i & 15;

		print_char((char)(digit < 10 ? '0' + digit : 'a' + digit - 10));
	}
	print_char('\n');
}

/* virtio 1.2, 3.1 and 4.1.4.3; the queue's parts lie in one page each. */
static void bring_up(struct disk *d, uint32_t slot, uint32_t index)
{
	uint32_t base = MEMORY + index * 0x10000;

	pci_write(slot, 4, 6); /* its BAR is where pollux-vmm has put it */
	d->bar = (volatile uint8_t *)(pci_read(slot, 0x10) & ~15u);
	d->m = (volatile struct layout *)base;
	REG8(d, 0x14) = 0;
	REG8(d, 0x14) = 3;
	REG32(d, 8) = 0;
	REG32(d, 12) = F_ACCEPTED;
	REG32(d, 8) = 1;
	REG32(d, 12) = 1;
	REG8(d, 0x14) = 11;
	REG16(d, 0x16) = 0;
	REG16(d, 0x18) = QUEUE_SIZE;
	REG16(d, 0x1a) = 0xffff;
	REG32(d, 0x20) = base;
	REG32(d, 0x24) = 0;
	REG32(d, 0x28) = base + 16 * 16;
	REG32(d, 0x2c) = 0;
	REG32(d, 0x30) = base + 4096;
	REG32(d, 0x34) = 0;
	REG16(d, 0x1c) = 1;
	REG8(d, 0x14) = 15;
	d->regions = REG32(d, 0x2000) / (REGION / 512);
}

static void request(struct disk *d, uint32_t type, uint32_t sector)
{
	volatile struct layout *m = d->m;
	uint16_t next = (uint16_t)(m->avail_idx + 1);

	m->type = type;
	m->zero = 0;
	m->sector = type == OUT ? sector : 0;
	m->sector_high = 0;
	m->status = 255;
	describe(&m->desc[0], &m->type, 16, 1, type == FLUSH ? 2 : 1);
	if (type == OUT) {
		describe(&m->desc[1], m->data, 4096, 1, 2);
	} else {
		m->range_sector = sector;
		m->range_high = 0;
		m->range_count = REGION / 512;
		m->range_flags = 0;
		describe(&m->desc[1], &m->range_sector, 16, 1, 2);
	}
	describe(&m->desc[2], &m->status, 1, 2, 0);
	m->avail[(uint16_t)(next - 1) % QUEUE_SIZE] = 0;
	__asm__ volatile("" ::: "memory");
	m->avail_idx = next;
	REG16(d, 0x3000) = 0;
	while (m->used_idx != next)
		__asm__ volatile("pause" ::: "memory");
	if (m->status)
		print_char('!');
}

__attribute__((used)) static void run(void)
{
	struct disk disk[DISKS_MAX];
	uint32_t nr = 0, seed = 1;

	for (uint32_t slot = 0; slot < 32 && nr < DISKS_MAX; slot++) {
		if (pci_read(slot, 0) != VIRTIO_BLK)
			continue;
		bring_up(&disk[nr], slot, nr);
		nr++;
	}
	for (uint32_t count = 1;; count++) {
		struct disk *d = &disk[count % nr];
		uint32_t region, type = OUT;

		seed = seed * 1103515245u + 12345u;
		region = ((count >> 7) + (seed >> 16 & 7)) % d->regions;
		d->m->data[0] = count;
		d->m->data[1023] = ~count;
		if (count % 64 == 63)
			type = FLUSH;
		else if (count % 256 == 16)
			type = DISCARD;
		else if (count % 256 == 144)
			type = ZEROES;
		request(d, type,
			region * (REGION / 512) + (type == OUT ? (seed >> 20 & 15) * 8 : 0));
		if (count % 64 == 0)
			print_number(count);
	}
}
