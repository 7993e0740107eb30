/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h: the generation and the role on disk. Invariant: DIR/record is at every instant a
 * whole record, and its generation never goes down. One writer per directory. Source: role.h;
 * the order of fsyncs is that of every file that must survive a power cut.
 */
#include "ha/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/cursor.h"
#include "base/err.h"
#include "base/fault.h"

#define RECORD_MAGIC	UINT64_C(0x44524f4345525850) /* "PXRECORD" */
#define RECORD_VERSION	1u
#define RECORD_FIXED	(8u + 4u + 4u + 8u + 8u + 1u + 1u)
#define RECORD_CHECKSUM 8u
#define RECORD_MAX	(RECORD_FIXED + RECORD_PEER_MAX + RECORD_CHECKSUM)

#define FILE_NAME "record"
#define TEMP_NAME "record.new"

static bool is_role(uint8_t value)
{
	return value >= RECORD_ACTIVE && value <= RECORD_STOPPED;
}

static size_t encode(const struct record *rec, uint8_t buf[static RECORD_MAX])
{
	size_t peer = strlen(rec->peer);
	struct cursor c = cursor_over(buf, RECORD_MAX);

	cursor_put_u64(&c, RECORD_MAGIC);
	cursor_put_u32(&c, RECORD_VERSION);
	cursor_put_u32(&c, (uint32_t)(RECORD_FIXED + peer + RECORD_CHECKSUM));
	cursor_put_u64(&c, rec->generation);
	cursor_put_u64(&c, rec->epoch);
	cursor_put_u8(&c, (uint8_t)rec->role);
	cursor_put_u8(&c, (uint8_t)peer);
	cursor_put_bytes(&c, rec->peer, peer);
	cursor_put_u64(&c, XXH3_64bits(buf, RECORD_FIXED + peer));
	assert(cursor_ok(&c));
	return RECORD_FIXED + peer + RECORD_CHECKSUM;
}

/* What is wrong with the bytes, or NULL. */
static const char *decode(const uint8_t *buf, size_t len, struct record *ret)
{
	struct cursor c = cursor_over(buf, len);
	struct record rec = { 0 };
	uint64_t magic = cursor_get_u64(&c);
	uint32_t version = cursor_get_u32(&c);
	uint32_t length = cursor_get_u32(&c);
	uint8_t role, peer;

	rec.generation = cursor_get_u64(&c);
	rec.epoch = cursor_get_u64(&c);
	role = cursor_get_u8(&c);
	peer = cursor_get_u8(&c);
	if (!cursor_ok(&c))
		return "too short";
	if (magic != RECORD_MAGIC)
		return "not a record";
	if (version != RECORD_VERSION)
		return "of another version";
	if (length != len || peer > RECORD_PEER_MAX ||
	    length != RECORD_FIXED + peer + RECORD_CHECKSUM)
		return "of a wrong length";
	cursor_get_bytes(&c, rec.peer, peer);
	if (cursor_get_u64(&c) != XXH3_64bits(buf, RECORD_FIXED + peer) || !cursor_done(&c))
		return "corrupt (checksum)";
	if (!is_role(role) || !rec.generation || strlen(rec.peer) != peer)
		return "out of range";
	rec.role = (enum record_role)role;
	*ret = rec;
	return NULL;
}

static int read_all(int fd, uint8_t *buf, size_t max, size_t *ret_len)
{
	size_t len = 0;

	while (len < max) {
		ssize_t n = read(fd, buf + len, max - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

int record_read(const char *dir, struct record *ret, struct reason *why)
{
	cleanup_close int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int fd = -1;
	uint8_t buf[RECORD_MAX + 1];
	const char *wrong;
	size_t len = 0;
	int r;

	if (dirfd < 0)
		return reason_set(why, errno, "%s: %s", dir, strerror(errno));
	fd = openat(dirfd, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return reason_set(why, errno, "%s/%s: %s", dir, FILE_NAME, strerror(errno));
	r = read_all(fd, buf, sizeof(buf), &len);
	if (r < 0)
		return reason_set(why, -r, "%s/%s: %s", dir, FILE_NAME, strerror(-r));
	wrong = decode(buf, len, ret);
	if (wrong)
		return reason_set(why, EBADMSG, "%s/%s: the record is %s (%zu bytes)", dir,
				  FILE_NAME, wrong, len);
	return 0;
}

/* The record there is must be readable and not ahead of `rec`. */
static int check_present(const char *dir, const struct record *rec, struct reason *why)
{
	struct record present;
	int r = record_read(dir, &present, why);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (rec->generation < present.generation)
		return reason_set(why, ESTALE, "%s/%s: generation %" PRIu64 " is below %" PRIu64,
				  dir, FILE_NAME, rec->generation, present.generation);
	return 0;
}

static int write_all(int fd, const uint8_t *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Each step on its own, so that a test can stop between any two. */
static int write_temp(int dirfd, const uint8_t *buf, size_t len)
{
	cleanup_close int fd = -1;
	int r;

	if (fault_at("record.create"))
		return -EIO;
	fd = openat(dirfd, TEMP_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (fault_at("record.write")) {
		/* A torn write, as a full disk leaves it. */
		r = write_all(fd, buf, len / 2);
		return r < 0 ? r : -ENOSPC;
	}
	r = write_all(fd, buf, len);
	if (r < 0)
		return r;
	if (fault_at("record.fsync"))
		return -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

static int replace(int dirfd)
{
	if (fault_at("record.rename"))
		return -EIO;
	if (renameat(dirfd, TEMP_NAME, dirfd, FILE_NAME) < 0)
		return -errno;
	if (fault_at("record.dirsync"))
		return -EIO;
	return fsync(dirfd) < 0 ? -errno : 0;
}

int record_write(const char *dir, const struct record *rec, struct reason *why)
{
	cleanup_close int dirfd = -1;
	uint8_t buf[RECORD_MAX];
	size_t len;
	int r;

	if (!rec->generation || !is_role((uint8_t)rec->role) ||
	    strnlen(rec->peer, sizeof(rec->peer)) > RECORD_PEER_MAX)
		return reason_set(why, EINVAL, "a record of generation %" PRIu64 ", role %d",
				  rec->generation, (int)rec->role);
	r = check_present(dir, rec, why);
	if (r < 0)
		return r;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return reason_set(why, errno, "%s: %s", dir, strerror(errno));
	len = encode(rec, buf);
	r = write_temp(dirfd, buf, len);
	if (!r)
		r = replace(dirfd);
	if (r < 0)
		return reason_set(why, -r, "%s/%s: cannot be written: %s", dir, FILE_NAME,
				  strerror(-r));
	return 0;
}
