/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record of the backup's log, as it lies in its memory and, with `commit = disk`, in
 * its file: a head of 64 bytes, then the data of a write, then zeroes up to the next
 * multiple of 64. docs/disk-format.md has the layout.
 *
 * A record knows where it lies: its position, counted from the log's beginning and never
 * starting over, so that what an earlier lap has left is not taken for what follows. Its
 * checksum begins from the log's random key, so that what an earlier log has left in the
 * same place is not either.
 */
#ifndef POLLUX_DISK_LOG_RECORD_H
#define POLLUX_DISK_LOG_RECORD_H

#include "disk-replica/format.h"

#define LOG_RECORD_UNIT	 64u		      /* bytes of a head; sizes are multiples of it */
#define LOG_RECORD_MAGIC UINT32_C(0x52584c50) /* the bytes "PLXR" */
#define LOG_RECORD_MAX	 (LOG_RECORD_UNIT + DISK_DATA_MAX)

/* Numbers up to 4 are those of enum control_disk_op. They are on disk: never renumber. */
enum log_kind {
	LOG_SEAL = 16, /* the epoch is whole; offset: its records, length: see disk_log_seal() */
	LOG_PAD = 17,  /* nothing, up to the end of the lap */
};

struct log_record {
	uint8_t kind;
	uint16_t disk;
	uint64_t generation;
	uint64_t epoch;
	uint64_t position;
	uint64_t offset;
	uint64_t length;
	uint64_t size; /* bytes to the next record */
};

bool log_record_is_change(const struct log_record *r);
/* Bytes that the change takes in the log. */
uint64_t log_record_size(const struct disk_record *r);
/* `data`: of a write, with the zeroes behind it; else NULL. Without a key the checksum is 0: for a
 * log in memory. */
void log_record_encode(const struct log_record *r, const void *data, const uint64_t *key,
		       uint8_t ret[LOG_RECORD_UNIT]);
/* -EBADMSG: no head of a record, or its size does not follow from its kind and length. A LOG_PAD's
 * size is any multiple of the unit. Bounds beyond that are the caller's. */
int log_record_decode(const uint8_t head[LOG_RECORD_UNIT], struct log_record *ret);
/* Whether head and data are what was encoded with this key. */
bool log_record_is_intact(const uint8_t head[LOG_RECORD_UNIT], const void *data, uint64_t key);

#endif
