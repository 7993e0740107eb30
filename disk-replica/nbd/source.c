/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/nbd/source.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "disk-replica/format.h"
#include "disk-replica/nbd/ranges.h"
#include "hypervisor/control/server.h"
#include "hypervisor/vmm/blk_file.h"
#include "hypervisor/vmm/control_track.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "hypervisor/vmm/disk_track.h"

struct source {
	char path[DISK_PATH_MAX];
	struct blk_file file;
	bool block_device;
	struct ranges ranges;
	struct disk_mirror *mirror;
	struct disk_track *track;
	struct control_server *control;
	int run_dir_fd; /* locked: the socket in it is ours */

	pthread_mutex_t lock;
	unsigned int clients; /* lock */
	bool claimed;	      /* lock, and atomic: the disk is locked */
};

/* --- the control socket ------------------------------------------------------------------ */

static int op_list(struct source *s, struct control_work *work)
{
	size_t len = strlen(s->path);

	cursor_put_u16(&work->out, 1);
	cursor_put_u64(&work->out, s->file.bytes);
	cursor_put_u8(&work->out, s->file.readonly);
	cursor_put_u16(&work->out, (uint16_t)len);
	cursor_put_bytes(&work->out, s->path, len);
	return 0;
}

static int op_mirror(struct source *s, struct control_work *work, bool on, uint64_t ring_bytes)
{
	int err = disk_mirror_set(s->mirror, on, ring_bytes, on ? work->fds : NULL);

	if (err == -EINVAL)
		return reason_set(
			&work->why, EINVAL, "ring of %llu bytes: a power of two, %llu to %llu",
			(unsigned long long)ring_bytes, (unsigned long long)DISK_MIRROR_MIN_BYTES,
			(unsigned long long)DISK_MIRROR_MAX_BYTES);
	if (!err && on)
		work->nr_fds = 3;
	return err;
}

static int execute(void *opaque, uint32_t op, struct control_work *work)
{
	struct source *s = opaque;
	uint8_t on = 0;
	uint64_t ring_bytes = 0;

	if (control_track_is(op))
		return control_track(s->track, op, work);
	if (op != CONTROL_DISK_LIST && op != CONTROL_DISK_MIRROR)
		return reason_set(&work->why, ENOSYS, "operation %u is not known: this is a disk",
				  op);
	if (op == CONTROL_DISK_MIRROR) {
		on = cursor_get_u8(&work->in);
		ring_bytes = cursor_get_u64(&work->in);
	}
	if (!cursor_done(&work->in) || on > 1)
		return reason_set(&work->why, EPROTO,
				  "the request has not the length that its operation asks for");
	return op == CONTROL_DISK_LIST ? op_list(s, work) : op_mirror(s, work, on, ring_bytes);
}

/* Its socket would be taken away from a server that is alive. */
static int claim_run_dir(struct source *s, const char *run_dir, struct reason *why)
{
	if (mkdir(run_dir, 0711) && errno != EEXIST)
		return reason_set(why, errno, "%s: %s", run_dir, strerror(errno));
	s->run_dir_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->run_dir_fd < 0)
		return reason_set(why, errno, "%s: %s", run_dir, strerror(errno));
	if (flock(s->run_dir_fd, LOCK_EX | LOCK_NB))
		return reason_set(why, EBUSY, "%s is another server's", run_dir);
	return 0;
}

/* A descriptor of its own: disk_track.h says why. */
static int open_track(struct source *s, struct reason *why)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err = fd < 0 ? -errno : disk_track_open(&s->track);

	if (err && fd >= 0)
		close(fd);
	if (!err)
		err = disk_track_add(s->track, fd, s->file.bytes);
	return err ? reason_set(why, -err, "%s: %s", s->path, strerror(-err)) : 0;
}

/* --- life -------------------------------------------------------------------------------- */

static int open_parts(struct source *s, const char *path, const char *run_dir, struct reason *why)
{
	const struct control_server_config config = {
		.run_dir = run_dir,
		.opaque = s,
		.execute = execute,
	};
	struct stat st;
	int err;

	if (snprintf(s->path, sizeof(s->path), "%s", path) >= (int)sizeof(s->path))
		return reason_set(why, ENAMETOOLONG,
				  "the disk's path has %zu bytes, the limit is %u", strlen(path),
				  DISK_PATH_MAX - 1);
	err = blk_file_open(&s->file, path, false, why);
	if (err)
		return err;
	s->block_device = !fstat(s->file.fd, &st) && S_ISBLK(st.st_mode);
	err = claim_run_dir(s, run_dir, why);
	if (!err)
		err = open_track(s, why);
	if (!err)
		err = disk_mirror_open(&s->mirror);
	if (!err)
		err = control_server_open(&config, &s->control, why);
	return err;
}

int source_open(const char *path, const char *run_dir, struct source **ret, struct reason *why)
{
	struct source *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->file.fd = s->run_dir_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	ranges_init(&s->ranges);
	err = open_parts(s, path, run_dir, why);
	if (err) {
		source_close(s);
		return err;
	}
	*ret = s;
	return 0;
}

int source_start(struct source *s)
{
	return control_server_start(s->control);
}

void source_stop(struct source *s)
{
	disk_mirror_stop(s->mirror);
}

