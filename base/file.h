/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing all of it, whatever pread(2) and pwrite(2) make of it. Threads: any. */
#ifndef POLLUX_FILE_H
#define POLLUX_FILE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* 0, or -errno with some of it written. */
static inline int file_write_at(int fd, const void *data, size_t len, uint64_t at)
{
	const uint8_t *from = data;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		from += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* 0, or -errno with some of it read; -EIO: it ends before. */
static inline int file_read_at(int fd, void *data, size_t len, uint64_t at)
{
	uint8_t *to = data;

	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		to += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

#endif
