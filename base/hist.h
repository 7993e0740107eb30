/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of durations with a relative error of at most 1/16: 16 linear buckets to
 * each power of two, from 1 ns to 2^40 ns. Fixed size, no allocation, one writer; a
 * reader that races sees a value or does not. Percentiles are upper bounds of buckets.
 */
#ifndef POLLUX_HIST_H
#define POLLUX_HIST_H

#include <stdint.h>

#include "base/cursor.h"

#define HIST_BUCKETS (41u * 16u)

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint32_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t value);
/* The value that `per_mille` thousandths of all values do not exceed; 0 when empty. */
uint64_t hist_percentile(const struct hist *h, unsigned int per_mille);
/* Sparse form: {u64 count, u64 sum, u64 max, u16 n, n * {u16 bucket, u32 count}}. */
void hist_put(const struct hist *h, struct cursor *c);
void hist_get(struct hist *ret, struct cursor *c);

#endif
