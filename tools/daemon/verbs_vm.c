/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about VMs as such: create, list, shut down, destroy, console. */
#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/daemon/disks.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/salvage.h"
#include "tools/daemon/status.h"
#include "tools/daemon/verbs.h"
#include "tools/daemon/verbs_find.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"

#include "disk-replica/marker.h"
#include "ha/record.h"

struct vm *verb_find_vm(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	const char *name = json_text(request, "vm", "");
	struct vm *vm;

	daemon_lock(d);
	vm = vm_find(d, name);
	daemon_unlock(d);
	if (!vm)
		verb_refuse(reply, "unknown-vm",
			    "VM %s does not exist on %s; pollux vm list shows "
			    "those that do",
			    name, d->conf.name);
	return vm;
}

/* A VM that runs elsewhere must not be started here from its old disk (P3). */
static bool runs_elsewhere(struct daemon *d, const char *name, const char *disks,
			   struct verb_reply *reply)
{
	struct record rec;
	struct reason why;
	int r = record_read(path_state_dir(&d->conf, name).text, &rec, &why);

	if (r == -ENOENT)
		return false;
	if (r < 0) {
		verb_refuse(reply, "refused", "the record of who may run %s is unreadable: %s",
			    name, why.text);
		return true;
	}
	if (rec.role == RECORD_ACTIVE)
		return false;
	verb_refuse(reply, "unsafe",
		    "VM %s was last %s here, generation %llu with %s: it may run there, and a "
		    "second copy would destroy its disk. Look at pollux status %s on %s; once it "
		    "is sure that it does not run there: pollux vm create --force --reason TEXT. "
		    "%s",
		    name, record_role_name(rec.role), (unsigned long long)rec.generation,
		    rec.peer[0] ? rec.peer : "another host", name,
		    rec.peer[0] ? rec.peer : "the other host", disks);
	return true;
}

/* A takeover that did not come to its end has left its disks between two epochs (P2), and a
 * standby's are behind. Which of the two is found out, and said, also when it is forced. */
static bool may_not_create(struct daemon *d, struct json_object *config, bool force,
			   struct verb_reply *reply)
{
	const char *name = json_text(config, "name", "");
	char disks[400] = "";
	bool lag = salvage_disks(d, config, disks, sizeof(disks));

	if (force) {
		if (lag)
			events_add(d, name, "vm.forced", "%s", disks);
		salvage_forget(d, name);
		return false;
	}
	if (runs_elsewhere(d, name, disks, reply))
		return true;
	if (lag)
		verb_refuse(reply, "unsafe",
			    "VM %s on %s: %s. If nothing better is left of it: pollux vm create "
			    "--force --reason TEXT",
			    name, d->conf.name, disks);
	return lag;
}

/* As ha/role.c has it for unprotect --force: above what a takeover from the generation that this
 * host knows would be. Whoever does run it stops when the two meet. */
static int own_by_force(struct daemon *d, const char *name, struct reason *why)
{
	struct path dir = path_state_dir(&d->conf, name);
	struct record rec;
	int r = record_read(dir.text, &rec, why);

	if (r == -ENOENT || (!r && rec.role == RECORD_ACTIVE))
		return 0;
	if (r < 0)
		return r;
	rec.generation += 2;
	rec.role = RECORD_ACTIVE;
	return record_write(dir.text, &rec, why);
}

