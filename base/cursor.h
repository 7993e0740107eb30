/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded little-endian get and put: the only way bytes become numbers and back,
 * in every format of Pollux (wire, disk log, saved state, control messages).
 *
 * A cursor that runs past its end turns bad and stays bad: gets return 0, puts
 * do nothing. So a parser reads a whole structure and checks cursor_ok() once,
 * before it believes any of it. Nothing is allocated; the memory is the caller's.
 */
#ifndef POLLUX_CURSOR_H
#define POLLUX_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	uint8_t *pos;
	uint8_t *end;
	bool bad;
};

/* `data` is only written through cursors used for putting. */
static inline struct cursor cursor_over(const void *data, size_t len)
{
	uint8_t *start = (uint8_t *)(uintptr_t)data;

	return (struct cursor){ .pos = start, .end = start + len };
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->bad;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->pos);
}

/* True when everything was read and nothing was missing. */
static inline bool cursor_done(const struct cursor *c)
{
	return !c->bad && c->pos == c->end;
}

uint8_t cursor_get_u8(struct cursor *c);
uint16_t cursor_get_u16(struct cursor *c);
uint32_t cursor_get_u32(struct cursor *c);
uint64_t cursor_get_u64(struct cursor *c);
/* A view of the next `len` bytes, or NULL when there are fewer. */
const void *cursor_get_view(struct cursor *c, size_t len);
void cursor_get_bytes(struct cursor *c, void *ret, size_t len);

void cursor_put_u8(struct cursor *c, uint8_t v);
void cursor_put_u16(struct cursor *c, uint16_t v);
void cursor_put_u32(struct cursor *c, uint32_t v);
void cursor_put_u64(struct cursor *c, uint64_t v);
void cursor_put_bytes(struct cursor *c, const void *src, size_t len);
/* Room of `len` bytes to fill in place, or NULL. */
void *cursor_put_room(struct cursor *c, size_t len);

#endif
