/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/log_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cursor.h"
#include "base/fault.h"
#include "base/file.h"
#include "disk-replica/log.h"

#define CHECKED_BYTES (LOG_FILE_HEADER_BYTES - 8u)

static void encode(const struct log_file *f, const struct log_file_tail *tail, uint64_t sequence,
		   uint8_t ret[LOG_FILE_HEADER_BYTES])
{
	struct cursor c = cursor_over(ret, LOG_FILE_HEADER_BYTES);
	const struct log_file_info *i = &f->info;

	cursor_put_u32(&c, LOG_FILE_MAGIC);
	cursor_put_u16(&c, LOG_FILE_VERSION);
	cursor_put_u16(&c, (uint16_t)i->nr_disks);
	cursor_put_bytes(&c, i->uuid, sizeof(i->uuid));
	cursor_put_u64(&c, i->generation);
	cursor_put_u64(&c, i->key);
	cursor_put_u64(&c, i->limit);
	cursor_put_u64(&c, sequence);
	cursor_put_u64(&c, tail->position);
	cursor_put_u64(&c, tail->epoch);
	for (unsigned int n = 0; n < DISK_MAX; n++)
		cursor_put_u64(&c, n < i->nr_disks ? i->bytes[n] : 0);
	cursor_put_bytes(&c, (const uint8_t[16]){ 0 }, 16);
	cursor_put_u64(&c, XXH3_64bits(ret, CHECKED_BYTES));
	assert(cursor_done(&c));
}

static int decode(const uint8_t bytes[LOG_FILE_HEADER_BYTES], struct log_file *ret)
{
	struct cursor c = cursor_over(bytes, LOG_FILE_HEADER_BYTES);
	struct log_file f = { .fd = ret->fd };
	struct log_file_info *i = &f.info;
	uint32_t magic = cursor_get_u32(&c);
	uint16_t version = cursor_get_u16(&c);

	i->nr_disks = cursor_get_u16(&c);
	cursor_get_bytes(&c, i->uuid, sizeof(i->uuid));
	i->generation = cursor_get_u64(&c);
	i->key = cursor_get_u64(&c);
	i->limit = cursor_get_u64(&c);
	f.sequence = cursor_get_u64(&c);
	f.tail.position = cursor_get_u64(&c);
	f.tail.epoch = cursor_get_u64(&c);
	for (unsigned int n = 0; n < DISK_MAX; n++)
		i->bytes[n] = cursor_get_u64(&c);
	cursor_get_view(&c, 16);
	if (cursor_get_u64(&c) != XXH3_64bits(bytes, CHECKED_BYTES) || magic != LOG_FILE_MAGIC ||
	    version != LOG_FILE_VERSION || i->nr_disks > DISK_MAX || i->limit < DISK_LOG_MIN ||
	    i->limit > DISK_LOG_MAX || i->limit % LOG_FILE_SLOT || f.tail.position % 64 ||
	    f.tail.position > UINT64_MAX / 2 || f.tail.epoch > UINT64_MAX / 2)
		return -EBADMSG;
	*ret = f;
	return 0;
}

static int write_header(struct log_file *f, const struct log_file_tail *tail)
{
	uint8_t bytes[LOG_FILE_HEADER_BYTES];
	uint64_t sequence = f->sequence + 1;
	int err;

	encode(f, tail, sequence, bytes);
	err = file_write_at(f->fd, bytes, sizeof(bytes), sequence % 2 * LOG_FILE_SLOT);
	if (!err)
		f->sequence = sequence;
	return err;
}

static int lock(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_OFD_SETLK, &l))
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static int allocate(struct log_file *f)
{
	if (fault_at("log.allocate"))
		return -ENOSPC;
	return -posix_fallocate(f->fd, 0, (off_t)(LOG_FILE_DATA + f->info.limit));
}

static int fill_new(struct log_file *f, int dir)
{
	int err = allocate(f);

	if (!err && getrandom(&f->info.key, sizeof(f->info.key), 0) != sizeof(f->info.key))
		err = -EIO;
	if (!err && fault_at("log.header"))
		err = -EIO;
	if (!err)
		err = write_header(f, &f->tail);
	if (!err)
		err = write_header(f, &f->tail);
	if (!err && fsync(f->fd))
		err = -errno;
	if (!err && fault_at("log.rename"))
		err = -EIO;
	if (!err && renameat(dir, LOG_FILE_NAME ".new", dir, LOG_FILE_NAME))
		err = -errno;
	if (!err && fsync(dir))
		err = -errno;
	return err;
}

