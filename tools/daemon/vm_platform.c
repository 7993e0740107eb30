/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/vm_platform.h"

#include <fcntl.h>

#include "tools/common/json.h"

#define XEN_CAPABILITIES "/proc/xen/capabilities"

const struct vm_platform *vm_platform_of(struct json_object *config)
{
	static const struct vm_platform *const all[] = { &vm_platform_kvm, &vm_platform_xen };
	const char *name = json_text(config, "platform", vm_platform_kvm.name);

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	return NULL;
}

const struct vm_platform *vm_platform_of_host(void)
{
	/* For tests, which are to run on any host. */
	const char *path = getenv("POLLUX_XEN_CAPABILITIES") ?: XEN_CAPABILITIES;
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[MAX(len, 0)] = '\0';
	return strstr(text, "control_d") ? &vm_platform_xen : &vm_platform_kvm;
}

void vm_launch_add(struct vm_launch *l, const char *arg)
{
	assert(l->nr < VM_ARGS_MAX);
	l->argv[l->nr++] = arg;
	l->argv[l->nr] = NULL;
}
