/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/vm_drbd.h"

#include <json-c/json.h>

#include "disk-replica/drbd.h"
#include "tools/common/json.h"

#define DEVICE_MAX 256u

static size_t count(struct json_object *config)
{
	struct json_object *list = json_member(config, "disks");

	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* The resource that the disk names, or NULL. */
static const char *resource_of(struct json_object *config, size_t i, struct json_object **ret_disk)
{
	struct json_object *disk = json_object_array_get_idx(json_member(config, "disks"), i);

	if (ret_disk)
		*ret_disk = disk;
	return drbd_resource(json_text(disk, "path", ""));
}

static int resolve(struct json_object *disk, const char *resource, bool standby, struct reason *why)
{
	char device[DEVICE_MAX];
	int r = standby ? 0 : drbd_begin(resource, why);

	if (!r)
		r = drbd_device(resource, device, sizeof(device), why);
	if (r)
		return r;
	json_add_string(disk, "name", json_text(disk, "path", ""));
	json_add_string(disk, "path", device);
	json_add_bool(disk, "deferred", true);
	return 0;
}

int vm_drbd_resolve(struct json_object *config, bool standby, struct reason *why)
{
	int r = 0;

	for (size_t i = 0; !r && i < count(config); i++) {
		struct json_object *disk;
		const char *resource = resource_of(config, i, &disk);

		if (resource)
			r = resolve(disk, resource, standby, why);
	}
	return r;
}

int vm_drbd_check(struct json_object *config, bool from_here, struct reason *why)
{
	struct reason one;
	int r = 0;

	for (size_t i = 0; i < count(config); i++) {
		const char *resource = resource_of(config, i, NULL);
		int err = resource ? drbd_check(resource, from_here, &one) : 0;

		/* Of a split brain one end may only wait: the one that says so tells more. */
		if (!err || (r && err != -ECONNABORTED))
			continue;
		r = err;
		if (why)
			*why = one;
		if (r == -ECONNABORTED)
			break;
	}
	return r;
}

bool vm_drbd_is_used(struct json_object *config)
{
	for (size_t i = 0; i < count(config); i++)
		if (resource_of(config, i, NULL))
			return true;
	return false;
}

void vm_drbd_let_go(struct json_object *config)
{
	for (size_t i = 0; i < count(config) && drbd_is_primary_of_any(); i++) {
		const char *resource = resource_of(config, i, NULL);

		if (resource)
			drbd_demote(resource, NULL);
	}
}
