/* SPDX-License-Identifier: Apache-2.0 */
/* VMs of Pollux's own hypervisor: pollux-vmm is the VM, and ends with it. */
#include <stdio.h>

#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/vm_platform.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_drbd.h"

/* What pollux-vmm reads: the configuration, with this host's bridge where none is named, and
 * this host's devices of DRBD. */
static int write_config(struct daemon *d, const char *path, const struct vm *vm, struct reason *why)
{
	cleanup_json struct json_object *o = json_copy(vm->config);
	struct json_object *nics = json_member(o, "nics");
	int r = o ? vm_drbd_resolve(o, vm->standby, why) : -ENOMEM;

	if (r < 0)
		return r;
	for (size_t i = 0;
	     json_object_is_type(nics, json_type_array) && i < json_object_array_length(nics);
	     i++) {
		struct json_object *nic = json_object_array_get_idx(nics, i);

		if (json_object_is_type(nic, json_type_object) && !json_member(nic, "bridge"))
			json_add_string(nic, "bridge", d->conf.bridge);
	}
	r = json_write_file(path, o, 0644);
	return r < 0 ? reason_set(why, -r, "%s: %s", path, strerror(-r)) : 0;
}

static int kvm_arguments(struct daemon *d, struct vm *vm, const struct vm_start *s,
			 struct vm_launch *ret, struct reason *why)
{
	assert(s);
	snprintf(ret->domid, sizeof(ret->domid), "%u", vm->domid);
	vm_launch_add(ret, "--domid");
	vm_launch_add(ret, ret->domid);
	vm_launch_add(ret, "--config");
	vm_launch_add(ret, ret->config.text);
	if (vm->standby)
		vm_launch_add(ret, "--standby");
	if (s->memory_fd) {
		vm_launch_add(ret, "--memory-fd");
		vm_launch_add(ret, "3");
		ret->pass_fd = *s->memory_fd;
	}
	if (s->regions) {
		assert(!vm->standby);
		vm_launch_add(ret, "--regions");
		vm_launch_add(ret, s->regions);
	}
	return write_config(d, ret->config.text, vm, why);
}

static int kvm_greet(struct daemon *d, struct vm *vm, struct reason *why)
{
	(void)why;
	vm->memory_fd = kept_open(d, vm->number, vm_memory_bytes(vm));
	return 0;
}

/* What the guest sees of its processors is not in its configuration, and a standby's must be it. */
static int kvm_describe(struct daemon *d, struct vm *vm, struct reason *why)
{
	struct control_call call = { .op = CONTROL_PROCESSORS, .why = why };
	cleanup_json struct json_object *o = json_copy(vm->config);
	struct json_object *old;
	struct cursor reply;
	struct control *c;
	char digits[17];
	int r = vm_connect(d, vm->number, &c, why);

	if (r < 0)
		return r;
	r = control_call(c, &call, &reply);
	if (!r)
		snprintf(digits, sizeof(digits), "%016llx",
			 (unsigned long long)cursor_get_u64(&reply));
	if (!r && (!o || !cursor_ok(&reply)))
		r = reason_set(why, o ? EPROTO : ENOMEM, "pollux-vmm does not tell its processors");
	control_close(c);
	if (r < 0)
		return r;
	json_object_object_del(o, "processors");
	json_add_string(o, "processors", digits);
	daemon_lock(d);
	old = vm->config;
	vm->config = o;
	daemon_unlock(d);
	o = old;
	return 0;
}

const struct vm_platform vm_platform_kvm = {
	.name = "kvm",
	.program = "pollux-vmm",
	.log = "vmm",
	.engine = "pollux-ha",
	.memory_here = true,
	.end_ns = 5 * NS_PER_S,
	.arguments = kvm_arguments,
	.greet = kvm_greet,
	.describe = kvm_describe,
};
