/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk's bytes on the host, through the page cache. fallocate(2) serves files and, since
 * Linux 4.9, block devices alike.
 */
#include "hypervisor/vmm/blk_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fault.h"
#include "base/file.h"

#define SECTOR_BYTES 512u

static int measure(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode)) {
		*ret = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	return ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
}

int blk_file_open(struct blk_file *ret, const char *path, bool readonly, struct reason *why)
{
	/* O_NONBLOCK: a path that turns out to be a FIFO must not hang us. */
	cleanup_close int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	uint64_t bytes = 0;
	int err;

	if (fd < 0)
		return reason_set(why, errno, "disk %s: %s", path, strerror(errno));
	err = measure(fd, &bytes);
	if (err == -EINVAL)
		return reason_set(why, EINVAL, "disk %s is neither a file nor a block device",
				  path);
	if (err)
		return reason_set(why, -err, "disk %s: %s", path, strerror(-err));
	if (!bytes || bytes % SECTOR_BYTES)
		return reason_set(why, EINVAL, "disk %s has %llu bytes, not a multiple of %u", path,
				  (unsigned long long)bytes, SECTOR_BYTES);
	*ret = (struct blk_file){ .fd = take_fd(&fd), .bytes = bytes, .readonly = readonly };
	return 0;
}

int blk_file_foresee(struct blk_file *ret, const char *path, bool readonly, struct reason *why)
{
	unsigned long long sectors = 0;
	struct stat st;
	char name[64];
	FILE *f;

	if (stat(path, &st) < 0)
		return reason_set(why, errno, "disk %s: %s", path, strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return reason_set(why, EINVAL, "disk %s is no block device", path);
	snprintf(name, sizeof(name), "/sys/dev/block/%u:%u/size", major(st.st_rdev),
		 minor(st.st_rdev));
	f = fopen(name, "re");
	if (!f || fscanf(f, "%llu", &sectors) != 1)
		sectors = 0;
	if (f)
		fclose(f);
	if (!sectors)
		return reason_set(why, ENODEV, "disk %s has no size yet", path);
	*ret = (struct blk_file){ .fd = -1, .bytes = sectors * SECTOR_BYTES, .readonly = readonly };
	return 0;
}

int blk_file_give(struct blk_file *f, int fd, struct reason *why)
{
	uint64_t bytes = 0;
	int err = measure(fd, &bytes);

	if (!err && bytes == f->bytes) {
		f->fd = fd;
		return 0;
	}
	close(fd);
	if (err)
		return reason_set(why, -err, "the disk given: %s", strerror(-err));
	return reason_set(why, EINVAL, "the disk given has %llu bytes, not %llu",
			  (unsigned long long)bytes, (unsigned long long)f->bytes);
}

void blk_file_close(struct blk_file *f)
{
	err_close_fd(&f->fd);
	f->fd = -1;
}

int blk_file_lock(struct blk_file *f)
{
	struct flock lock = { .l_type = f->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(f->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

void blk_file_unlock(struct blk_file *f)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(f->fd, F_OFD_SETLK, &lock);
}

int blk_file_read(const struct blk_file *f, uint64_t offset, void *ret, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(f->fd, (uint8_t *)ret + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int blk_file_write(const struct blk_file *f, uint64_t offset, const void *src, size_t len)
{
	int err;

	if (!fault_at("blk.torn"))
		return file_write_at(f->fd, src, len, offset);
	err = file_write_at(f->fd, src, len / 2, offset);
	return err ? err : -EIO;
}

int blk_file_flush(const struct blk_file *f)
{
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int allocate(const struct blk_file *f, int mode, uint64_t offset, uint64_t len)
{
	int err;

	do {
		err = fallocate(f->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	} while (err < 0 && errno == EINTR);
	return err < 0 ? -errno : 0;
}

int blk_file_discard(const struct blk_file *f, uint64_t offset, uint64_t len)
{
	return allocate(f, FALLOC_FL_PUNCH_HOLE, offset, len);
}

int blk_file_zero_range(const struct blk_file *f, uint64_t offset, uint64_t len)
{
	return allocate(f, FALLOC_FL_ZERO_RANGE, offset, len);
}

int blk_file_zero(const struct blk_file *f, uint64_t offset, uint64_t len)
{
	static const uint8_t zeros[65536];
	int err = blk_file_zero_range(f, offset, len);

	if (err == -EOPNOTSUPP)
		err = allocate(f, FALLOC_FL_PUNCH_HOLE, offset, len);
	if (err != -EOPNOTSUPP)
		return err;
	for (err = 0; !err && len;) {
		size_t n = (size_t)MIN(len, sizeof(zeros));

		err = blk_file_write(f, offset, zeros, n);
		offset += n;
		len -= n;
	}
	return err;
}
