/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saved state: one function per component both saves and loads it, so that the two
 * cannot drift.
 *
 * A component's function visits its fields in order: state_u32(s, &dev->x) writes x
 * when saving and reads it when loading. Loading checks: state_check(s, cond) makes
 * the state bad unless cond holds; the caller of the whole load refuses it if any
 * component ended bad or did not use its record to the last byte. Loading must be able
 * to meet arbitrary bytes (P4).
 *
 * The stream is Xen's HVM save format (public/hvm/save.h): records of {u16 typecode,
 * u16 instance, u32 length}, a HEADER first, an END last. Our components have private
 * typecodes, from STATE_TYPE_FIRST on.
 */
#ifndef POLLUX_VMM_STATE_H
#define POLLUX_VMM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

enum state_type {
	STATE_TYPE_FIRST = 0x5000,
	STATE_VCPU = STATE_TYPE_FIRST,
	STATE_CHIPS, /* irqchip, PIT, clock */
	STATE_ACPI,
	STATE_SERIAL,
	STATE_RTC,
	STATE_PCI, /* host bridge and configuration address */
	STATE_VIRTIO_NET,
	STATE_VIRTIO_BLK,
	STATE_VIRTIO_CONSOLE,
	STATE_VIRTIO_RNG,
};

struct state {
	struct cursor at;
	bool loading;
};

static inline bool state_ok(const struct state *s)
{
	return cursor_ok(&s->at);
}

static inline void state_check(struct state *s, bool condition)
{
	if (s->loading && !condition)
		s->at.bad = true;
}

void state_u8(struct state *s, uint8_t *v);
void state_u16(struct state *s, uint16_t *v);
void state_u32(struct state *s, uint32_t *v);
void state_u64(struct state *s, uint64_t *v);
void state_bool(struct state *s, bool *v);
void state_bytes(struct state *s, void *v, size_t len);
/* A count that must not exceed `max`: the bound of the loop that follows. */
void state_count(struct state *s, uint32_t *v, uint32_t max);

#endif
