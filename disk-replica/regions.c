/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/regions.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"

#define NAME_NEW REGIONS_NAME ".new"

static int open_dir(const char *state_dir)
{
	int fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void regions_boot_id(uint8_t ret[REGION_BOOT_BYTES])
{
	char text[40] = "";
	cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned int n = 0;

	memset(ret, 0, REGION_BOOT_BYTES);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 36)
		return;
	for (const char *c = text; *c && n < REGION_BOOT_BYTES; c += 2) {
		unsigned int byte;

		c += *c == '-';
		if (sscanf(c, "%2x", &byte) != 1)
			return;
		ret[n++] = (uint8_t)byte;
	}
}

/* --- making --------------------------------------------------------------------------- */

static int write_head(int fd, const struct region_header *h)
{
	struct region_stamp stamp = { .state = REGION_OPEN };
	uint8_t block[REGION_BLOCK_BYTES];
	int err;

	region_header_encode(h, block);
	err = region_block_write(fd, 0, block);
	if (err)
		return err;
	regions_boot_id(stamp.boot);
	region_stamp_encode(h, &stamp, block);
	return region_block_write(fd, REGION_STAMP_OFFSET, block);
}

static int write_file(int dir, const struct region_header *h, const struct region_sets *sets)
{
	cleanup_close int fd =
		openat(dir, NAME_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err;

	if (fd < 0)
		return -errno;
	err = fault_at("regions.create") ? -EIO : write_head(fd, h);
	if (!err)
		err = region_bits_write(fd, h, sets->bits);
	if (!err && fsync(fd))
		err = -errno;
	return err;
}

int regions_create(const char *state_dir, const struct region_header *like,
		   const struct disk_info *disks, unsigned int nr_disks, bool full)
{
	struct region_header h = { .generation = like->generation,
				   .wall_ns = clock_wall_ns(),
				   .nr_disks = nr_disks };
	cleanup_close int dir = open_dir(state_dir);
	struct region_sets sets;
	int err;

	if (dir < 0)
		return dir;
	memcpy(h.token, like->token, sizeof(h.token));
	snprintf(h.peer, sizeof(h.peer), "%s", like->peer);
	for (unsigned int i = 0; i < nr_disks; i++)
		h.disk_bytes[i] = disks[i].bytes;
	err = region_sets_open(&sets, h.disk_bytes, nr_disks);
	if (err)
		return err;
	if (full)
		region_sets_fill(&sets);
	err = write_file(dir, &h, &sets);
	if (!err && fault_at("regions.rename"))
		err = -EIO;
	if (!err && renameat(dir, NAME_NEW, dir, REGIONS_NAME))
		err = -errno;
	if (!err && fsync(dir))
		err = -errno;
	region_sets_close(&sets);
	return err;
}

int regions_remove(const char *state_dir)
{
	cleanup_close int dir = open_dir(state_dir);

	if (dir < 0)
		return dir;
	if (unlinkat(dir, REGIONS_NAME, 0) && errno != ENOENT)
		return -errno;
	return fsync(dir) ? -errno : 0;
}

int regions_open_fd(const char *state_dir)
{
	cleanup_close int dir = open_dir(state_dir);
	int fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, REGIONS_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* --- reading -------------------------------------------------------------------------- */

static int read_head(int fd, struct region_header *ret, struct region_stamp *ret_stamp,
		     struct reason *why)
{
	uint8_t block[REGION_BLOCK_BYTES];
	int err = region_block_read(fd, 0, block);

	if (!err)
		err = region_header_decode(block, ret, why);
	if (err)
		return err == -EBADMSG ? err
				       : reason_set(why, EBADMSG, "the region file cannot be read");
	if (region_block_read(fd, REGION_STAMP_OFFSET, block))
		return reason_set(why, EBADMSG, "the region file is cut short");
	region_stamp_decode(ret, block, ret_stamp);
	return 0;
}

int regions_read(const char *state_dir, struct regions *ret, struct reason *why)
{
	cleanup_close int fd = regions_open_fd(state_dir);
	struct regions r = { 0 };
	int err;

	if (fd == -ENOENT)
		return reason_set(why, ENOENT, "there is no region file");
	if (fd < 0)
		return reason_set(why, EBADMSG, "the region file: %s", strerror(-fd));
	err = read_head(fd, &r.header, &r.stamp, why);
	if (!err)
		err = region_sets_open(&r.sets, r.header.disk_bytes, r.header.nr_disks);
	if (err)
		return err;
	if (region_bits_read(fd, &r.header, r.sets.bits, &r.torn)) {
		regions_close(&r);
		return reason_set(why, EBADMSG, "the region file is cut short");
	}
	*ret = r;
	return 0;
}

void regions_close(struct regions *r)
{
	region_sets_close(&r->sets);
}

int regions_stamp_open(const char *state_dir)
{
	cleanup_close int fd = regions_open_fd(state_dir);
	struct region_header h;
	struct region_stamp stamp;
	int err = fd < 0 ? fd : read_head(fd, &h, &stamp, NULL);

	if (!err)
		err = write_head(fd, &h);
	if (!err && fdatasync(fd))
		err = -errno;
	return err;
}

/* --- the disks ------------------------------------------------------------------------ */

static int look_at(const struct disk_info *disk, struct region_look *ret)
{
	cleanup_close int fd = open(disk->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : region_look_take(fd, ret);
}

int regions_stamp_closed(struct region_stamp *ret, const struct disk_info *disks,
			 unsigned int nr_disks)
{
	struct region_stamp s = { .state = REGION_CLOSED, .nr_disks = nr_disks };

	regions_boot_id(s.boot);
	for (unsigned int i = 0; i < nr_disks; i++) {
		int err = disk_is_drbd(&disks[i]) ? 0 : look_at(&disks[i], &s.look[i]);

		if (err)
			return err;
	}
	*ret = s;
	return 0;
}

/* After a crash of the host nobody wrote before it was up again; of one process, its own
 * last writes cannot be told from another's. */
static bool changed_since_boot(const struct region_stamp *stamp, const struct region_look *now)
{
	uint8_t boot[REGION_BOOT_BYTES];

	regions_boot_id(boot);
	return memcmp(boot, stamp->boot, sizeof(boot)) &&
	       now->mtime_ns > clock_wall_ns() - clock_now_ns();
}

static int check_disk(const struct region_stamp *stamp, unsigned int i,
		      const struct disk_info *disk, struct reason *why)
{
	struct region_look now = { 0 };
	const struct region_look *then = &stamp->look[i];

	if (look_at(disk, &now))
		return reason_set(why, ESTALE, "disk %s cannot be looked at", disk->path);
	if (stamp->state == REGION_OPEN)
		return changed_since_boot(stamp, &now)
			       ? reason_set(why, ESTALE,
					    "disk %s was written by somebody else since this "
					    "host came up",
					    disk->path)
			       : 0;
	if (i >= stamp->nr_disks || now.bytes != then->bytes)
		return reason_set(why, ESTALE, "disk %s has another size than before", disk->path);
	if (now.inode != then->inode)
		return reason_set(why, ESTALE, "disk %s is another file than before", disk->path);
	if (now.mtime_ns != then->mtime_ns)
		return reason_set(why, ESTALE, "disk %s was written by somebody else since",
				  disk->path);
	return 0;
}

int regions_check_disks(const struct region_stamp *stamp, const struct disk_info *disks,
			unsigned int nr_disks, struct reason *why)
{
	for (unsigned int i = 0; i < nr_disks; i++) {
		int err = disk_is_drbd(&disks[i]) ? 0 : check_disk(stamp, i, &disks[i], why);

		if (err)
			return err;
	}
	return 0;
}
