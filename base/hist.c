/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hist.h"

#include "base/err.h"

static unsigned int bucket_of(uint64_t v)
{
	unsigned int shift;

	if (v < 16)
		return (unsigned int)v;
	shift = 63u - (unsigned int)__builtin_clzll(v) - 4u;
	return MIN((shift + 1u) * 16u + (unsigned int)(v >> shift & 15u), HIST_BUCKETS - 1u);
}

static uint64_t bucket_top(unsigned int b)
{
	if (b < 16)
		return b;
	return (((uint64_t)(16u + b % 16u) + 1u) << (b / 16u - 1u)) - 1u;
}

void hist_add(struct hist *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	h->max = MAX(h->max, value);
	h->bucket[bucket_of(value)]++;
}

uint64_t hist_percentile(const struct hist *h, unsigned int per_mille)
{
	uint64_t want = (h->count * per_mille + 999) / 1000, seen = 0;

	for (unsigned int b = 0; h->count && b < HIST_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen >= want)
			return MIN(bucket_top(b), h->max);
	}
	return h->max;
}

void hist_put(const struct hist *h, struct cursor *c)
{
	uint16_t used = 0;

	for (unsigned int b = 0; b < HIST_BUCKETS; b++)
		used += h->bucket[b] != 0;
	cursor_put_u64(c, h->count);
	cursor_put_u64(c, h->sum);
	cursor_put_u64(c, h->max);
	cursor_put_u16(c, used);
	for (unsigned int b = 0; b < HIST_BUCKETS; b++) {
		if (!h->bucket[b])
			continue;
		cursor_put_u16(c, (uint16_t)b);
		cursor_put_u32(c, h->bucket[b]);
	}
}

void hist_get(struct hist *ret, struct cursor *c)
{
	struct hist h = { 0 };
	unsigned int n;

	h.count = cursor_get_u64(c);
	h.sum = cursor_get_u64(c);
	h.max = cursor_get_u64(c);
	n = cursor_get_u16(c);
	for (unsigned int i = 0; i < n && cursor_ok(c); i++) {
		unsigned int b = cursor_get_u16(c);
		uint32_t count = cursor_get_u32(c);

		if (b >= HIST_BUCKETS) {
			c->bad = true;
			return;
		}
		h.bucket[b] = count;
	}
	if (cursor_ok(c))
		*ret = h;
}
