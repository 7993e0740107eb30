/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/io.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/err.h"

#define MAX_RANGES 24u

struct io_bus {
	unsigned int nr;
	struct io_range range[MAX_RANGES];
};

int io_bus_open(struct io_bus **ret)
{
	struct io_bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	*ret = bus;
	return 0;
}

void io_bus_close(struct io_bus *bus)
{
	free(bus);
}

int io_add(struct io_bus *bus, const struct io_range *range)
{
	unsigned int end = (unsigned int)range->base + range->count;

	if (bus->nr == MAX_RANGES)
		return -ENOSPC;
	for (unsigned int i = 0; i < bus->nr; i++) {
		const struct io_range *other = &bus->range[i];

		if (range->base < (unsigned int)other->base + other->count && other->base < end)
			return -EEXIST;
	}
	bus->range[bus->nr++] = *range;
	return 0;
}

static const struct io_range *find(const struct io_bus *bus, uint16_t port)
{
	for (unsigned int i = 0; i < bus->nr; i++)
		if (port >= bus->range[i].base && port - bus->range[i].base < bus->range[i].count)
			return &bus->range[i];
	return NULL;
}

/* How much of an access of `len` bytes at `port` goes to `range` in one piece. */
static unsigned int piece_of(const struct io_range *range, uint16_t port, unsigned int len)
{
	unsigned int room, piece;

	if (!range)
		return 1;
	room = (unsigned int)range->base + range->count - port;
	piece = MIN(MIN(len, room), range->width);
	return piece == 3 ? 2 : piece;
}

static uint32_t ones(unsigned int len)
{
	return len == 4 ? UINT32_MAX : (UINT32_C(1) << (len * 8)) - 1;
}

uint32_t io_read(const struct io_bus *bus, uint16_t port, unsigned int len)
{
	uint32_t value = 0;
	unsigned int done = 0;

	while (done < len) {
		const struct io_range *range = find(bus, port);
		unsigned int piece = piece_of(range, port, len - done);
		uint32_t part = range ? range->read(range->context, port, piece) : UINT32_MAX;

		value |= (part & ones(piece)) << (done * 8);
		done += piece;
		port = (uint16_t)(port + piece);
	}
	return value;
}

void io_write(const struct io_bus *bus, uint16_t port, unsigned int len, uint32_t value)
{
	unsigned int done = 0;

	while (done < len) {
		const struct io_range *range = find(bus, port);
		unsigned int piece = piece_of(range, port, len - done);

		if (range)
			range->write(range->context, port, piece,
				     (value >> (done * 8)) & ones(piece));
		done += piece;
		port = (uint16_t)(port + piece);
	}
}
