/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/regions.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"

#define NAME_MAX_BYTES 24u

/* A stale ".new" is written over. */
struct name {
	char text[NAME_MAX_BYTES], fresh[NAME_MAX_BYTES];
};

static struct name name_of(int disk)
{
	struct name n;

	if (disk == REGIONS_OWN)
		snprintf(n.text, sizeof(n.text), REGIONS_NAME);
	else
		snprintf(n.text, sizeof(n.text), REGIONS_NAME ".%u", (unsigned int)disk % DISK_MAX);
	snprintf(n.fresh, sizeof(n.fresh), "%.16s.new", n.text);
	return n;
}

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

static int write_file(int dir, const char *name, const struct region_header *h,
		      const struct region_sets *sets)
{
	cleanup_close int fd =
		openat(dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
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

/* A file of these disks, in the place of the one before. */
static int replace(int dir, int disk, const struct region_header *h, bool full)
{
	const struct name name = name_of(disk);
	struct region_sets sets;
	int err = region_sets_open(&sets, h->disk_bytes, h->nr_disks);

	if (err)
		return err;
	if (full)
		region_sets_fill(&sets);
	err = write_file(dir, name.fresh, h, &sets);
	if (!err && fault_at("regions.rename"))
		err = -EIO;
	if (!err && renameat(dir, name.fresh, dir, name.text))
		err = -errno;
	if (!err && fsync(dir))
		err = -errno;
	region_sets_close(&sets);
	return err;
}

static struct region_header header_like(const struct region_header *like,
					const struct disk_info *disks, unsigned int nr_disks)
{
	struct region_header h = { .generation = like->generation,
				   .wall_ns = clock_wall_ns(),
				   .nr_disks = nr_disks };

	memcpy(h.token, like->token, sizeof(h.token));
	snprintf(h.peer, sizeof(h.peer), "%s", like->peer);
	for (unsigned int i = 0; i < nr_disks; i++)
		h.disk_bytes[i] = disks[i].bytes;
	return h;
}

static int create_served(int dir, const struct region_header *like, const struct disk_info *disk,
			 int number, bool full)
{
	struct region_header h = header_like(like, disk, 1);

	return replace(dir, number, &h, full);
}

int regions_create_served(const char *state_dir, const struct region_header *like,
			  const struct disk_info *disk, int number)
{
	cleanup_close int dir = open_dir(state_dir);

	return dir < 0 ? dir : create_served(dir, like, disk, number, true);
}

/* The first file last: with a new token, the others count as all ones until it is there. */
int regions_create(const char *state_dir, const struct region_header *like,
		   const struct disk_info *disks, unsigned int nr_disks, bool full)
{
	struct region_header h = header_like(like, disks, nr_disks);
	cleanup_close int dir = open_dir(state_dir);
	int err = 0;

	if (dir < 0)
		return dir;
	for (unsigned int i = 0; i < nr_disks && !err; i++)
		if (disks[i].served)
			err = create_served(dir, like, &disks[i], (int)i, full);
	return err ? err : replace(dir, REGIONS_OWN, &h, full);
}

static int remove_one(const char *state_dir, int disk)
{
	const struct name name = name_of(disk);
	cleanup_close int dir = open_dir(state_dir);

	if (dir < 0)
		return dir;
	if (unlinkat(dir, name.text, 0) && errno != ENOENT)
		return -errno;
	return fsync(dir) ? -errno : 0;
}

/* Nobody looks at a served disk's without it. */
int regions_remove(const char *state_dir)
{
	return remove_one(state_dir, REGIONS_OWN);
}

int regions_remove_served(const char *state_dir, int disk)
{
	return remove_one(state_dir, disk);
}

int regions_open_fd(const char *state_dir, int disk)
{
	const struct name name = name_of(disk);
	cleanup_close int dir = open_dir(state_dir);
	int fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, name.text, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* --- reading -------------------------------------------------------------------------- */

static bool read_bits(int fd, struct regions *r, uint64_t *const bits[],
		      const struct region_header *h)
{
	return !region_bits_read(fd, h, bits, &r->torn);
}

/* A served disk's own file, if there is one that goes by the token. */
static bool take_served(const char *state_dir, unsigned int disk, struct regions *r)
{
	cleanup_close int fd = regions_open_fd(state_dir, (int)disk);
	uint64_t *const bits[] = { r->sets.bits[disk] };
	struct region_header h;
	struct region_stamp stamp;

	if (fd < 0 || region_head_read(fd, &h, &stamp, NULL) || h.nr_disks != 1 ||
	    h.disk_bytes[0] != r->header.disk_bytes[disk] ||
	    memcmp(h.token, r->header.token, sizeof(h.token)) || !read_bits(fd, r, bits, &h))
		return false;
	r->served[disk] = stamp;
	return true;
}

int regions_read(const char *state_dir, const struct disk_info *disks, unsigned int nr_disks,
		 struct regions *ret, struct reason *why)
{
	cleanup_close int fd = regions_open_fd(state_dir, REGIONS_OWN);
	struct regions r = { 0 };
	int err;

	if (fd == -ENOENT)
		return reason_set(why, ENOENT, "there is no region file");
	if (fd < 0)
		return reason_set(why, EBADMSG, "the region file: %s", strerror(-fd));
	err = region_head_read(fd, &r.header, &r.stamp, why);
	if (!err)
		err = region_sets_open(&r.sets, r.header.disk_bytes, r.header.nr_disks);
	if (err)
		return err;
	if (!read_bits(fd, &r, r.sets.bits, &r.header)) {
		regions_close(&r);
		return reason_set(why, EBADMSG, "the region file is cut short");
	}
	for (unsigned int i = 0; i < MIN(nr_disks, r.header.nr_disks); i++)
		if (disks[i].served && !take_served(state_dir, i, &r))
			region_sets_fill_disk(&r.sets, i);
	*ret = r;
	return 0;
}

void regions_close(struct regions *r)
{
	region_sets_close(&r->sets);
}

static int stamp_open(const char *state_dir, int disk)
{
	cleanup_close int fd = regions_open_fd(state_dir, disk);
	struct region_header h;
	struct region_stamp stamp;
	int err = fd < 0 ? fd : region_head_read(fd, &h, &stamp, NULL);

	if (!err)
		err = write_head(fd, &h);
	if (!err && fdatasync(fd))
		err = -errno;
	return err;
}

int regions_stamp_open(const char *state_dir)
{
	int err = stamp_open(state_dir, REGIONS_OWN);

	for (int i = 0; i < (int)DISK_MAX && !err; i++) {
		err = stamp_open(state_dir, i);
		err = err == -ENOENT ? 0 : err;
	}
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

/* The stamp's i-th disk. */
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

int regions_check(const struct regions *r, const struct disk_info *disks, unsigned int nr_disks,
		  struct reason *why)
{
	int err = 0;

	for (unsigned int i = 0; i < nr_disks && !err; i++) {
		if (!disks[i].served)
			err = disk_is_drbd(&disks[i]) ? 0
						      : check_disk(&r->stamp, i, &disks[i], why);
		else if (r->served[i].state)
			err = check_disk(&r->served[i], 0, &disks[i], why);
	}
	return err;
}