static int create_in(int dir, struct log_file *f)
{
	int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
	int err;

	if (fault_at("log.create"))
		return -EIO;
	f->fd = openat(dir, LOG_FILE_NAME ".new", flags, 0600);
	if (f->fd < 0)
		return -errno;
	err = lock(f->fd);
	if (!err)
		err = fill_new(f, dir);
	if (err)
		unlinkat(dir, LOG_FILE_NAME ".new", 0);
	return err;
}

int log_file_create(const char *state_dir, const struct log_file_info *info, struct log_file **ret,
		    struct reason *why)
{
	cleanup_close int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct log_file *f = calloc(1, sizeof(*f));
	int err = dir < 0 ? -errno : 0;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	f->info = *info;
	f->tail.epoch = 1;
	if (!err)
		err = create_in(dir, f);
	if (err) {
		log_file_close(f);
		return reason_set(why, -err, "%s/%s of %llu bytes cannot be made: %s", state_dir,
				  LOG_FILE_NAME, (unsigned long long)info->limit,
				  strerrordesc_np(-err));
	}
	*ret = f;
	return 0;
}

/* The newer of the two headers. */
static int read_headers(struct log_file *f)
{
	uint8_t bytes[LOG_FILE_HEADER_BYTES];
	bool found = false;

	for (unsigned int i = 0; i < 2; i++) {
		struct log_file other = { .fd = f->fd };
		ssize_t n = pread(f->fd, bytes, sizeof(bytes), i * LOG_FILE_SLOT);

		if (n < 0)
			return -errno;
		if (n != sizeof(bytes) || decode(bytes, &other) || other.sequence % 2 != i)
			continue;
		if (!found || other.sequence > f->sequence)
			*f = other;
		found = true;
	}
	return found ? 0 : -EBADMSG;
}

static int open_in(int dir, struct log_file *f)
{
	struct stat st;
	int err;

	f->fd = openat(dir, LOG_FILE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd < 0)
		return -errno;
	err = lock(f->fd);
	if (!err)
		err = read_headers(f);
	if (!err && fstat(f->fd, &st))
		err = -errno;
	if (!err && (uint64_t)st.st_size < LOG_FILE_DATA + f->info.limit)
		err = -EBADMSG;
	return err;
}

int log_file_open(const char *state_dir, struct log_file **ret, struct reason *why)
{
	cleanup_close int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct log_file *f = calloc(1, sizeof(*f));
	int err = dir < 0 ? -errno : 0;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	if (!err)
		err = open_in(dir, f);
	if (err) {
		log_file_close(f);
		return reason_set(why, -err, "%s/%s: %s", state_dir, LOG_FILE_NAME,
				  err == -EBADMSG ? "truncated, corrupt or no disk log"
				  : err == -EBUSY ? "in use by another process"
						  : strerrordesc_np(-err));
	}
	*ret = f;
	return 0;
}

void log_file_close(struct log_file *f)
{
	if (!f)
		return;
	err_close_fd(&f->fd);
	free(f);
}

int log_file_remove(const char *state_dir)
{
	cleanup_close int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	if (unlinkat(dir, LOG_FILE_NAME, 0))
		return errno == ENOENT ? 0 : -errno;
	return fsync(dir) ? -errno : 0;
}

int log_file_write(struct log_file *f, uint64_t position, const void *data, size_t len, bool seal)
{
	uint64_t at = LOG_FILE_DATA + position % f->info.limit;
	int err;

	if (fault_at("log.write") || (seal && fault_at("log.seal")))
		return -EIO;
	err = file_write_at(f->fd, data, len, at);
	/* So that the sync finds little left to do. What it cannot start, the sync does. */
	if (!err && !seal)
		(void)sync_file_range(f->fd, (off_t)at, (off_t)len, SYNC_FILE_RANGE_WRITE);
	return err;
}

int log_file_read(const struct log_file *f, uint64_t position, void *ret, size_t len)
{
	uint8_t *to = ret;
	uint64_t at = LOG_FILE_DATA + position % f->info.limit;

	while (len) {
		ssize_t n = pread(f->fd, to, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		to += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

int log_file_sync(struct log_file *f)
{
	if (fault_at("log.sync"))
		return -EIO;
	return fdatasync(f->fd) ? -errno : 0;
}

int log_file_set_tail(struct log_file *f, const struct log_file_tail *tail)
{
	int err;

	if (fault_at("log.tail"))
		return -EIO;
	err = write_header(f, tail);
	if (!err && fault_at("log.tail_sync"))
		return -EIO;
	if (!err && fdatasync(f->fd))
		err = -errno;
	if (!err)
		f->tail = *tail;
	return err;
}
