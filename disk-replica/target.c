/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/target.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fault.h"
#include "base/file.h"

#define SLOW_NS (20L * 1000 * 1000) /* what disk.slow adds to a change */

static const uint8_t zeroes[256 << 10];

static int check_size(int fd, const struct stat *st, const struct disk_info *info,
		      struct reason *why)
{
	uint64_t bytes = (uint64_t)st->st_size;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &bytes))
		return reason_set(why, errno, "%s: its size cannot be read", info->path);
	if (bytes < info->bytes)
		return reason_set(why, EFBIG, "%s has %llu bytes, the primary's disk has %llu",
				  info->path, (unsigned long long)bytes,
				  (unsigned long long)info->bytes);
	return 0;
}

static int lock_exclusively(int fd, const char *path, struct reason *why)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return reason_set(why, EBUSY, "%s is in use by another process", path);
	return reason_set(why, errno, "%s cannot be locked: %s", path, strerrordesc_np(errno));
}

int target_open(const struct disk_info *info, struct target *ret, struct reason *why)
{
	cleanup_close int fd = -1;
	int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK;
	struct stat st;
	int err;

	if (stat(info->path, &st))
		return reason_set(why, errno, "%s: %s", info->path, strerrordesc_np(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return reason_set(why, EINVAL, "%s is neither a file nor a block device",
				  info->path);
	/* A block device that is mounted or claimed otherwise refuses O_EXCL. */
	fd = open(info->path, S_ISBLK(st.st_mode) ? flags | O_EXCL : flags);
	if (fd < 0)
		return reason_set(why, errno, "%s: %s", info->path, strerrordesc_np(errno));
	if (fstat(fd, &st))
		return -errno;
	err = check_size(fd, &st, info, why);
	if (!err)
		err = lock_exclusively(fd, info->path, why);
	if (err)
		return err;
	ret->fd = take_fd(&fd);
	return 0;
}

void target_close(struct target *t)
{
	err_close_fd(&t->fd);
	t->fd = -1;
}

static int injected(void)
{
	if (fault_at("disk.slow"))
		nanosleep(&(struct timespec){ .tv_nsec = SLOW_NS }, NULL);
	if (fault_at("disk.apply"))
		return -EIO;
	return fault_at("disk.space") ? -ENOSPC : 0;
}

int target_write(const struct target *t, uint64_t offset, const void *data, size_t len)
{
	int err = injected();

	return err ? err : file_write_at(t->fd, data, len, offset);
}

static bool cannot(int err)
{
	return err == EOPNOTSUPP || err == ENOSYS || err == EINVAL || err == ENODEV;
}

int target_zero(const struct target *t, uint64_t offset, uint64_t len)
{
	static const int ways[] = { FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE };
	int err = injected();

	if (err)
		return err;
	for (unsigned int i = 0; i < ARRAY_SIZE(ways); i++) {
		int mode = ways[i] | FALLOC_FL_KEEP_SIZE;
		int failed;

		do
			failed = fallocate(t->fd, mode, (off_t)offset, (off_t)len);
		while (failed && errno == EINTR);
		if (!failed)
			return 0;
		if (!cannot(errno))
			return -errno;
	}
	while (len && !err) {
		size_t n = (size_t)MIN(len, (uint64_t)sizeof(zeroes));

		err = file_write_at(t->fd, zeroes, n, offset);
		offset += n;
		len -= n;
	}
	return err;
}

int target_read(const struct target *t, uint64_t offset, void *ret, size_t len)
{
	(void)posix_fadvise(t->fd, (off_t)offset, (off_t)len, POSIX_FADV_DONTNEED);
	return file_read_at(t->fd, ret, len, offset);
}

int target_flush(const struct target *t)
{
	if (fault_at("disk.flush"))
		return -EIO;
	return fdatasync(t->fd) ? -errno : 0;
}

int target_change(const struct target *t, const struct disk_record *r)
{
	switch (r->op) {
	case CONTROL_DISK_WRITE:
		return target_write(t, r->offset, r->data, (size_t)r->length);
	case CONTROL_DISK_DISCARD:
	case CONTROL_DISK_ZEROES:
		return target_zero(t, r->offset, r->length);
	case CONTROL_DISK_FLUSH:
		return target_flush(t);
	}
	return -EPROTO;
}