void source_close(struct source *s)
{
	if (!s)
		return;
	control_server_close(s->control);
	disk_mirror_close(s->mirror);
	disk_track_close(s->track);
	blk_file_close(&s->file);
	err_close_fd(&s->run_dir_fd);
	ranges_destroy(&s->ranges);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- clients ----------------------------------------------------------------------------- */

void source_attach(struct source *s)
{
	pthread_mutex_lock(&s->lock);
	s->clients++;
	pthread_mutex_unlock(&s->lock);
}

void source_detach(struct source *s)
{
	pthread_mutex_lock(&s->lock);
	if (--s->clients == 0 && s->claimed) {
		blk_file_unlock(&s->file);
		__atomic_store_n(&s->claimed, false, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&s->lock);
}

/* A client's request is under way, so the disk stays claimed until it is answered. */
static int claim(struct source *s)
{
	int err = 0;

	if (__atomic_load_n(&s->claimed, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&s->lock);
	if (!s->claimed)
		err = blk_file_lock(&s->file);
	if (!err)
		__atomic_store_n(&s->claimed, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&s->lock);
	return err;
}

uint64_t source_bytes(const struct source *s)
{
	return s->file.bytes;
}

int source_fd(const struct source *s)
{
	return s->file.fd;
}

/* --- requests ---------------------------------------------------------------------------- */

/* The disk has the change: tell whoever follows. */
static int put(struct source *s, enum control_disk_op op, const struct range *range,
	       const void *data)
{
	const struct disk_change change = {
		.op = (uint8_t)op,
		.offset = range->offset,
		.length = range->length,
		.data = data,
	};

	return disk_mirror_put(s->mirror, &change, NULL) ? -ESHUTDOWN : 0;
}

/* The disk may have some of it. When not even that is known, nor do the marks say what differs. */
static void put_failed(struct source *s, const struct range *range)
{
	const struct disk_change failed = { .offset = range->offset, .length = range->length };

	if (disk_mirror_put_found(s->mirror, s->file.fd, &failed))
		disk_track_distrust(s->track);
}

/* Of a change: its place is nobody else's, and its regions are marked. */
struct change {
	struct range range;
	struct disk_track_write mark;
};

static int begin_change(struct source *s, struct change *c, uint64_t offset, uint64_t len)
{
	int err = claim(s);

	if (err)
		return err;
	c->range = (struct range){ .offset = offset, .length = len };
	ranges_take(&s->ranges, &c->range);
	err = disk_track_begin(s->track, &c->mark, 0, offset, len);
	if (err)
		ranges_free(&s->ranges, &c->range);
	return err;
}

static void end_change(struct source *s, struct change *c)
{
	disk_track_end(s->track, &c->mark);
	ranges_free(&s->ranges, &c->range);
}

int source_read(struct source *s, uint64_t offset, void *ret, uint64_t len)
{
	int err = claim(s);

	return err ? err : blk_file_read(&s->file, offset, ret, len);
}

static int write_piece(struct source *s, const struct range *piece, const uint8_t *from)
{
	int err = blk_file_write(&s->file, piece->offset, from, piece->length);

	if (!err)
		return put(s, CONTROL_DISK_WRITE, piece, from);
	put_failed(s, piece);
	return err;
}

int source_write(struct source *s, uint64_t offset, const void *data, uint64_t len)
{
	struct change c;
	int err = begin_change(s, &c, offset, len);

	if (err)
		return err;
	for (uint64_t at = 0; at < len && !err; at += CONTROL_DISK_DATA_MAX) {
		uint64_t n = MIN(len - at, CONTROL_DISK_DATA_MAX);
		struct range piece = { .offset = offset + at, .length = n };

		err = write_piece(s, &piece, (const uint8_t *)data + at);
	}
	end_change(s, &c);
	return err;
}

int source_flush(struct source *s)
{
	const struct range nothing = { 0 };
	int err = claim(s);

	if (!err)
		err = blk_file_flush(&s->file);
	return err ? err : put(s, CONTROL_DISK_FLUSH, &nothing, NULL);
}

int source_discard(struct source *s, uint64_t offset, uint64_t len)
{
	struct change c;
	int err = begin_change(s, &c, offset, len);

	if (err)
		return err;
	err = blk_file_discard(&s->file, offset, len);
	if (!err)
		err = put(s, CONTROL_DISK_DISCARD, &c.range, NULL);
	else if (err == -EOPNOTSUPP)
		err = 0; /* it keeps its data, on both sides: only a hint was lost */
	else
		put_failed(s, &c.range);
	end_change(s, &c);
	return err;
}

static int zero_now(const struct source *s, const struct range *range, enum source_zero how)
{
	bool punch = how == SOURCE_ZERO_PUNCH || how == SOURCE_ZERO_FAST_PUNCH;
	bool fast = how == SOURCE_ZERO_FAST_KEEP || how == SOURCE_ZERO_FAST_PUNCH;
	int err = punch ? blk_file_discard(&s->file, range->offset, range->length) : -EOPNOTSUPP;

	/* For a block device that cannot do it Linux writes the zeros, which is not fast. */
	if (err != -EOPNOTSUPP || (fast && s->block_device))
		return err;
	return blk_file_zero_range(&s->file, range->offset, range->length);
}

int source_zero(struct source *s, uint64_t offset, uint64_t len, enum source_zero how)
{
	struct change c;
	int err = begin_change(s, &c, offset, len);

	if (err)
		return err;
	err = zero_now(s, &c.range, how);
	if (!err)
		err = put(s, CONTROL_DISK_ZEROES, &c.range, NULL);
	else if (err != -EOPNOTSUPP)
		put_failed(s, &c.range);
	end_change(s, &c);
	return err;
}
