/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for one test, removed with what is in it. */
#ifndef POLLUX_TESTS_DIR_H
#define POLLUX_TESTS_DIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct test_dir {
	char path[64];
};

static inline int test_dir_remove_one(const char *path, const struct stat *st, int flag,
				      struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline int test_dir_open(struct test_dir *ret)
{
	snprintf(ret->path, sizeof(ret->path), "/tmp/pollux-test.XXXXXX");
	return mkdtemp(ret->path) ? 0 : -1;
}

static inline void test_dir_close(struct test_dir *dir)
{
	nftw(dir->path, test_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