void verb_vm_create(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm_start s = { 0 };
	struct path regions;
	struct reason why;
	struct vm *vm;
	bool force = json_flag(request, "force");
	const char *name;
	int r = json_get_object(request, "config", &s.config, &why);

	if (!r)
		r = vm_check_config(s.config, &why);
	if (r < 0) {
		verb_refuse(reply, "bad-request", "%s", why.text);
		return;
	}
	if (vm_platform_of_host() != vm_platform_of(s.config)) {
		verb_refuse(reply, "refused",
			    "%s runs Xen: make the domain with xl create; pollux protect NAME HOST "
			    "finds it",
			    d->conf.name);
		return;
	}
	name = json_text(s.config, "name", "");
	if (may_not_create(d, s.config, force, reply))
		return;
	if (force)
		events_add(d, name, "vm.forced", "created by force: %.200s",
			   json_text(request, "reason", ""));
	daemon_lock(d);
	vm = vm_find(d, name);
	daemon_unlock(d);
	if (!vm && disks_go_on(d, s.config, regions.text, sizeof(regions.text)))
		s.regions = regions.text;
	r = vm_start(d, &s, &vm, &why);
	if (r < 0) {
		verb_refuse(reply, r == -EEXIST ? "exists" : "failed", "%s", why.text);
		return;
	}
	if (force && own_by_force(d, name, &why) < 0) {
		vm_end(d, vm);
		verb_refuse(reply, "failed", "%s", why.text);
		return;
	}
	/* By force, or there is none: the disks are the VM's own from now on. */
	apply_marker_remove(path_state_dir(&d->conf, name).text);
	events_add(d, name, "vm.created", "runs as domain %u", vm->domid);
	reply->o = json_object_new_object();
	json_add_string(reply->o, "name", vm->name);
	json_add_string(reply->o, "uuid", vm->uuid);
	json_add_u64(reply->o, "domid", vm->domid);
}

void verb_vm_list(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	(void)request;
	reply->o = status_list(d);
}

void verb_vm_shutdown(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	struct reason why;

	if (!vm)
		return;
	if (vm->standby) {
		verb_refuse(reply, "standby", "VM %s is the standby of %s: shut it down there",
			    vm->name, vm->guard.peer);
		return;
	}
	if (vm_press_power(d, vm, &why) < 0)
		verb_refuse(reply, "failed", "%s", why.text);
	else
		events_add(d, vm->name, "vm.shutdown", "power button pressed");
}

static bool leave(struct daemon *d, struct vm *vm, bool force, struct verb_reply *reply)
{
	cleanup_json struct json_object *request = json_object_new_object(), *answer = NULL;
	struct reason why;

	json_add_string(request, "verb", "unprotect");
	json_add_bool(request, "force", force);
	json_add_string(request, "reason", "the VM is destroyed");
	if (!guard_call(d, vm->name, request, 10 * NS_PER_S, &answer, &why) &&
	    json_flag(answer, "ok")) {
		/* It ends once the backup has given the right back and our record says so;
		 * without that the VM could not be created here again. */
		process_wait(&vm->guard.process, clock_now_ns() + 10 * NS_PER_S);
		return true;
	}
	if (force)
		return true;
	verb_refuse(reply, "unsafe",
		    "VM %s is protected and %s did not let go of it (%s): it would take the VM "
		    "over. With --force it is destroyed here nevertheless",
		    vm->name, vm->guard.peer, answer ? json_text(answer, "error", "?") : why.text);
	return false;
}

void verb_vm_destroy(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	bool force = json_flag(request, "force");

	if (!vm)
		return;
	if (vm->standby && !force) {
		verb_refuse(reply, "standby",
			    "VM %s is the standby of %s: pollux unprotect %s there, or destroy it "
			    "here with --force, which leaves it unprotected",
			    vm->name, vm->guard.peer, vm->name);
		return;
	}
	if (vm->guard.wanted && vm->guard.primary && !leave(d, vm, force, reply))
		return;
	vm_end(d, vm);
	events_add(d, json_text(request, "vm", ""), "vm.destroyed", "destroyed by the operator");
}

void verb_vm_console(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	struct path dir;

	if (!vm)
		return;
	if (vm->platform != &vm_platform_kvm) {
		verb_refuse(reply, "refused", "VM %s is a domain of Xen: xl console %u", vm->name,
			    vm->domid);
		return;
	}
	dir = path_vm_dir(&d->conf, vm->number);
	reply->o = json_object_new_object();
	json_add_string(reply->o, "path", path_under(dir.text, "console").text);
}
