/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariant: decode(encode(x)) is x; whatever bytes decode gets, it sets no bit beyond the
 * disk's last region and clears none of a block that it cannot vouch for.
 */
#include "hypervisor/control/region_file.h"

#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bitmap.h"
#include "base/cursor.h"

#define CHECKED_BYTES (REGION_BLOCK_BYTES - 8u)
#define FIRST_BITS    2u /* blocks before the bits: header, stamp */

unsigned int region_shift(uint64_t disk_bytes)
{
	unsigned int shift = REGION_SHIFT_MIN;

	while (shift < 63 && disk_bytes && ((disk_bytes - 1) >> shift) + 1 > REGION_COUNT_MAX)
		shift++;
	return shift;
}

uint64_t region_count(uint64_t disk_bytes)
{
	return disk_bytes ? ((disk_bytes - 1) >> region_shift(disk_bytes)) + 1 : 0;
}

uint64_t region_block_count(uint64_t disk_bytes)
{
	return (region_count(disk_bytes) + REGION_BLOCK_BITS - 1) / REGION_BLOCK_BITS;
}

uint64_t region_block_offset(const struct region_header *h, unsigned int disk, uint64_t block)
{
	uint64_t at = FIRST_BITS + block;

	for (unsigned int i = 0; i < disk; i++)
		at += region_block_count(h->disk_bytes[i]);
	return at * REGION_BLOCK_BYTES;
}

uint64_t region_file_bytes(const struct region_header *h)
{
	return region_block_offset(h, h->nr_disks, 0);
}

/* Of another file, or from another place in this one, a block is not taken for one of ours. */
static uint64_t seed_of(const struct region_header *h, uint64_t offset)
{
	uint64_t seed;

	memcpy(&seed, h->token, sizeof(seed));
	return seed ^ offset;
}

static void seal(uint8_t block[REGION_BLOCK_BYTES], uint64_t seed)
{
	struct cursor c = cursor_over(block + CHECKED_BYTES, 8);

	cursor_put_u64(&c, XXH3_64bits_withSeed(block, CHECKED_BYTES, seed));
}

static bool is_sealed(const uint8_t block[REGION_BLOCK_BYTES], uint64_t seed)
{
	struct cursor c = cursor_over(block + CHECKED_BYTES, 8);

	return cursor_get_u64(&c) == XXH3_64bits_withSeed(block, CHECKED_BYTES, seed);
}

/* --- header --------------------------------------------------------------------------- */

void region_header_encode(const struct region_header *h, uint8_t ret[REGION_BLOCK_BYTES])
{
	struct cursor c = cursor_over(ret, CHECKED_BYTES);
	size_t peer = strlen(h->peer);

	memset(ret, 0, REGION_BLOCK_BYTES);
	cursor_put_u64(&c, REGION_FILE_MAGIC);
	cursor_put_u32(&c, REGION_FILE_VERSION);
	cursor_put_u32(&c, h->nr_disks);
	cursor_put_bytes(&c, h->token, sizeof(h->token));
	cursor_put_u64(&c, h->generation);
	cursor_put_u64(&c, h->wall_ns);
	for (unsigned int i = 0; i < REGION_DISKS_MAX; i++)
		cursor_put_u64(&c, i < h->nr_disks ? h->disk_bytes[i] : 0);
	cursor_put_u8(&c, (uint8_t)peer);
	cursor_put_bytes(&c, h->peer, peer);
	assert(cursor_ok(&c));
	seal(ret, 0);
}

int region_header_decode(const uint8_t block[REGION_BLOCK_BYTES], struct region_header *ret,
			 struct reason *why)
{
	struct cursor c = cursor_over(block, CHECKED_BYTES);
	uint64_t magic = cursor_get_u64(&c);
	uint32_t version = cursor_get_u32(&c);
	struct region_header h = { .nr_disks = cursor_get_u32(&c) };
	uint8_t peer;

