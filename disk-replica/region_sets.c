/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/region_sets.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <zlib.h>

#include "base/bitmap.h"
#include "base/cursor.h"

int region_sets_open(struct region_sets *ret, const uint64_t *disk_bytes, unsigned int nr_disks)
{
	struct region_sets s = { 0 };

	assert(nr_disks <= DISK_MAX);
	for (unsigned int i = 0; i < nr_disks; i++) {
		s.disk_bytes[i] = disk_bytes[i];
		s.bits[i] = calloc(bitmap_words(region_count(disk_bytes[i])) + 1, sizeof(uint64_t));
		s.nr_disks = i + 1;
		if (!s.bits[i]) {
			region_sets_close(&s);
			return -ENOMEM;
		}
	}
	*ret = s;
	return 0;
}

void region_sets_close(struct region_sets *s)
{
	for (unsigned int i = 0; i < s->nr_disks; i++)
		free(s->bits[i]);
	*s = (struct region_sets){ 0 };
}

void region_sets_fill_disk(struct region_sets *s, unsigned int disk)
{
	bitmap_set_range(s->bits[disk], 0, region_count(s->disk_bytes[disk]));
}

void region_sets_fill(struct region_sets *s)
{
	for (unsigned int i = 0; i < s->nr_disks; i++)
		region_sets_fill_disk(s, i);
}

uint64_t region_sets_bytes(const struct region_sets *s)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < s->nr_disks; i++) {
		uint64_t count = region_count(s->disk_bytes[i]), size;

		if (!count)
			continue;
		size = UINT64_C(1) << region_shift(s->disk_bytes[i]);
		bytes += bitmap_count(s->bits[i], count) * size;
		/* The last one is as long as what is left of the disk. */
		if (bitmap_test(s->bits[i], count - 1))
			bytes -= count * size - s->disk_bytes[i];
	}
	return bytes;
}

/* --- as a text ------------------------------------------------------------------------ */

static size_t raw_bytes(const struct region_sets *s)
{
	size_t n = 0;

	for (unsigned int i = 0; i < s->nr_disks; i++)
		n += bitmap_bytes(region_count(s->disk_bytes[i]));
	return n;
}

int region_sets_to_text(const struct region_sets *s, char **ret)
{
	size_t raw_len = raw_bytes(s);
	uLongf packed_len = compressBound(raw_len);
	cleanup_free uint8_t *raw = malloc(raw_len + 1), *packed = malloc(packed_len);
	cleanup_free char *text = malloc((packed_len + 2) / 3 * 4 + 1);
	struct cursor c;

	if (!raw || !packed || !text)
		return -ENOMEM;
	c = cursor_over(raw, raw_len);
	for (unsigned int i = 0; i < s->nr_disks; i++)
		for (size_t n = 0; n < bitmap_words(region_count(s->disk_bytes[i])); n++)
			cursor_put_u64(&c, s->bits[i][n]);
	assert(cursor_done(&c));
	if (compress2(packed, &packed_len, raw, raw_len, Z_BEST_SPEED) != Z_OK)
		return -ENOMEM;
	EVP_EncodeBlock((unsigned char *)text, packed, (int)packed_len);
	*ret = take_ptr(&text);
	return 0;
}

/* -EPROTO: it is not base64 of zlib of exactly so many bytes, and nothing behind them. */
static int unpack(const char *text, uint8_t *raw, size_t raw_len)
{
	size_t len = strlen(text), padding = 0;
	cleanup_free uint8_t *packed = NULL;
	uLongf got = raw_len;
	uLong used;
	int n;

	if (!len || len % 4 || len > compressBound(raw_len) / 3 * 4 + 8)
		return -EPROTO;
	packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	padding = (size_t)(text[len - 1] == '=') + (size_t)(text[len - 2] == '=');
	n = EVP_DecodeBlock(packed, (const unsigned char *)text, (int)len);
	if (n < (int)padding)
		return -EPROTO;
	used = (uLong)n - padding;
	if (uncompress2(raw, &got, packed, &used) != Z_OK || got != raw_len ||
	    used != (uLong)n - padding)
		return -EPROTO;
	return 0;
}

int region_sets_from_text(struct region_sets *s, const char *text, struct reason *why)
{
	size_t raw_len = raw_bytes(s);
	cleanup_free uint8_t *raw = malloc(raw_len + 1);
	struct cursor c = cursor_over(raw, raw_len);
	int err = raw ? unpack(text, raw, raw_len) : -ENOMEM;

	if (err)
		return reason_set(why, -err, "the list of regions is not that of such disks");
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		uint64_t count = region_count(s->disk_bytes[i]);

		for (size_t n = 0; n < bitmap_words(count); n++)
			s->bits[i][n] = cursor_get_u64(&c);
		if (count % BITMAP_WORD_BITS)
			s->bits[i][count / BITMAP_WORD_BITS] &=
				(UINT64_C(1) << (count % BITMAP_WORD_BITS)) - 1;
	}
	return 0;
}

void region_token_to_text(const uint8_t token[REGION_TOKEN_BYTES], char ret[REGION_TOKEN_TEXT])
{
	for (unsigned int i = 0; i < REGION_TOKEN_BYTES; i++)
		snprintf(ret + 2 * i, 3, "%02x", token[i]);
}

bool region_token_from_text(const char *text, uint8_t ret[REGION_TOKEN_BYTES])
{
	uint8_t token[REGION_TOKEN_BYTES];

	if (strlen(text) != REGION_TOKEN_TEXT - 1 ||
	    strspn(text, "0123456789abcdef") != REGION_TOKEN_TEXT - 1)
		return false;
	for (unsigned int i = 0; i < REGION_TOKEN_BYTES; i++) {
		unsigned int byte;

		sscanf(text + 2 * i, "%2x", &byte);
		token[i] = (uint8_t)byte;
	}
	memcpy(ret, token, sizeof(token));
	return true;
}
