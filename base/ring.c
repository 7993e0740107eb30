/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ring.h"

#include "base/err.h"

static void attach(struct ring *ret, void *mapping, uint64_t size)
{
	assert(size && !(size & (size - 1)));
	ret->shared = mapping;
	ret->data = (uint8_t *)mapping + RING_HEADER_BYTES;
	ret->size = size;
}

void ring_attach_producer(struct ring *ret, void *mapping, uint64_t size)
{
	attach(ret, mapping, size);
	ret->pos = __atomic_load_n(&ret->shared->head, __ATOMIC_ACQUIRE);
}

void ring_attach_consumer(struct ring *ret, void *mapping, uint64_t size)
{
	attach(ret, mapping, size);
	ret->pos = __atomic_load_n(&ret->shared->tail, __ATOMIC_ACQUIRE);
}

static void copy_in(struct ring *r, const void *src, size_t len)
{
	size_t at = (size_t)(r->pos & (r->size - 1));
	size_t first = MIN(len, (size_t)r->size - at);

	memcpy(r->data + at, src, first);
	memcpy(r->data, (const uint8_t *)src + first, len - first);
	r->pos += len;
}

static void copy_out(struct ring *r, void *ret, size_t len)
{
	size_t at = (size_t)(r->pos & (r->size - 1));
	size_t first = MIN(len, (size_t)r->size - at);

	memcpy(ret, r->data + at, first);
	memcpy((uint8_t *)ret + first, r->data, len - first);
	r->pos += len;
}

int ring_put(struct ring *r, const struct ring_piece *pieces, size_t n)
{
	uint64_t tail = __atomic_load_n(&r->shared->tail, __ATOMIC_ACQUIRE);
	uint64_t used = r->pos - tail;
	size_t len = 0;
	uint32_t len32;

	for (size_t i = 0; i < n; i++)
		len += pieces[i].len;
	if (len + sizeof(len32) > r->size || len > UINT32_MAX)
		return -EMSGSIZE;
	if (used > r->size)
		return -EPROTO;
	if (len + sizeof(len32) > r->size - used)
		return -ENOBUFS;
	len32 = (uint32_t)len;
	copy_in(r, &len32, sizeof(len32));
	for (size_t i = 0; i < n; i++)
		copy_in(r, pieces[i].data, pieces[i].len);
	__atomic_store_n(&r->shared->head, r->pos, __ATOMIC_RELEASE);
	return 0;
}

uint64_t ring_head(const struct ring *r)
{
	return __atomic_load_n(&r->shared->head, __ATOMIC_ACQUIRE);
}

int ring_get(struct ring *r, uint64_t limit, void *ret, size_t max, size_t *ret_len)
{
	uint64_t start = r->pos, left = limit - start;
	uint32_t len;

	if (left > r->size)
		return -EPROTO;
	if (!left)
		return -EAGAIN;
	if (left < sizeof(len))
		return -EPROTO;
	copy_out(r, &len, sizeof(len));
	if (len > left - sizeof(len)) {
		r->pos = start;
		return -EPROTO;
	}
	if (len > max) {
		r->pos = start;
		return -EMSGSIZE;
	}
	copy_out(r, ret, len);
	__atomic_store_n(&r->shared->tail, r->pos, __ATOMIC_RELEASE);
	*ret_len = len;
	return 0;
}

uint64_t ring_used(const struct ring *r)
{
	return __atomic_load_n(&r->shared->head, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(&r->shared->tail, __ATOMIC_ACQUIRE);
}
