/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/state.h"

void state_u8(struct state *s, uint8_t *v)
{
	if (s->loading)
		*v = cursor_get_u8(&s->at);
	else
		cursor_put_u8(&s->at, *v);
}

void state_u16(struct state *s, uint16_t *v)
{
	if (s->loading)
		*v = cursor_get_u16(&s->at);
	else
		cursor_put_u16(&s->at, *v);
}

void state_u32(struct state *s, uint32_t *v)
{
	if (s->loading)
		*v = cursor_get_u32(&s->at);
	else
		cursor_put_u32(&s->at, *v);
}

void state_u64(struct state *s, uint64_t *v)
{
	if (s->loading)
		*v = cursor_get_u64(&s->at);
	else
		cursor_put_u64(&s->at, *v);
}

void state_bool(struct state *s, bool *v)
{
	uint8_t byte = *v;

	state_u8(s, &byte);
	state_check(s, byte <= 1);
	*v = byte == 1;
}

void state_bytes(struct state *s, void *v, size_t len)
{
	if (s->loading)
		cursor_get_bytes(&s->at, v, len);
	else
		cursor_put_bytes(&s->at, v, len);
}

/* A bad count becomes 0, so that the loop that follows has nothing to do. */
void state_count(struct state *s, uint32_t *v, uint32_t max)
{
	state_u32(s, v);
	state_check(s, *v <= max);
	if (s->loading && !state_ok(s))
		*v = 0;
}