	if (magic != REGION_FILE_MAGIC)
		return reason_set(why, EBADMSG, "the region file has no header");
	if (version != REGION_FILE_VERSION)
		return reason_set(why, EBADMSG, "the region file is of version %u, known is %u",
				  version, REGION_FILE_VERSION);
	if (!is_sealed(block, 0))
		return reason_set(why, EBADMSG, "the region file's header is damaged");
	cursor_get_bytes(&c, h.token, sizeof(h.token));
	h.generation = cursor_get_u64(&c);
	h.wall_ns = cursor_get_u64(&c);
	for (unsigned int i = 0; i < REGION_DISKS_MAX; i++)
		h.disk_bytes[i] = cursor_get_u64(&c);
	peer = cursor_get_u8(&c);
	if (peer <= REGION_PEER_MAX)
		cursor_get_bytes(&c, h.peer, peer);
	if (!cursor_ok(&c) || peer > REGION_PEER_MAX || h.nr_disks > REGION_DISKS_MAX)
		return reason_set(why, EBADMSG, "the region file's header names %u disks",
				  h.nr_disks);
	*ret = h;
	return 0;
}

/* --- stamp ---------------------------------------------------------------------------- */

void region_stamp_encode(const struct region_header *h, const struct region_stamp *s,
			 uint8_t ret[REGION_BLOCK_BYTES])
{
	struct cursor c = cursor_over(ret, CHECKED_BYTES);

	memset(ret, 0, REGION_BLOCK_BYTES);
	cursor_put_u32(&c, s->state);
	cursor_put_u32(&c, s->nr_disks);
	cursor_put_bytes(&c, s->boot, sizeof(s->boot));
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		cursor_put_u64(&c, s->look[i].bytes);
		cursor_put_u64(&c, s->look[i].inode);
		cursor_put_u64(&c, s->look[i].mtime_ns);
	}
	assert(cursor_ok(&c));
	seal(ret, seed_of(h, REGION_STAMP_OFFSET));
}

void region_stamp_decode(const struct region_header *h, const uint8_t block[REGION_BLOCK_BYTES],
			 struct region_stamp *ret)
{
	struct cursor c = cursor_over(block, CHECKED_BYTES);
	struct region_stamp s = { .state = cursor_get_u32(&c) };

	*ret = (struct region_stamp){ .state = REGION_OPEN };
	s.nr_disks = cursor_get_u32(&c);
	cursor_get_bytes(&c, s.boot, sizeof(s.boot));
	if (!is_sealed(block, seed_of(h, REGION_STAMP_OFFSET)) || s.nr_disks > REGION_DISKS_MAX ||
	    (s.state != REGION_OPEN && s.state != REGION_CLOSED))
		return;
	for (unsigned int i = 0; i < s.nr_disks; i++) {
		s.look[i].bytes = cursor_get_u64(&c);
		s.look[i].inode = cursor_get_u64(&c);
		s.look[i].mtime_ns = cursor_get_u64(&c);
	}
	*ret = s;
}

int region_look_take(int fd, struct region_look *ret)
{
	struct region_look look = { 0 };
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode)) {
		look.bytes = (uint64_t)st.st_size;
		look.inode = st.st_ino;
		look.mtime_ns = (uint64_t)st.st_mtim.tv_sec * UINT64_C(1000000000) +
				(uint64_t)st.st_mtim.tv_nsec;
	}
	*ret = look;
	return 0;
}

/* --- bits ----------------------------------------------------------------------------- */

/* Bits of that block that name a region. */
static uint64_t bits_in(const struct region_header *h, unsigned int disk, uint64_t block)
{
	uint64_t first = block * REGION_BLOCK_BITS, count = region_count(h->disk_bytes[disk]);

	return first >= count ? 0 : MIN(count - first, (uint64_t)REGION_BLOCK_BITS);
}

