/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cursor.h"

#include <endian.h>
#include <string.h>

/* The one bounds check behind every get and put. */
static void *advance(struct cursor *c, size_t len)
{
	uint8_t *at = c->pos;

	if (c->bad || len > (size_t)(c->end - c->pos)) {
		c->bad = true;
		return NULL;
	}
	c->pos += len;
	return at;
}

const void *cursor_get_view(struct cursor *c, size_t len)
{
	return advance(c, len);
}

void *cursor_put_room(struct cursor *c, size_t len)
{
	return advance(c, len);
}

void cursor_get_bytes(struct cursor *c, void *ret, size_t len)
{
	const void *at = advance(c, len);

	if (at)
		memcpy(ret, at, len);
}

void cursor_put_bytes(struct cursor *c, const void *src, size_t len)
{
	void *at = advance(c, len);

	if (at && len)
		memcpy(at, src, len);
}

uint8_t cursor_get_u8(struct cursor *c)
{
	uint8_t v = 0;

	cursor_get_bytes(c, &v, sizeof(v));
	return v;
}

uint16_t cursor_get_u16(struct cursor *c)
{
	uint16_t v = 0;

	cursor_get_bytes(c, &v, sizeof(v));
	return le16toh(v);
}

uint32_t cursor_get_u32(struct cursor *c)
{
	uint32_t v = 0;

	cursor_get_bytes(c, &v, sizeof(v));
	return le32toh(v);
}

uint64_t cursor_get_u64(struct cursor *c)
{
	uint64_t v = 0;

	cursor_get_bytes(c, &v, sizeof(v));
	return le64toh(v);
}

void cursor_put_u8(struct cursor *c, uint8_t v)
{
	cursor_put_bytes(c, &v, sizeof(v));
}

void cursor_put_u16(struct cursor *c, uint16_t v)
{
	v = htole16(v);
	cursor_put_bytes(c, &v, sizeof(v));
}

void cursor_put_u32(struct cursor *c, uint32_t v)
{
	v = htole32(v);
	cursor_put_bytes(c, &v, sizeof(v));
}

void cursor_put_u64(struct cursor *c, uint64_t v)
{
	v = htole64(v);
	cursor_put_bytes(c, &v, sizeof(v));
}
