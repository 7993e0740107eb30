/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/reprotect.h"

#include <stdio.h>

#include "base/clock.h"
#include "ha/record.h"
#include "tools/common/json.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_drbd.h"

#define RETRY_NS (5 * NS_PER_S)

void reprotect_remember(struct daemon *d, struct vm *vm, const char *peer,
			struct json_object *options)
{
	struct json_object *copy = options ? json_copy(options) : NULL;

	daemon_lock(d);
	snprintf(vm->wish.peer, sizeof(vm->wish.peer), "%s", peer ?: "");
	json_object_put(vm->wish.options);
	vm->wish.options = copy;
	vm->wish.again = false;
	daemon_unlock(d);
	vm_save(d, vm);
}

int reprotect_options(struct daemon *d, struct json_object *options, struct conf_protection *ret,
		      struct reason *why)
{
	int r = 0;

	*ret = d->conf.protection;
	if (!options)
		return 0;
	if (!json_object_is_type(options, json_type_object))
		return reason_set(why, EINVAL, "\"options\" is no object");
	json_object_object_foreach(options, key, value)
	{
		if (!json_object_is_type(value, json_type_string))
			return reason_set(why, EINVAL, "option \"%.60s\" is no text", key);
		r = conf_protection_set(ret, key, json_object_get_string(value), why);
		if (r < 0)
			return r;
	}
	return conf_protection_check(ret, why);
}

static bool is_manual(const struct vm *vm)
{
	const char *word =
		json_text(vm->wish.options, "reprotect", vm->daemon->conf.protection.reprotect);

	return !strcmp(word, "manual");
}

bool reprotect_due(const struct vm *vm)
{
	if (vm->standby || vm->gone || !vm->wish.peer[0] || vm->state == CONTROL_STOPPED ||
	    (vm->guard.wanted && vm->guard.primary) || clock_now_ns() < vm->wish.retry_at_ns)
		return false;
	return vm->wish.again || !is_manual(vm);
}

/* Only a VM with the right to run alone may look for a backup from its beginning: one whose
 * engine still waits for its old backup has an engine. */
static int check_record(struct daemon *d, struct vm *vm, struct reason *why)
{
	struct record rec = { .role = RECORD_NONE };
	int r = record_read(path_state_dir(&d->conf, vm->name).text, &rec, why);

	if (r < 0 && r != -ENOENT)
		return r;
	if (!r && rec.role != RECORD_ACTIVE)
		return reason_set(why, EPERM, "the record says that VM %s is %s here", vm->name,
				  record_role_name(rec.role));
	return 0;
}

int reprotect_start(struct daemon *d, struct vm *vm, struct reason *why)
{
	const struct conf_peer *peer = conf_find_peer(&d->conf, vm->wish.peer);
	struct conf_protection protection;
	struct guard_start s = { .primary = true, .protection = &protection, .listen_fd = -1 };
	int r = check_record(d, vm, why);

	if (r < 0)
		return r;
	if (!peer)
		return reason_set(why, ENOENT, "host %s is not in pollux.conf", vm->wish.peer);
	r = reprotect_options(d, vm->wish.options, &protection, why);
	if (!r)
		r = vm_drbd_check(vm->config, true, why);
	if (!r)
		r = vm_describe(d, vm, why);
	if (r < 0)
		return r;
	/* The pollux-ha of a takeover that is over: it has nothing left to do. */
	if (vm->guard.wanted)
		guard_end(d, vm);
	s.peer = peer->name;
	s.peer_address = peer->address;
	s.options = vm->wish.options;
	r = guard_start(d, vm, &s, why);
	if (r < 0)
		return r;
	daemon_lock(d);
	vm->wish.again = false;
	daemon_unlock(d);
	vm_save(d, vm);
	events_add(d, vm->name, "reprotect", "%s is asked to be the backup", vm->wish.peer);
	return 0;
}

void reprotect_try(struct daemon *d, struct vm *vm)
{
	struct reason why;
	bool due;

	daemon_lock(d);
	due = reprotect_due(vm);
	daemon_unlock(d);
	if (!due || !reprotect_start(d, vm, &why))
		return;
	daemon_lock(d);
	vm->wish.retry_at_ns = clock_now_ns() + RETRY_NS;
	daemon_unlock(d);
	events_add(d, vm->name, "reprotect.failed", "%s", why.text);
}
