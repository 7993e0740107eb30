/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/disk.h"

#include <stdio.h>

#include "hypervisor/control/control.h"
#include "hypervisor/xen/description.h"

/* The control socket lies beside that of NBD. */
static int connect_beside(const char *name, struct control **ret, struct reason *why)
{
	const char *path = name + strlen(CONTROL_NBD_PREFIX);
	char dir[512];
	int err;

	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	err = control_connect(dir, ret);
	if (err)
		return reason_set(why, ENOTSUP, "disk %s: no server of ours there: %s", name,
				  strerror(-err));
	return 0;
}

int xen_disk_bytes(const char *name, uint64_t *ret, struct reason *why)
{
	struct control_call call = { .op = CONTROL_DISK_LIST, .why = why };
	struct control *control;
	struct cursor reply;
	uint64_t bytes;
	int err = connect_beside(name, &control, why);

	if (err)
		return err;
	err = control_call(control, &call, &reply);
	if (!err) {
		uint16_t nr = cursor_get_u16(&reply);

		bytes = cursor_get_u64(&reply);
		if (cursor_ok(&reply) && nr == 1)
			*ret = bytes;
		else
			err = reason_set(why, EPROTO, "disk %s: its server has %u disks, not one",
					 name, nr);
	}
	control_close(control);
	return err;
}

static bool has_program(const char *name)
{
	static const char *const folders[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" };
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		if (!access(path, X_OK))
			return true;
	}
	return false;
}

int xen_disk_check_host(struct reason *why)
{
	if (access(XEN_DISK_SCRIPT_PATH, X_OK))
		return reason_set(why, ENOENT,
				  XEN_DISK_SCRIPT_PATH ": %s; install Pollux's script there",
				  strerror(errno));
	if (!has_program("nbd-client"))
		return reason_set(why, ENOENT,
				  "this host has no nbd-client, which attaches the disks; install "
				  "the package nbd-client");
	if (access("/sys/module/nbd", F_OK))
		return reason_set(
			why, ENODEV,
			"this host's Linux has no nbd, which attaches the disks; modprobe "
			"nbd, and have it loaded at boot");
	return 0;
}

int xen_disks_check(const struct xen_description *about, struct reason *why)
{
	int err = about->nr_disks ? xen_disk_check_host(why) : 0;
	uint64_t bytes;

	for (uint32_t i = 0; i < about->nr_disks && !err; i++)
		err = xen_disk_bytes(about->disk[i].path, &bytes, why);
	return err;
}
