/* SPDX-License-Identifier: Apache-2.0 */
/* One record of a log's file at a time: what recovery scans and applies share. */
#ifndef POLLUX_DISK_RECOVER_READ_H
#define POLLUX_DISK_RECOVER_READ_H

#include "disk-replica/log_record.h"

struct log_file;

struct log_reader {
	struct log_record record;
	uint8_t bytes[LOG_RECORD_MAX];
};

/* -ENODATA: no intact record of this log lies there; else the file's error. */
int recover_read(const struct log_file *f, uint64_t position, struct log_reader *ret);
/* The change that the record is; its data lies in the reader. */
struct disk_record recover_change(const struct log_reader *at);

#endif