void region_block_encode(const struct region_header *h, unsigned int disk, uint64_t block,
			 const uint64_t *bits, uint8_t ret[REGION_BLOCK_BYTES])
{
	uint64_t first = block * REGION_BLOCK_BITS, n = bits_in(h, disk, block);
	struct cursor c = cursor_over(ret, CHECKED_BYTES);

	/* REGION_BLOCK_BITS is a multiple of 64: whole words of the bitmap. */
	for (uint64_t i = 0; i < REGION_BLOCK_BITS; i += BITMAP_WORD_BITS)
		cursor_put_u64(&c, i < n ? bits[(first + i) / BITMAP_WORD_BITS] : 0);
	assert(cursor_done(&c));
	seal(ret, seed_of(h, region_block_offset(h, disk, block)));
}

bool region_block_decode(const struct region_header *h, unsigned int disk, uint64_t block,
			 const uint8_t bytes[REGION_BLOCK_BYTES], uint64_t *into)
{
	uint64_t first = block * REGION_BLOCK_BITS, n = bits_in(h, disk, block);
	struct cursor c = cursor_over(bytes, CHECKED_BYTES);
	bool whole = is_sealed(bytes, seed_of(h, region_block_offset(h, disk, block)));

	for (uint64_t i = 0; i < n; i += BITMAP_WORD_BITS) {
		uint64_t word = cursor_get_u64(&c);

		into[(first + i) / BITMAP_WORD_BITS] = whole ? word : UINT64_MAX;
	}
	/* Nothing beyond the last region, whatever the file says. */
	if (n % BITMAP_WORD_BITS)
		into[(first + n) / BITMAP_WORD_BITS] &= (UINT64_C(1) << (n % BITMAP_WORD_BITS)) - 1;
	return whole;
}

/* --- the file ------------------------------------------------------------------------- */

int region_block_read(int fd, uint64_t offset, uint8_t ret[REGION_BLOCK_BYTES])
{
	ssize_t n = pread(fd, ret, REGION_BLOCK_BYTES, (off_t)offset);

	if (n < 0)
		return -errno;
	return n == REGION_BLOCK_BYTES ? 0 : -EIO;
}

int region_head_read(int fd, struct region_header *ret, struct region_stamp *ret_stamp,
		     struct reason *why)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int err = region_block_read(fd, 0, block);

	if (!err)
		err = region_header_decode(block, ret, why);
	if (err)
		return err == -EBADMSG ? err
				       : reason_set(why, EBADMSG, "the region file cannot be read");
	if (region_block_read(fd, REGION_STAMP_OFFSET, block))
		return reason_set(why, EBADMSG, "the region file is cut short");
	region_stamp_decode(ret, block, ret_stamp);
	return 0;
}

int region_block_write(int fd, uint64_t offset, const uint8_t block[REGION_BLOCK_BYTES])
{
	ssize_t n = pwrite(fd, block, REGION_BLOCK_BYTES, (off_t)offset);

	if (n < 0)
		return -errno;
	return n == REGION_BLOCK_BYTES ? 0 : -ENOSPC;
}

int region_bits_read(int fd, const struct region_header *h, uint64_t *const bits[],
		     uint64_t *ret_torn)
{
	uint8_t block[REGION_BLOCK_BYTES];
	uint64_t torn = 0;

	for (unsigned int disk = 0; disk < h->nr_disks; disk++)
		for (uint64_t n = 0; n < region_block_count(h->disk_bytes[disk]); n++) {
			int err = region_block_read(fd, region_block_offset(h, disk, n), block);

			if (err)
				return err;
			torn += !region_block_decode(h, disk, n, block, bits[disk]);
		}
	if (ret_torn)
		*ret_torn = torn;
	return 0;
}

int region_bits_write(int fd, const struct region_header *h, uint64_t *const bits[])
{
	uint8_t block[REGION_BLOCK_BYTES];

	for (unsigned int disk = 0; disk < h->nr_disks; disk++)
		for (uint64_t n = 0; n < region_block_count(h->disk_bytes[disk]); n++) {
			int err;

			region_block_encode(h, disk, n, bits[disk], block);
			err = region_block_write(fd, region_block_offset(h, disk, n), block);
			if (err)
				return err;
		}
	return 0;
}
