/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/marker.h"

#include <fcntl.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cursor.h"
#include "base/fault.h"

#define MARKER_CHECKED_BYTES (APPLY_MARKER_BYTES - 8u)

static int open_dir(const char *state_dir)
{
	int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static void get_stamp(struct cursor *c, struct region_stamp *ret)
{
	ret->state = cursor_get_u32(c);
	ret->nr_disks = cursor_get_u32(c);
	cursor_get_bytes(c, ret->boot, sizeof(ret->boot));
	for (unsigned int i = 0; i < REGION_DISKS_MAX; i++) {
		ret->look[i].bytes = cursor_get_u64(c);
		ret->look[i].inode = cursor_get_u64(c);
		ret->look[i].mtime_ns = cursor_get_u64(c);
	}
}

static void put_stamp(struct cursor *c, const struct region_stamp *stamp)
{
	cursor_put_u32(c, stamp->state);
	cursor_put_u32(c, stamp->nr_disks);
	cursor_put_bytes(c, stamp->boot, sizeof(stamp->boot));
	for (unsigned int i = 0; i < REGION_DISKS_MAX; i++) {
		cursor_put_u64(c, stamp->look[i].bytes);
		cursor_put_u64(c, stamp->look[i].inode);
		cursor_put_u64(c, stamp->look[i].mtime_ns);
	}
}

static int decode(const uint8_t *bytes, size_t len, struct apply_marker *ret)
{
	struct cursor c = cursor_over(bytes, len);
	struct apply_marker m = { 0 };
	uint32_t magic = cursor_get_u32(&c);
	uint16_t version = cursor_get_u16(&c);
	uint16_t state = cursor_get_u16(&c);
	int32_t error = (int32_t)cursor_get_u32(&c);
	uint64_t checksum;

	m.wall_ns = cursor_get_u64(&c);
	cursor_get_bytes(&c, m.token, sizeof(m.token));
	get_stamp(&c, &m.stamp);
	m.generation = cursor_get_u64(&c);
	m.epoch = cursor_get_u64(&c);
	m.log_key = cursor_get_u64(&c);
	checksum = cursor_get_u64(&c);

	if (!cursor_done(&c) || magic != APPLY_MARKER_MAGIC || version != APPLY_MARKER_VERSION ||
	    checksum != XXH3_64bits(bytes, MARKER_CHECKED_BYTES) || state < APPLY_COPYING ||
	    state > APPLY_CONSISTENT || m.stamp.nr_disks > REGION_DISKS_MAX)
		return -EBADMSG;
	m.state = state;
	m.error = error;
	*ret = m;
	return 0;
}

static void encode(const struct apply_marker *marker, uint8_t bytes[APPLY_MARKER_BYTES])
{
	struct cursor c = cursor_over(bytes, APPLY_MARKER_BYTES);

	cursor_put_u32(&c, APPLY_MARKER_MAGIC);
	cursor_put_u16(&c, APPLY_MARKER_VERSION);
	cursor_put_u16(&c, (uint16_t)marker->state);
	cursor_put_u32(&c, (uint32_t)marker->error);
	cursor_put_u64(&c, marker->wall_ns);
	cursor_put_bytes(&c, marker->token, sizeof(marker->token));
	put_stamp(&c, &marker->stamp);
	cursor_put_u64(&c, marker->generation);
	cursor_put_u64(&c, marker->epoch);
	cursor_put_u64(&c, marker->log_key);
	cursor_put_u64(&c, XXH3_64bits(bytes, MARKER_CHECKED_BYTES));
	assert(cursor_done(&c));
}

int apply_marker_read(const char *state_dir, struct apply_marker *ret)
{
	uint8_t bytes[APPLY_MARKER_BYTES + 1]; /* one more shows what is too long */
	cleanup_close int dir = open_dir(state_dir);
	cleanup_close int fd = -1;
	ssize_t n;

	if (dir < 0)
		return dir;
	fd = openat(dir, APPLY_MARKER_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : -EBADMSG;
	n = pread(fd, bytes, sizeof(bytes), 0);
	return n < 0 ? -EBADMSG : decode(bytes, (size_t)n, ret);
}

static int write_file(int dir, const char *name, const uint8_t *bytes, size_t len)
{
	cleanup_close int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, bytes, len);
	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -ENOSPC;
	return fsync(fd) ? -errno : 0;
}

int apply_marker_write(const char *state_dir, const struct apply_marker *marker)
{
	uint8_t bytes[APPLY_MARKER_BYTES];
	cleanup_close int dir = open_dir(state_dir);
	int err;

	if (dir < 0)
		return dir;
	if (fault_at("marker.write"))
		return -EIO;
	encode(marker, bytes);
	err = write_file(dir, APPLY_MARKER_NAME ".new", bytes, sizeof(bytes));
	if (err)
		return err;
	if (fault_at("marker.rename"))
		return -EIO;
	if (renameat(dir, APPLY_MARKER_NAME ".new", dir, APPLY_MARKER_NAME))
		return -errno;
	return fsync(dir) ? -errno : 0;
}

int apply_marker_remove(const char *state_dir)
{
	cleanup_close int dir = open_dir(state_dir);

	if (dir < 0)
		return dir;
	if (fault_at("marker.remove"))
		return -EIO;
	if (unlinkat(dir, APPLY_MARKER_NAME, 0) && errno != ENOENT)
		return -errno;
	return fsync(dir) ? -errno : 0;
}
