/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of a test: sparse files of these sizes in a folder of the test's, named in `ret`. */
#ifndef POLLUX_TESTS_DISK_FILES_H
#define POLLUX_TESTS_DISK_FILES_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "disk-replica/format.h"
#include "tests/lib/test.h"

static inline void disk_files_make(const char *folder, const uint64_t *bytes, unsigned int nr,
				   struct disk_info *ret)
{
	for (unsigned int i = 0; i < nr; i++) {
		int fd;

		ret[i].bytes = bytes[i];
		snprintf(ret[i].path, sizeof(ret[i].path), "%s/disk%u", folder, i);
		fd = open(ret[i].path, O_RDWR | O_CREAT, 0600);
		assert_int_equal(ftruncate(fd, (off_t)bytes[i]), 0);
		close(fd);
	}
}

#endif
