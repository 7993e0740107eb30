/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guests in C without a kernel share: the shape of a bzImage, for machines whose /dev/kvm is
 * too slow for a kernel, ports, and PCI configuration. Such a guest defines run(), which never
 * returns. Freestanding, 32 bits, no paging; the stack ends at 0x1f0000. One source file a guest.
 */
#ifndef POLLUX_TESTS_BARE_H
#define POLLUX_TESTS_BARE_H

#include <stdint.h>

__asm__(".section .head, \"a\"\n"
	"	.org 0x1f1\n	.byte 1\n" /* setup sectors, after the first */
	"	.org 0x1fe\n	.word 0xaa55\n"
	"	.byte 0xeb, 0x66\n"
	"	.ascii \"HdrS\"\n"
	"	.word 0x020f\n"
	"	.org 0x211\n	.byte 1\n" /* loaded high */
	"	.org 0x214\n	.long 0x100000\n"
	"	.org 0x22c\n	.long 0x7fffffff\n"
	"	.org 0x238\n	.long 255\n"
	"	.org 0x258\n	.quad 0x100000\n	.long 65536\n"
	"	.org 0x400\n"
	".text\n"
	".globl _start\n"
	"_start:\n"
	"	movl $0x1f0000, %esp\n"
	"	call run\n");

/* A descriptor of a virtqueue (virtio 1.2, 2.7.5). */
struct desc {
	uint32_t low, high, len;
	uint16_t flags, next;
};

static inline void out32(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "d"(port));
}
static inline uint32_t in32(uint16_t port)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
	return v;
}
static void print_char(char c)
{
	__asm__ volatile("outb %0, %1" : : "a"(c), "d"((uint16_t)0x3f8));
}

static inline void pci_write(uint32_t slot, uint32_t reg, uint32_t v)
{
	out32(0xcf8, 0x80000000u | slot << 11 | reg);
	out32(0xcfc, v);
}
static inline uint32_t pci_read(uint32_t slot, uint32_t reg)
{
	out32(0xcf8, 0x80000000u | slot << 11 | reg);
	return in32(0xcfc);
}

/* Registers behind the BAR of `d`, whose first BAR is at `d->bar`. */
#define REG8(d, at)  (*(volatile uint8_t *)((d)->bar + (at)))
#define REG16(d, at) (*(volatile uint16_t *)(volatile void *)((d)->bar + (at)))
#define REG32(d, at) (*(volatile uint32_t *)(volatile void *)((d)->bar + (at)))

static inline void describe(volatile struct desc *d, volatile const void *at, uint32_t len,
			    uint16_t flags, uint16_t next)
{
	d->low = (uint32_t)at;
	d->high = 0;
	d->len = len;
	d->flags = flags;
	d->next = next;
}

#endif
