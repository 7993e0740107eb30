/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O ports: who answers at which. Ranges are added while the VM is built and never
 * change, so vCPU threads look them up without a lock; each device locks for itself.
 */
#ifndef POLLUX_VMM_IO_H
#define POLLUX_VMM_IO_H

#include <stdint.h>

struct io_bus;

struct io_range {
	uint16_t base, count;
	/* The widest access that the device takes (1, 2 or 4); a wider one is split. */
	uint8_t width;
	uint32_t (*read)(void *context, uint16_t port, unsigned int len);
	void (*write)(void *context, uint16_t port, unsigned int len, uint32_t value);
	void *context;
};

int io_bus_open(struct io_bus **ret);
void io_bus_close(struct io_bus *bus);
/* -ENOSPC: too many ranges, -EEXIST: it overlaps one. */
int io_add(struct io_bus *bus, const struct io_range *range);
/* Accesses of 1, 2 or 4 bytes; where nobody answers, reads are all ones. */
uint32_t io_read(const struct io_bus *bus, uint16_t port, unsigned int len);
void io_write(const struct io_bus *bus, uint16_t port, unsigned int len, uint32_t value);

#endif
