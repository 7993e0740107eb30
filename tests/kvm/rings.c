/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that breaks the rules of virtqueues, all of them in turn, for ever: to each queue of
 * each virtio device on its bus it gives a good ring and then every bad one there is below. A
 * device has to serve the first, and after each of the others to need a reset (virtio 1.2,
 * 2.1.2) and to have completed nothing. On the first serial port it prints a line a queue, such
 * as "1.0 oxxx": the device's id, the queue, and a letter a ring: 'o' served, 'x' needs a reset,
 * '!' needs one and has completed something, '.' neither, for as long as it was waited for, and
 * then the next queue follows.
 *
 * It takes its memory to be 64 MiB; what it uses of it is laid out below.
 */
#include "tests/kvm/bare.h"

#define MEMORY	    0x200000u
#define MEMORY_END  0x4000000u
#define NOWHERE	    0xfff00000u /* neither memory nor a BAR */
#define QUEUE_SIZE  4
#define WAIT_CYCLES (UINT64_C(1) << 34) /* some seconds */

#define F_MRG_RXBUF (1u << 15)
#define F_INDIRECT  (1u << 28)
#define F_EVENT_IDX (1u << 29)

#define NEXT	 1
#define WRITE	 2
#define INDIRECT 4

#define RUNNING	    0x0f
#define NEEDS_RESET 0x40

enum ring {
	GOOD,
	LOOP,
	LOOP_OF_NOTHING, /* its descriptors have no length */
	TOO_LONG,	 /* more descriptors than the queue has, in a table of its own */
	OUTSIDE,
	ACROSS, /* the end of memory */
	OVERFLOW,
	NO_SUCH_HEAD,
	NO_SUCH_NEXT,
	OUT_AFTER_IN,
	INDIRECT_TWICE,
	INDIRECT_AND_NEXT,
	INDIRECT_EMPTY,
	INDIRECT_ODD,
	INDIRECT_OUTSIDE,
	TOO_MANY, /* more requests than the queue has */
	DESC_OUTSIDE,
	AVAIL_OUTSIDE,
	USED_OUTSIDE,
	EMPTY, /* and where the device asks for a notification is outside, too */
	RINGS
};

struct layout {
	struct desc desc[QUEUE_SIZE];
	struct desc table[QUEUE_SIZE * 2];
	uint16_t avail_flags, avail_idx, avail[QUEUE_SIZE + 1];
	uint16_t pad;
	uint32_t pad2;
	uint16_t used_flags, used_idx;
	uint32_t used[2 * QUEUE_SIZE + 1];
	uint8_t out[64], in[513];
};
struct device {
	volatile uint8_t *bar;
	uint16_t id, queue;
};

#define M ((volatile struct layout *)MEMORY)

/* All devices take it: a disk is to read a sector, and to a NIC it is a frame, or holds one. */
static void good(void)
{
	for (uint32_t i = 0; i < sizeof(struct layout); i++)
		((volatile uint8_t *)M)[i] = 0;
	describe(&M->desc[0], M->out, sizeof(M->out), NEXT, 1);
	describe(&M->desc[1], M->in, sizeof(M->in), WRITE, 0);
	M->avail_idx = 1;
}

static void bad_chain(enum ring ring)
{
	volatile struct desc *d = M->desc;

	if (ring == LOOP)
		describe(d, M->out, 16, NEXT, 0);
	else if (ring == LOOP_OF_NOTHING)
		describe(d, M->out, 0, NEXT, 0);
	else if (ring == OUTSIDE)
		d[0].high = 0x80000000u;
	else if (ring == ACROSS)
		describe(d, (volatile void *)(MEMORY_END - 8), 16, NEXT, 1);
	else if (ring == OVERFLOW)
		describe(d, M->out, 0xffffffffu, NEXT, 1);
	else if (ring == NO_SUCH_HEAD)
		M->avail[0] = QUEUE_SIZE;
	else if (ring == NO_SUCH_NEXT)
		d[0].next = 0xffff;
	else if (ring == OUT_AFTER_IN)
		describe(d, M->in, sizeof(M->in), WRITE | NEXT, 1), d[1].flags = 0;
	else if (ring == TOO_MANY)
		M->avail_idx = QUEUE_SIZE + 1;
	else if (ring == EMPTY)
		M->avail_idx = 0;
}

