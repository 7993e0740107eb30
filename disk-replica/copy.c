/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h: a cursor that walks over all disks. Its only state between two calls is where
 * it is: that is what the argument in the header rests on.
 */
#include "disk-replica/copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/bitmap.h"
#include "base/file.h"

#define COPY_GRANULE (64u << 10) /* zeroes shorter than this travel as data */
#define COPY_ALIGN   4096u

struct copy_disk {
	int fd;
	uint64_t bytes; /* 0: it is not copied */
	bool sparse;	/* SEEK_DATA works */
};

struct copy {
	struct copy_disk disks[DISK_MAX];
	unsigned int nr_disks;
	unsigned int disk; /* where the copy is */
	uint64_t offset;
	uint64_t done;
	uint64_t total;
	uint8_t *buffer; /* DISK_DATA_MAX */
	bool partial;
	struct region_sets only; /* when partial */
};

static int size_of(int fd, uint64_t *ret_bytes, bool *ret_file)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret_file = S_ISREG(st.st_mode);
	if (*ret_file) {
		*ret_bytes = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	return ioctl(fd, BLKGETSIZE64, ret_bytes) ? -errno : 0;
}

static int open_disk(const struct disk_info *info, struct copy_disk *ret, struct reason *why)
{
	/* Not to wait for a writer, should the path be a pipe. */
	cleanup_close int fd = open(info->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	uint64_t bytes = 0;
	bool file = false;
	int err;

	if (fd < 0)
		return reason_set(why, errno, "%s: %s", info->path, strerrordesc_np(errno));
	err = size_of(fd, &bytes, &file);
	if (err)
		return reason_set(why, -err, "%s: neither a file nor a block device", info->path);
	if (bytes < info->bytes)
		return reason_set(why, EINVAL, "%s has %llu bytes, the disk has %llu", info->path,
				  (unsigned long long)bytes, (unsigned long long)info->bytes);
	*ret = (struct copy_disk){ .fd = take_fd(&fd), .bytes = info->bytes, .sparse = file };
	return 0;
}

int copy_open(const struct disk_info *disks, unsigned int nr_disks, struct copy **ret,
	      struct reason *why)
{
	struct copy *c;
	int err = 0;

	if (nr_disks > DISK_MAX)
		return reason_set(why, EINVAL, "%u disks, the limit is %u", nr_disks, DISK_MAX);
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->buffer = aligned_alloc(COPY_ALIGN, DISK_DATA_MAX);
	if (!c->buffer)
		err = -ENOMEM;
	for (unsigned int i = 0; i < nr_disks && !err; i++) {
		c->disks[i].fd = -1;
		if (!disk_is_drbd(&disks[i]))
			err = open_disk(&disks[i], &c->disks[i], why);
		if (!err) {
			c->nr_disks++;
			c->total += c->disks[i].bytes;
		}
	}
	if (err) {
		copy_close(c);
		return err;
	}
	*ret = c;
	return 0;
}

void copy_close(struct copy *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < c->nr_disks; i++)
		err_close_fd(&c->disks[i].fd);
	region_sets_close(&c->only);
	free(c->buffer);
	free(c);
}

void copy_only(struct copy *c, struct region_sets *sets)
{
	assert(sets->nr_disks == c->nr_disks && !c->done);
	c->only = *sets;
	*sets = (struct region_sets){ 0 };
	for (unsigned int i = 0; i < c->nr_disks; i++)
		if (!c->disks[i].bytes)
			memset(c->only.bits[i], 0,
			       bitmap_bytes(region_count(c->only.disk_bytes[i])));
	c->partial = true;
	c->total = region_sets_bytes(&c->only);
}

/* How far the hole at `offset` reaches, 0 when there is data there. */
static uint64_t hole_length(struct copy_disk *d, uint64_t offset)
{
	off_t data;

	if (!d->sparse)
		return 0;
	data = lseek(d->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return d->bytes - offset;
	if (data < 0) {
		d->sparse = false; /* the filesystem cannot tell: read everything */
		return 0;
	}
	return MIN((uint64_t)data, d->bytes) - offset;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* The bytes from the start that are alike: all granules zero, or none. */
static size_t leading_run(const uint8_t *p, size_t len, bool *ret_zero)
{
	size_t n = MIN(len, (size_t)COPY_GRANULE);
	bool zero = is_zero(p, n);

	while (n < len) {
		size_t granule = MIN(len - n, (size_t)COPY_GRANULE);

		if (is_zero(p + n, granule) != zero)
			break;
		n += granule;
	}
	*ret_zero = zero;
	return n;
}

static int next_data(struct copy *c, struct disk_record *r, uint64_t limit, struct reason *why)
{
	struct copy_disk *d = &c->disks[c->disk];
	size_t len = (size_t)MIN(limit, (uint64_t)DISK_DATA_MAX);
	bool zero;
	int err = file_read_at(d->fd, c->buffer, len, c->offset);

	if (err)
		return reason_set(why, -err, "reading %zu bytes at %llu of disk %u: %s", len,
				  (unsigned long long)c->offset, c->disk, strerrordesc_np(-err));
	r->length = leading_run(c->buffer, len, &zero);
	r->op = zero ? CONTROL_DISK_ZEROES : CONTROL_DISK_WRITE;
	r->data = zero ? NULL : c->buffer;
	return 0;
}

/* To where something is to be copied; how far that reaches, 0: the disk is done. */
static uint64_t seek(struct copy *c)
{
	const struct copy_disk *d = &c->disks[c->disk];
	const uint64_t *bits = c->only.bits[c->disk];
	unsigned int shift = region_shift(d->bytes);
	uint64_t count = region_count(d->bytes), region, end;

	if (c->partial && c->offset < d->bytes) {
		region = bitmap_next(bits, count, c->offset >> shift);
		if (region > c->offset >> shift)
			c->offset = MIN(region << shift, d->bytes);
		for (end = region; end < count && bitmap_test(bits, end); end++)
			if ((end - region) << shift > DISK_ZEROES_MAX)
				break;
		return MIN(end << shift, d->bytes) - c->offset;
	}
	return d->bytes - c->offset;
}

int copy_next(struct copy *c, struct disk_record *ret, struct reason *why)
{
	struct disk_record r = { .op = CONTROL_DISK_ZEROES };
	uint64_t limit = 0;
	int err;

	while (c->disk < c->nr_disks && !(limit = seek(c))) {
		c->disk++;
		c->offset = 0;
	}
	if (c->disk == c->nr_disks)
		return -ENODATA;
	r.disk = (uint16_t)c->disk;
	r.offset = c->offset;
	r.length = MIN(hole_length(&c->disks[c->disk], c->offset), DISK_ZEROES_MAX);
	r.length = MIN(r.length, limit);
	if (!r.length) {
		err = next_data(c, &r, limit, why);
		if (err)
			return err;
	}
	c->offset += r.length;
	c->done += r.length;
	*ret = r;
	return 0;
}

int copy_read(const struct copy *c, unsigned int disk, uint64_t offset, void *ret, size_t len)
{
	return disk < c->nr_disks ? file_read_at(c->disks[disk].fd, ret, len, offset) : -EINVAL;
}

uint64_t copy_done_bytes(const struct copy *c)
{
	return c->done;
}

void copy_position(const struct copy *c, unsigned int *ret_disk, uint64_t *ret_offset)
{
	*ret_disk = c->disk;
	*ret_offset = c->offset;
}

uint64_t copy_total_bytes(const struct copy *c)
{
	return c->total;
}
