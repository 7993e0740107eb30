/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/log_record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cursor.h"

#define CHECKED_BYTES (LOG_RECORD_UNIT - 8u)

bool log_record_is_change(const struct log_record *r)
{
	return r->kind >= CONTROL_DISK_WRITE && r->kind <= CONTROL_DISK_ZEROES;
}

static uint64_t size_with(uint64_t data)
{
	return LOG_RECORD_UNIT + (data + LOG_RECORD_UNIT - 1) / LOG_RECORD_UNIT * LOG_RECORD_UNIT;
}

uint64_t log_record_size(const struct disk_record *r)
{
	return size_with(r->op == CONTROL_DISK_WRITE ? r->length : 0);
}

/* The head's checksum is where that of the data begins: one number covers both. */
static uint64_t checksum(const uint8_t *head, const void *data, uint64_t len, uint64_t key)
{
	uint64_t sum = XXH3_64bits_withSeed(head, CHECKED_BYTES, key);

	return len ? XXH3_64bits_withSeed(data, len, sum) : sum;
}

/* What lies behind the head: data and the zeroes after it. */
static uint64_t tail_bytes(const struct log_record *r)
{
	return r->kind == CONTROL_DISK_WRITE ? r->size - LOG_RECORD_UNIT : 0;
}

void log_record_encode(const struct log_record *r, const void *data, const uint64_t *key,
		       uint8_t ret[LOG_RECORD_UNIT])
{
	struct cursor c = cursor_over(ret, LOG_RECORD_UNIT);

	cursor_put_u32(&c, LOG_RECORD_MAGIC);
	cursor_put_u8(&c, r->kind);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, r->disk);
	cursor_put_u64(&c, r->generation);
	cursor_put_u64(&c, r->epoch);
	cursor_put_u64(&c, r->position);
	cursor_put_u64(&c, r->offset);
	cursor_put_u64(&c, r->length);
	cursor_put_u64(&c, r->size);
	cursor_put_u64(&c, key ? checksum(ret, data, tail_bytes(r), *key) : 0);
	assert(cursor_done(&c));
}

int log_record_decode(const uint8_t head[LOG_RECORD_UNIT], struct log_record *ret)
{
	struct cursor c = cursor_over(head, LOG_RECORD_UNIT);
	uint32_t magic = cursor_get_u32(&c);
	struct log_record r = { 0 };
	uint8_t zero;

	if (magic != LOG_RECORD_MAGIC)
		return -EBADMSG;
	r.kind = cursor_get_u8(&c);
	zero = cursor_get_u8(&c);
	r.disk = cursor_get_u16(&c);
	r.generation = cursor_get_u64(&c);
	r.epoch = cursor_get_u64(&c);
	r.position = cursor_get_u64(&c);
	r.offset = cursor_get_u64(&c);
	r.length = cursor_get_u64(&c);
	r.size = cursor_get_u64(&c);
	if (zero)
		return -EBADMSG;
	if (r.kind == LOG_PAD) {
		if (!r.size || r.size % LOG_RECORD_UNIT)
			return -EBADMSG;
	} else if (!log_record_is_change(&r) && r.kind != LOG_SEAL) {
		return -EBADMSG;
	} else {
		uint64_t data = r.kind == CONTROL_DISK_WRITE ? r.length : 0;

		if (data > DISK_DATA_MAX || r.size != size_with(data))
			return -EBADMSG;
	}
	*ret = r;
	return 0;
}

bool log_record_is_intact(const uint8_t head[LOG_RECORD_UNIT], const void *data, uint64_t key)
{
	struct cursor c = cursor_over(head + CHECKED_BYTES, 8);
	struct log_record r;

	return !log_record_decode(head, &r) &&
	       cursor_get_u64(&c) == checksum(head, data, tail_bytes(&r), key);
}
