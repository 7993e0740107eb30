/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region file: which regions of a VM's disks may differ from a copy that is kept
 * elsewhere, on stable storage. docs/disk-format.md, "The region file", has the layout.
 *
 * Blocks of 512 bytes, each with a checksum of its own: a header that never changes in the
 * life of a file, a stamp (how the disks looked when they were last let go), then the bits,
 * one a region, disk after disk. A block of bits that does not carry its checksum (a write
 * that a power cut has torn) counts as all ones: a bit may be set that need not be, never
 * the other way round.
 *
 * Pure but for region_look_take() and the file functions. Threads: any.
 */
#ifndef POLLUX_REGION_FILE_H
#define POLLUX_REGION_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define REGION_BLOCK_BYTES  512u
#define REGION_BLOCK_BITS   4032u /* 504 bytes of bits, 8 of checksum */
#define REGION_TOKEN_BYTES  16u
#define REGION_BOOT_BYTES   16u
#define REGION_DISKS_MAX    8u
#define REGION_PEER_MAX	    63u
#define REGION_SHIFT_MIN    16u /* 64 KiB */
#define REGION_COUNT_MAX    262144u
#define REGION_FILE_MAGIC   UINT64_C(0x314e474552584c50) /* the bytes "PLXREGN1" */
#define REGION_FILE_VERSION 1u

/* The smallest power of two of at least 64 KiB such that the disk has at most
 * REGION_COUNT_MAX regions; how many those are. */
unsigned int region_shift(uint64_t disk_bytes);
uint64_t region_count(uint64_t disk_bytes);

struct region_header {
	uint8_t token[REGION_TOKEN_BYTES]; /* random: names the two copies that belong together */
	uint64_t generation;		   /* at which the relation began; for people */
	uint64_t wall_ns;		   /* likewise */
	char peer[REGION_PEER_MAX + 1];	   /* likewise: the other host */
	unsigned int nr_disks;
	uint64_t disk_bytes[REGION_DISKS_MAX];
};

/* How a disk looked. A block device has no inode number and time of its own: both are 0. */
struct region_look {
	uint64_t bytes;
	uint64_t inode;
	uint64_t mtime_ns;
};
enum region_stamp_state {
	REGION_OPEN = 1,   /* somebody may be writing, or was when the host died */
	REGION_CLOSED = 2, /* let go in order: the disks look like this */
};
struct region_stamp {
	enum region_stamp_state state;
	uint8_t boot[REGION_BOOT_BYTES]; /* boot_id of the kernel under which it was opened */
	unsigned int nr_disks;
	struct region_look look[REGION_DISKS_MAX]; /* of CLOSED */
};

/* Bytes of the whole file, and where the n-th block of a disk's bits lies. */
uint64_t region_file_bytes(const struct region_header *h);
uint64_t region_block_offset(const struct region_header *h, unsigned int disk, uint64_t block);
uint64_t region_block_count(uint64_t disk_bytes);

void region_header_encode(const struct region_header *h, uint8_t ret[REGION_BLOCK_BYTES]);
/* -EBADMSG: it is none, with the reason. */
int region_header_decode(const uint8_t block[REGION_BLOCK_BYTES], struct region_header *ret,
			 struct reason *why);

#define REGION_STAMP_OFFSET REGION_BLOCK_BYTES
void region_stamp_encode(const struct region_header *h, const struct region_stamp *s,
			 uint8_t ret[REGION_BLOCK_BYTES]);
/* A stamp that is torn reads as OPEN, of no boot. */
void region_stamp_decode(const struct region_header *h, const uint8_t block[REGION_BLOCK_BYTES],
			 struct region_stamp *ret);
int region_look_take(int fd, struct region_look *ret);

/* The n-th block of a disk's bits: from a bitmap of the whole disk (base/bitmap.h), or
 * `into` it. False: torn, and all of its bits were set. */
void region_block_encode(const struct region_header *h, unsigned int disk, uint64_t block,
			 const uint64_t *bits, uint8_t ret[REGION_BLOCK_BYTES]);
bool region_block_decode(const struct region_header *h, unsigned int disk, uint64_t block,
			 const uint8_t bytes[REGION_BLOCK_BYTES], uint64_t *into);

/* What a region file begins with. -EBADMSG: it is none, or cannot be read. */
int region_head_read(int fd, struct region_header *ret, struct region_stamp *ret_stamp,
		     struct reason *why);

/* All blocks of all disks between memory and a file; `bits` has one bitmap a disk, which
 * reading replaces. Writing does not sync. -errno, -EIO when short. */
int region_bits_read(int fd, const struct region_header *h, uint64_t *const bits[],
		     uint64_t *ret_torn);
int region_bits_write(int fd, const struct region_header *h, uint64_t *const bits[]);
/* One block of the file at `offset`, whole. */
int region_block_read(int fd, uint64_t offset, uint8_t ret[REGION_BLOCK_BYTES]);
int region_block_write(int fd, uint64_t offset, const uint8_t block[REGION_BLOCK_BYTES]);

#endif
