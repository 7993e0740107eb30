/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit-pollux-plugin: a disk over NBD that can be replicated while it is served
 * (nbdkit-plugin(3); the NBD protocol's proto.md). What NBD asks is translated here;
 * source.h is the disk.
 *
 * Every connection reaches the one descriptor, so a flush on any of them covers what was
 * completed on all: multi-conn is true. Requests run in parallel, also of one connection.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "disk-replica/nbd/source.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *path, *run_dir;
static struct source *source;
static pthread_t watcher;
static bool watching;

/* --- life -------------------------------------------------------------------------------- */

static int take_path(const char *key, const char *value, char **ret)
{
	if (*ret) {
		nbdkit_error("%s is given twice", key);
		return -1;
	}
	if (!*value) {
		nbdkit_error("%s is empty", key);
		return -1;
	}
	*ret = nbdkit_absolute_path(value);
	return *ret ? 0 : -1;
}

static int pollux_config(const char *key, const char *value)
{
	if (!strcmp(key, "file"))
		return take_path(key, value, &path);
	if (!strcmp(key, "control"))
		return take_path(key, value, &run_dir);
	nbdkit_error("%s=%s: not a parameter; they are file and control", key, value);
	return -1;
}

static int pollux_config_complete(void)
{
	if (path && run_dir)
		return 0;
	nbdkit_error("%s is missing: file=DISK control=DIRECTORY", path ? "control" : "file");
	return -1;
}

static int pollux_get_ready(void)
{
	struct reason why = { 0 };
	int err = source_open(path, run_dir, &source, &why);

	if (!err)
		return 0;
	nbdkit_error("%s", why.text[0] ? why.text : strerror(-err));
	return -1;
}

/* nbdkit waits for its connections' threads when it is told to end, and they may wait for
 * room in a ring that nobody empties. Its sleep is what ends with it. */
static void *watch_end(void *unused)
{
	while (!nbdkit_nanosleep(3600, 0))
		;
	source_stop(source);
	return unused;
}

static int pollux_after_fork(void)
{
	int err = source_start(source);

	if (!err) {
		err = -pthread_create(&watcher, NULL, watch_end, NULL);
		watching = !err;
	}
	if (!err)
		return 0;
	nbdkit_error("threads: %s", strerror(-err));
	return -1;
}

static void pollux_cleanup(void)
{
	if (watching)
		pthread_join(watcher, NULL);
}

static void pollux_unload(void)
{
	source_close(source);
	free(path);
	free(run_dir);
}

/* --- a connection ------------------------------------------------------------------------ */

static void *pollux_open(int readonly)
{
	(void)readonly;
	source_attach(source);
	return source;
}

static void pollux_close(void *handle)
{
	source_detach(handle);
}

static int64_t pollux_get_size(void *handle)
{
	return (int64_t)source_bytes(handle);
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int native_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int native_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_NATIVE;
}

/* --- requests ---------------------------------------------------------------------------- */

static int done(const char *what, int err)
{
	if (!err)
		return 0;
	/* Where it is the answer to a question, or the end, nothing is wrong. */
	if (err != -EOPNOTSUPP && err != -ESHUTDOWN)
		nbdkit_error("%s: %s: %s", path, what, strerror(-err));
	nbdkit_set_error(-err);
	return -1;
}

static int done_fua(const char *what, int err, uint32_t flags)
{
	if (!err && flags & NBDKIT_FLAG_FUA)
		err = source_flush(source);
	return done(what, err);
}

static int pollux_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return done("read", source_read(handle, offset, buf, count));
}

static int pollux_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			 uint32_t flags)
{
	return done_fua("write", source_write(handle, offset, buf, count), flags);
}

static int pollux_flush(void *handle, uint32_t flags)
{
	(void)flags;
	return done("flush", source_flush(handle));
}

static int pollux_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	return done_fua("trim", source_discard(handle, offset, count), flags);
}

/* What is refused here and need not be fast, nbdkit does by writing. */
static int pollux_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	bool punch = flags & NBDKIT_FLAG_MAY_TRIM;
	enum source_zero how = punch ? SOURCE_ZERO_PUNCH : SOURCE_ZERO_KEEP;

	if (flags & NBDKIT_FLAG_FAST_ZERO)
		how = punch ? SOURCE_ZERO_FAST_PUNCH : SOURCE_ZERO_FAST_KEEP;
	return done_fua("zero", source_zero(handle, offset, count, how), flags);
}

static int pollux_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return done("cache", -posix_fadvise(source_fd(handle), (off_t)offset, (off_t)count,
					    POSIX_FADV_WILLNEED));
}

/* From `at` to the next end of data or of a hole. -EOPNOTSUPP: the filesystem cannot tell. */
static int next_extent(int fd, uint64_t at, uint64_t *ret_end, bool *ret_hole)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	off_t hole;

	if (data < 0 && errno == ENXIO) {
		*ret_hole = true; /* to the end of the disk */
		return 0;
	}
	if (data < 0)
		return -EOPNOTSUPP;
	*ret_hole = (uint64_t)data > at;
	hole = *ret_hole ? data : lseek(fd, (off_t)at, SEEK_HOLE);
	if (hole < 0)
		return -EOPNOTSUPP;
	*ret_end = (uint64_t)hole;
	return 0;
}

static int pollux_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			  struct nbdkit_extents *extents)
{
	uint64_t at = offset, end = offset + count;

	while (at < end) {
		uint64_t to = end;
		bool hole = false;

		/* A block device, above all: all of it may be data. */
		if (next_extent(source_fd(handle), at, &to, &hole) || to <= at)
			to = end;
		to = MIN(to, end);
		if (nbdkit_add_extent(extents, at, to - at,
				      hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0))
			return -1;
		at = to;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "pollux",
	.longname = "Pollux's replicated disk",
	.description = "a raw file or block device that Pollux can replicate while it is served",
	.config = pollux_config,
	.config_complete = pollux_config_complete,
	.config_help = "file=<DISK>        a raw file or block device\n"
		       "control=<DIRECTORY> where the control socket is made",
	.magic_config_key = "file",
	.get_ready = pollux_get_ready,
	.after_fork = pollux_after_fork,
	.cleanup = pollux_cleanup,
	.unload = pollux_unload,
	.open = pollux_open,
	.close = pollux_close,
	.get_size = pollux_get_size,
	.can_write = yes,
	.can_flush = yes,
	.can_trim = yes,
	.can_zero = yes,
	.can_fast_zero = yes,
	.can_extents = yes,
	.can_multi_conn = yes,
	.can_fua = native_fua,
	.can_cache = native_cache,
	.pread = pollux_pread,
	.pwrite = pollux_pwrite,
	.flush = pollux_flush,
	.trim = pollux_trim,
	.zero = pollux_zero,
	.extents = pollux_extents,
	.cache = pollux_cache,
};

NBDKIT_REGISTER_PLUGIN(plugin)
