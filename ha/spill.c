/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/spill.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/err.h"

#define EXTENT_BYTES (16u << 20) /* few mappings, and few calls */

struct spill {
	const char *dir;
	size_t block_bytes;
	uint64_t limit;
	int fd;		   /* -1: not made yet */
	uint64_t nr_bytes; /* of the file: whole extents */
	uint64_t used;
	struct extent {
		struct extent *next;
		uint8_t *base;
	} * extents;
	struct unused {
		struct unused *next;
	} * unused;
};

int spill_open(const char *dir, size_t block_bytes, uint64_t limit_bytes, struct spill **ret)
{
	struct spill *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	assert(block_bytes >= sizeof(struct unused) && EXTENT_BYTES % block_bytes == 0);
	s->dir = dir;
	s->block_bytes = block_bytes;
	s->limit = limit_bytes;
	s->fd = -1;
	*ret = s;
	return 0;
}

void spill_close(struct spill *s)
{
	if (!s)
		return;
	while (s->extents) {
		struct extent *x = s->extents;

		s->extents = x->next;
		munmap(x->base, EXTENT_BYTES);
		free(x);
	}
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static int make_file(const char *dir)
{
	char path[320];
	int fd;

	if (snprintf(path, sizeof(path), "%s/backlog.XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

static int allocate(struct spill *s)
{
	if (s->fd < 0)
		s->fd = make_file(s->dir);
	if (s->fd < 0) {
		int r = s->fd;

		s->fd = -1;
		return r;
	}
	return -posix_fallocate(s->fd, (off_t)s->nr_bytes, EXTENT_BYTES);
}

static int grow(struct spill *s)
{
	struct extent *x = calloc(1, sizeof(*x));
	int r = x ? allocate(s) : -ENOMEM;

	if (r)
		goto err_free;
	x->base = mmap(NULL, EXTENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
		       (off_t)s->nr_bytes);
	if (x->base == MAP_FAILED) {
		r = -errno;
		goto err_free;
	}
	s->nr_bytes += EXTENT_BYTES;
	x->next = s->extents;
	s->extents = x;
	for (size_t at = 0; at < EXTENT_BYTES; at += s->block_bytes) {
		struct unused *block = (struct unused *)(void *)(x->base + at);

		block->next = s->unused;
		s->unused = block;
	}
	return 0;
err_free:
	free(x);
	return r;
}

int spill_get(struct spill *s, void **ret)
{
	int r = 0;

	if (s->used + s->block_bytes > s->limit)
		return -EFBIG;
	if (!s->unused)
		r = grow(s);
	if (r)
		return r;
	*ret = s->unused;
	s->unused = s->unused->next;
	s->used += s->block_bytes;
	return 0;
}

void spill_put(struct spill *s, void *block)
{
	struct unused *u = block;

	u->next = s->unused;
	s->unused = u;
	s->used -= s->block_bytes;
}

uint64_t spill_used(const struct spill *s)
{
	return s->used;
}

uint64_t spill_size(const struct spill *s)
{
	return s->nr_bytes;
}
