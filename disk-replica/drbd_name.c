/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

#include "disk-replica/drbd.h"
#include "hypervisor/control/control.h"

bool drbd_name_ok(const char *resource)
{
	size_t len = strlen(resource);

	if (!len || len >= DRBD_NAME_MAX || resource[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)resource[i]) && !strchr("._-", resource[i]))
			return false;
	}
	return true;
}

const char *drbd_resource(const char *path)
{
	size_t prefix = strlen(CONTROL_DRBD_PREFIX);

	return strncmp(path, CONTROL_DRBD_PREFIX, prefix) ? NULL : path + prefix;
}
