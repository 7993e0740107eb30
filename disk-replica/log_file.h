/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind the backup's log with `commit = disk`: `disk-log` in the VM's state
 * directory, allocated whole at the start, so that its bound is a fact and ENOSPC comes
 * before there is anything to lose. Two header slots, then the ring of log_record.h.
 *
 * The header names the VM, the generation, the disks and their sizes, the log's key, and
 * the tail: the position from which records count, and the epoch that the disks hold whole
 * and durably there. The slots are written in turn: a torn one leaves the other, and what
 * that one points to is there, since room is used again only after the new one is durable.
 *
 * Fault points, in order of passage: log.create log.allocate log.header log.rename (creation);
 * log.write (records), log.seal (the records that end with a seal), log.sync (their fdatasync);
 * log.tail (a new tail), log.tail_sync. Each fails with EIO, log.allocate with ENOSPC.
 *
 * Threads: log_file_write() and log_file_set_tail() one thread each; log_file_sync() any.
 */
#ifndef POLLUX_DISK_LOG_FILE_H
#define POLLUX_DISK_LOG_FILE_H

#include "disk-replica/format.h"

#define LOG_FILE_NAME	      "disk-log"
#define LOG_FILE_MAGIC	      UINT32_C(0x4c584c50) /* the bytes "PLXL" */
#define LOG_FILE_VERSION      1u
#define LOG_FILE_SLOT	      4096u /* two of them, then data */
#define LOG_FILE_DATA	      (2u * LOG_FILE_SLOT)
#define LOG_FILE_HEADER_BYTES 160u

struct log_file_info {
	uint8_t uuid[16];
	uint64_t generation;
	uint64_t key;	/* random, of this log alone; log_file_create() draws it */
	uint64_t limit; /* bytes of the ring; a multiple of 4096 */
	unsigned int nr_disks;
	uint64_t bytes[DISK_MAX]; /* of each disk */
};

struct log_file_tail {
	uint64_t position;
	uint64_t epoch; /* the disks hold it, and all before it, on stable storage */
};

struct log_file {
	int fd;
	struct log_file_info info;
	struct log_file_tail tail;
	uint64_t sequence;
};

/* In the place of one that is there, which is lost; the tail is {0, 1}: the first copy is
 * epoch 1 and does not go through the log. Locked against log_file_open(). -ENOSPC. */
int log_file_create(const char *state_dir, const struct log_file_info *info, struct log_file **ret,
		    struct reason *why);
/* -ENOENT: there is none; -EBUSY: in use; -EBADMSG: neither slot is a header, or the file is
 * shorter than it says. */
int log_file_open(const char *state_dir, struct log_file **ret, struct reason *why);
void log_file_close(struct log_file *f);
/* No file is there when it returns 0, also after a power cut. */
int log_file_remove(const char *state_dir);

/* Within one lap: position % limit + len <= limit. Writing out begins, and is not awaited. */
int log_file_write(struct log_file *f, uint64_t position, const void *data, size_t len, bool seal);
int log_file_read(const struct log_file *f, uint64_t position, void *ret, size_t len);
int log_file_sync(struct log_file *f);
/* Durable when it returns 0; after an error the old tail or the new one is. */
int log_file_set_tail(struct log_file *f, const struct log_file_tail *tail);

#endif