/* Each but for one thing is as it should be. */
static void bad_table(enum ring ring)
{
	volatile struct desc *d = M->desc;
	uint16_t flags = ring == INDIRECT_AND_NEXT ? INDIRECT | NEXT : INDIRECT;

	describe(d, M->table, 2 * sizeof(*d), flags, 1);
	describe(&M->table[0], M->out, sizeof(M->out), NEXT, 1);
	describe(&M->table[1], M->in, sizeof(M->in), WRITE, 0);
	if (ring == INDIRECT_TWICE) {
		d[0].len = sizeof(*d);
		describe(&M->table[0], &M->table[2], 2 * sizeof(*d), INDIRECT, 0);
		describe(&M->table[2], M->out, sizeof(M->out), NEXT, 1);
		describe(&M->table[3], M->in, sizeof(M->in), WRITE, 0);
	} else if (ring == INDIRECT_EMPTY) {
		d[0].len = 0;
	} else if (ring == INDIRECT_ODD) {
		d[0].len = 2 * sizeof(*d) + 1;
	} else if (ring == INDIRECT_OUTSIDE) {
		d[0].low = MEMORY_END;
	} else if (ring == TOO_LONG) {
		d[0].len = sizeof(M->table);
		for (uint16_t i = 0; i < 2 * QUEUE_SIZE; i++)
			describe(&M->table[i], M->out, 8, i < 2 * QUEUE_SIZE - 1 ? NEXT : 0,
				 (uint16_t)(i + 1));
	}
}

static void fill(enum ring ring)
{
	good();
	if (ring == TOO_LONG || (ring >= INDIRECT_TWICE && ring <= INDIRECT_OUTSIDE))
		bad_table(ring);
	else
		bad_chain(ring);
}

static void place(const struct device *d, uint32_t reg, volatile const void *at, uint32_t outside)
{
	REG32(d, reg) = outside ? NOWHERE : (uint32_t)at;
	REG32(d, reg + 4) = 0;
}

/* virtio 1.2, 3.1 and 4.1.4.3, with one queue alone, and a notification of it. */
static void give(const struct device *d, enum ring ring)
{
	REG8(d, 0x14) = 0;
	fill(ring);
	REG8(d, 0x14) = 3;
	REG32(d, 0) = 0;
	REG32(d, 8) = 0;
	REG32(d, 12) = REG32(d, 4) & (F_MRG_RXBUF | F_INDIRECT | F_EVENT_IDX);
	REG32(d, 8) = 1;
	REG32(d, 12) = 1;
	REG8(d, 0x14) = 11;
	REG16(d, 0x16) = d->queue;
	REG16(d, 0x18) = QUEUE_SIZE;
	REG16(d, 0x1a) = 0xffff;
	place(d, 0x20, M->desc, ring == DESC_OUTSIDE);
	place(d, 0x28, &M->avail_flags, ring == AVAIL_OUTSIDE);
	place(d, 0x30, &M->used_flags, ring == USED_OUTSIDE || ring == EMPTY);
	REG16(d, 0x1c) = 1;
	REG8(d, 0x14) = RUNNING;
	REG16(d, 0x3000 + 4u * d->queue) = d->queue;
}

static uint64_t cycles(void)
{
	uint64_t v;

	__asm__ volatile("rdtsc" : "=A"(v));
	return v;
}

/* What came of it, as a letter. */
static char result(const struct device *d)
{
	uint64_t start = cycles();

	do {
		uint8_t status = REG8(d, 0x14);

		if (status & NEEDS_RESET)
			return M->used_idx ? '!' : 'x';
		if (M->used_idx)
			return 'o';
	} while (cycles() - start < WAIT_CYCLES);
	return '.';
}

static void break_queue(const struct device *d)
{
	char c = 0;

	print_char((char)('0' + d->id));
	print_char('.');
	print_char((char)('0' + d->queue));
	print_char(' ');
	for (enum ring ring = GOOD; ring < RINGS && c != '.'; ring++) {
		give(d, ring);
		c = result(d);
		print_char(c);
	}
	print_char('\n');
}

/* Queue 0 of a console receives, and there is never anything: its device does not look at it. */
static int is_used(const struct device *d)
{
	return d->id != 3 || d->queue;
}

__attribute__((used)) static void run(void)
{
	for (uint32_t slot = 0;; slot = (slot + 1) % 32) {
		uint32_t id = pci_read(slot, 0);
		struct device d;

		if (id >> 20 != 0x104 || (id & 0xffff) != 0x1af4)
			continue;
		pci_write(slot, 4, 6); /* its BAR is where pollux-vmm has put it */
		d.bar = (volatile uint8_t *)(pci_read(slot, 0x10) & ~15u);
		d.id = id >> 16 & 15;
		for (d.queue = 0; d.queue < REG16(&d, 0x12); d.queue++)
			if (is_used(&d))
				break_queue(&d);
			else
				give(&d, LOOP);
	}
}
