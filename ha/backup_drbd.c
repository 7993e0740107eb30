/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on DRBD, on the backup. While it stands by DRBD is secondary and nobody can open the
 * device; what was committed and may not have reached DRBD is kept in the log. At a takeover
 * this host becomes the primary, those changes are made again, pollux-vmm gets the device.
 */
#include "ha/backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "disk-replica/apply.h"
#include "disk-replica/drbd.h"
#include "hypervisor/control/control.h"

#define DEVICE_MAX 256u

static int find(struct backup *b, unsigned int disk, const char *resource, struct reason *why)
{
	char device[DEVICE_MAX];
	struct stat st;
	int r = drbd_device(resource, device, sizeof(device), why);

	if (r)
		return r;
	if (stat(device, &st) || !S_ISBLK(st.st_mode))
		return reason_set(why, ENODEV, "DRBD %s: %s is no block device", resource, device);
	b->minor[disk] = minor(st.st_rdev);
	b->device[disk] = strdup(device);
	return b->device[disk] ? 0 : -ENOMEM;
}

int backup_drbd_open(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;

	for (unsigned int i = 0; i < b->nr_disks; i++) {
		const char *resource = drbd_resource(b->disks[i].path);
		int r = resource ? find(b, i, resource, why) : 0;

		if (r)
			return r;
	}
	return 0;
}

void backup_drbd_close(struct engine *e)
{
	struct backup *b = e->side;

	for (unsigned int i = 0; i < DISK_MAX; i++)
		free(b->device[i]);
}

static int give(struct backup *b, unsigned int disk, int fd, struct reason *why)
{
	uint8_t request[2];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = { .op = CONTROL_DISK_GIVE,
				     .request = request,
				     .request_len = sizeof(request),
				     .request_fds = &fd,
				     .nr_request_fds = 1,
				     .why = why };

	cursor_put_u16(&put, (uint16_t)disk);
	return control_call(b->control, &call, NULL);
}

static int take(struct backup *b, unsigned int disk, const char *resource, struct reason *why)
{
	cleanup_close int fd = -1;
	int r = drbd_promote(resource, b->minor[disk], why);

	if (r)
		return r;
	fd = open(b->device[disk], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return reason_set(why, errno, "DRBD %s: %s: %s", resource, b->device[disk],
				  strerror(errno));
	r = apply_kept(b->apply, b->log, disk, fd, why);
	return r ? r : give(b, disk, fd, why);
}

int backup_drbd_take(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;

	for (unsigned int i = 0; i < b->nr_disks; i++) {
		const char *resource = drbd_resource(b->disks[i].path);
		int r;

		if (!resource || b->given & 1u << i)
			continue;
		r = take(b, i, resource, why);
		if (r)
			return r;
		b->given |= 1u << i;
	}
	return 0;
}

void backup_drbd_connect(struct engine *e)
{
	struct backup *b = e->side;
	struct reason why;

	for (unsigned int i = 0; i < b->nr_disks; i++) {
		const char *resource = drbd_resource(b->disks[i].path);

		if (resource && drbd_connect(resource, &why))
			engine_event(e, "drbd", "%s", why.text);
	}
}
