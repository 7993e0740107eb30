/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/prepare_room.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "disk-replica/drbd.h"
#include "disk-replica/log.h"
#include "disk-replica/sources.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/vm_drbd.h"
#include "tools/daemon/vm_platform.h"

#define MARGIN_BYTES (UINT64_C(96) << 20) /* of the two processes, beyond what has a bound */
#define MAX_DISKS    8u
#define MAX_BYTES    (UINT64_C(1) << 50)

uint64_t prepare_memory(const struct daemon *d, struct json_object *request)
{
	/* The log of one is measured by the ring of the other. */
	uint64_t ring = MAX(d->conf.protection.disk_ring_bytes,
			    json_number(json_member(request, "settings"), "disk_ring_bytes", 0));
	struct json_object *disks = json_member(request, "disks");
	bool logs = json_object_is_type(disks, json_type_array) && json_object_array_length(disks);
	/* On Xen the guest's memory is Xen's, and it is Xen that refuses. */
	const struct vm_platform *p = vm_platform_of(json_member(request, "config"));
	uint64_t guest = p && p->memory_here ? json_number(request, "memory_bytes", 0) : 0;
	uint64_t log = logs ? MIN(DISK_LOG_PER_RING * MIN(ring, DISK_LOG_MAX), DISK_LOG_MAX) : 0;

	return guest + d->conf.backlog_bytes + log + MARGIN_BYTES;
}

static const char *check_memory(struct daemon *d, struct json_object *request, struct reason *why)
{
	uint64_t wanted = prepare_memory(d, request);
	uint64_t available = kept_make_room(d, json_text(request, "vm", ""), wanted);
	char a[32], b[32];

	if (available >= wanted)
		return NULL;
	reason_set(why, ENOMEM, "%s of memory are available, the standby needs %s",
		   text_size(available, a, sizeof(a)), text_size(wanted, b, sizeof(b)));
	return "no-memory";
}

static const char *check_platform(struct json_object *request, struct reason *why)
{
	const struct vm_platform *here = vm_platform_of_host();
	const struct vm_platform *its = vm_platform_of(json_member(request, "config"));

	if (here == its)
		return NULL;
	reason_set(why, ENOTSUP,
		   its == &vm_platform_xen ? "this host does not run Xen, and the VM is a domain "
					     "of Xen"
					   : "this host runs Xen, and the VM is one of Pollux's "
					     "own hypervisor");
	return "platform";
}

static const char *make_disk(const char *path, uint64_t bytes, struct reason *why)
{
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int e;

	if (fd < 0) {
		e = errno;
		reason_set(why, e,
			   e == ENOENT ? "disk %s: its folder does not exist; make it"
				       : "disk %s: %s",
			   path, strerror(e));
		return e == ENOENT ? "no-folder" : "failed";
	}
	if (ftruncate(fd, (off_t)bytes) == 0)
		return NULL;
	e = errno;
	unlink(path);
	reason_set(why, e, "disk %s of %llu bytes: %s", path, (unsigned long long)bytes,
		   strerror(e));
	return "no-space";
}

static int size_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret) < 0 ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return -ENOTBLK;
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* pollux-vmm and a standby's pollux-ha hold a lock on each disk they have open. */
static bool is_locked(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static const char *check_disk(const char *path, uint64_t bytes, struct reason *why)
{
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t have;
	int r;

	if (fd < 0 && errno == ENOENT)
		return make_disk(path, bytes, why);
	r = fd < 0 ? -errno : size_of(fd, &have);
	if (r < 0) {
		reason_set(why, -r, "disk %s: %s", path, strerror(-r));
		return "failed";
	}
	if (have != bytes) {
		reason_set(why, EINVAL, "disk %s has %llu bytes, the primary's has %llu", path,
			   (unsigned long long)have, (unsigned long long)bytes);
		return "wrong-size";
	}
	if (is_locked(fd)) {
		reason_set(why, EBUSY, "disk %s is in use by another process", path);
		return "in-use";
	}
	return NULL;
}

/* Here its own server must be at hand; the disk is filled where that has it. */
static const char *check_served(const char *name, uint64_t bytes, struct reason *why)
{
	cleanup_free struct disk_info *disk = calloc(1, sizeof(*disk));

	if (!disk || sources_look_up(name, disk, why))
		return "not-served";
	return check_disk(disk->path, bytes, why);
}

static const char *check_one(const char *path, uint64_t bytes, struct reason *why)
{
	const char *resource = drbd_resource(path);

	if (resource)
		return drbd_check_backup(resource, bytes, why) ? "drbd" : NULL;
	return sources_is_served(path) ? check_served(path, bytes, why)
				       : check_disk(path, bytes, why);
}

static bool is_named(struct json_object *request, const char *path)
{
	struct json_object *list = json_member(json_member(request, "config"), "disks");

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strcmp(json_text(json_object_array_get_idx(list, i), "path", ""), path))
			return true;
	return false;
}

/* A takeover does not need it; the first reboot after it does, and would end the VM. */
static const char *check_boot(struct json_object *request, const char *key, struct reason *why)
{
	const char *path = json_text(json_member(request, "config"), key, NULL);

	if (!path || access(path, R_OK) == 0)
		return NULL;
	reason_set(why, errno, "%s %s: %s; the VM could not reboot here", key, path,
		   strerror(errno));
	return "no-kernel";
}

/* What is acknowledged and not yet in DRBD is kept in memory, on the backup alone. */
static const char *check_commit(struct daemon *d, struct json_object *request, struct reason *why)
{
	const char *asked = json_text(json_member(request, "settings"), "commit", "");

	if (!vm_drbd_is_used(json_member(request, "config")) ||
	    (strcmp(asked, "disk") && !d->conf.protection.commit_disk))
		return NULL;
	reason_set(why, ENOTSUP, "commit = disk is not possible with disks on DRBD");
	return "drbd";
}

const char *prepare_check_room(struct daemon *d, struct json_object *request, struct reason *why)
{
	const char *code = check_platform(request, why);
	struct json_object *disks;

	if (!code)
		code = check_memory(d, request, why);
	if (!code)
		code = check_boot(request, "kernel", why);
	if (!code)
		code = check_boot(request, "ramdisk", why);
	if (!code)
		code = check_commit(d, request, why);
	if (code)
		return code;
	if (json_get_array(request, "disks", &disks, why) < 0)
		return "bad-request";
	if (json_object_array_length(disks) > MAX_DISKS) {
		reason_set(why, EINVAL, "%zu disks, at most %u", json_object_array_length(disks),
			   MAX_DISKS);
		return "bad-request";
	}
	for (size_t i = 0; !code && i < json_object_array_length(disks); i++) {
		struct json_object *disk = json_object_array_get_idx(disks, i);
		const char *path = json_text(disk, "path", "");
		uint64_t bytes = json_number(disk, "bytes", 0);

		/* The peer is a known host, and yet: only what the VM itself names (P4). */
		if ((*path != '/' && !sources_is_served(path) && !drbd_resource(path)) || !bytes ||
		    bytes > MAX_BYTES || !is_named(request, path)) {
			reason_set(why, EINVAL,
				   "disk %zu: \"%.100s\" of %llu bytes is none of the "
				   "configuration's",
				   i, path, (unsigned long long)bytes);
			return "bad-request";
		}
		code = check_one(path, bytes, why);
	}
	return code;
}
