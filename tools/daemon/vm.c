/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/vm.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/vm_drbd.h"

#define START_NS   (30 * NS_PER_S) /* until pollux-vmm serves */
#define START_POLL (20 * NS_PER_MS)
#define END_NS	   (5 * NS_PER_S)
#define CALL_S	   10
#define MAX_DOMID  32000u
#define VM_FILE	   "vm.json"

struct vm *vm_find(struct daemon *d, const char *name)
{
	for (struct vm *vm = d->vms; vm; vm = vm->next)
		if (!vm->gone && !strcmp(vm->name, name))
			return vm;
	return NULL;
}

uint64_t vm_memory_bytes(const struct vm *vm)
{
	return json_number(vm->config, "memory_mib", 0) << 20;
}

int vm_check_config(struct json_object *config, struct reason *why)
{
	const char *name, *uuid;
	uint64_t mib;
	int r = json_get_string(config, "name", &name, why);

	if (!r)
		r = text_check_name("name", name, why);
	if (!r)
		r = json_get_string(config, "uuid", &uuid, why);
	if (!r && !text_is_uuid(uuid))
		r = reason_set(why, EINVAL, "uuid \"%.60s\" is none", uuid);
	if (!r)
		r = json_get_u64(config, "memory_mib", &mib, why);
	if (!r && (mib < 64 || mib > 1u << 20))
		r = reason_set(why, EINVAL, "memory_mib: %llu is not between 64 and 1048576",
			       (unsigned long long)mib);
	return r;
}

/* The lowest free number: mkdir(2) is the lock. */
static int take_domid(struct daemon *d, uint32_t *ret, struct reason *why)
{
	for (uint32_t id = 1; id <= MAX_DOMID; id++) {
		struct path dir = path_vm_dir(&d->conf, id);

		if (!mkdir(dir.text, 0711)) {
			*ret = id;
			return 0;
		}
		if (errno != EEXIST)
			return reason_set(why, errno, "%s: %s", dir.text, strerror(errno));
	}
	return reason_set(why, ENOSPC, "no domain number up to %u is free", MAX_DOMID);
}

static void drop_domid(struct daemon *d, uint32_t domid)
{
	struct path dir = path_vm_dir(&d->conf, domid);
	DIR *list = opendir(dir.text);
	struct dirent *e;

	while (list && (e = readdir(list)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(list), e->d_name, 0);
	if (list)
		closedir(list);
	rmdir(dir.text);
}

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

int vm_save(struct daemon *d, const struct vm *vm)
{
	cleanup_json struct json_object *o = json_object_new_object();
	struct path dir = path_vm_dir(&d->conf, vm->domid);
	struct path file = path_under(dir.text, VM_FILE);

	json_add_string(o, "name", vm->name);
	json_add_string(o, "uuid", vm->uuid);
	json_add_u64(o, "domid", vm->domid);
	json_add_bool(o, "standby", vm->standby);
	process_put(&vm->vmm, o);
	json_add(o, "config", json_object_get(vm->config));
	json_add_string(o, "peer", vm->wish.peer);
	json_add(o, "options", json_object_get(vm->wish.options));
	json_add_bool(o, "protect_again", vm->wish.again);
	json_add(o, "arrival", json_object_get(vm->arrival));
	return json_write_file(file.text, o, 0600);
}

static int launch(struct daemon *d, struct vm *vm, const struct vm_start *s, struct reason *why)
{
	struct path program, dir = path_vm_dir(&d->conf, vm->domid);
	struct path config = path_under(dir.text, "config.json");
	struct path log = path_under(d->conf.log_dir, "%s-vmm.log", vm->name);
	char domid[16];
	char *argv[12] = {
		"pollux-vmm", "--domid",  domid,       "--run-dir",
		dir.text,     "--config", config.text, vm->standby ? "--standby" : NULL
	};
	int memory_fd = s->memory_fd ? *s->memory_fd : -1;
	struct process_launch l = { .argv = argv, .log = log.text, .pass_fd = memory_fd };
	int r = path_program(&d->conf, "pollux-vmm", &program, why);

	if (r < 0)
		return r;
	if (s->regions) {
		assert(!vm->standby);
		argv[7] = "--regions";
		argv[8] = (char *)(uintptr_t)s->regions;
	}
	r = write_config(d, config.text, vm, why);
	if (r < 0)
		return r;
	snprintf(domid, sizeof(domid), "%u", vm->domid);
	if (memory_fd >= 0) {
		argv[8] = "--memory-fd";
		argv[9] = "3";
	}
	l.program = program.text;
	return process_start(&l, &vm->vmm, why);
}

/* pollux-vmm makes its control socket when it is ready to serve. */
static int await_control(struct daemon *d, struct vm *vm, struct reason *why)
{
	struct path dir = path_vm_dir(&d->conf, vm->domid);
	struct path log = path_under(d->conf.log_dir, "%s-vmm.log", vm->name);
	uint64_t deadline = clock_now_ns() + START_NS;
	struct control *c;
	char words[180];

	while (control_connect(dir.text, &c) < 0) {
		if (!process_alive(&vm->vmm)) {
			process_last_words(log.text, words, sizeof(words));
			return reason_set(why, EIO, "pollux-vmm: %s",
					  words[0] ? words : "ended at once, without a word");
		}
		if (clock_now_ns() > deadline)
			return reason_set(why, ETIMEDOUT,
					  "pollux-vmm does not serve after 30 s; "
					  "see %.150s",
					  log.text);
		nanosleep(&(struct timespec){ .tv_nsec = START_POLL }, NULL);
	}
	control_close(c);
	return 0;
}

static void add(struct daemon *d, struct vm *vm)
{
	daemon_lock(d);
	vm->daemon = d;
	vm->next = d->vms;
	d->vms = vm;
	d->nr_vms++;
	daemon_unlock(d);
	daemon_wake(d);
}

static int check_new(struct daemon *d, struct json_object *config, struct reason *why)
{
	const char *name = json_text(config, "name", ""), *uuid = json_text(config, "uuid", "");
	int r = 0;

	daemon_lock(d);
	if (vm_find(d, name))
		r = reason_set(why, EEXIST, "VM %s exists here", name);
	else if (d->nr_vms >= DAEMON_MAX_VMS)
		r = reason_set(why, ENOSPC, "%u VMs exist here, at most %u", d->nr_vms,
			       DAEMON_MAX_VMS);
	for (struct vm *vm = d->vms; !r && vm; vm = vm->next)
		if (!vm->gone && !strcmp(vm->uuid, uuid))
			r = reason_set(why, EEXIST, "VM %s has the same uuid %s", vm->name, uuid);
	daemon_unlock(d);
	return r;
}

int vm_start(struct daemon *d, const struct vm_start *s, struct vm **ret, struct reason *why)
{
	struct vm *vm;
	int r = vm_check_config(s->config, why);

	if (!r)
		r = check_new(d, s->config, why);
	if (r < 0)
		return r;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return reason_set(why, ENOMEM, "out of memory");
	snprintf(vm->name, sizeof(vm->name), "%s", json_text(s->config, "name", ""));
	snprintf(vm->uuid, sizeof(vm->uuid), "%s", json_text(s->config, "uuid", ""));
	vm->memory_fd = -1;
	vm->standby = s->standby;
	vm->state = s->standby ? CONTROL_PAUSED : CONTROL_RUNNING;
	vm->config = json_copy(s->config);
	if (s->wish) {
		vm->wish = *s->wish;
		vm->wish.options = json_copy(s->wish->options);
	}
	if (!s->memory_fd) {
		kept_drop(d, vm->name);
		kept_make_room(d, vm->name, vm_memory_bytes(vm));
	}
	r = take_domid(d, &vm->domid, why);
	if (r < 0)
		goto err_free;
	r = launch(d, vm, s, why);
	if (!r)
		r = await_control(d, vm, why);
	if (!r && vm_save(d, vm) < 0)
		r = reason_set(why, EIO, "%s cannot be written", d->conf.run_dir);
	if (r < 0)
		goto err_launch;
	vm->memory_fd = kept_open(d, vm->domid, vm_memory_bytes(vm));
	add(d, vm);
	*ret = vm;
	return 0;

err_launch:
	process_signal(&vm->vmm, SIGKILL);
	process_wait(&vm->vmm, clock_now_ns() + END_NS);
	drop_domid(d, vm->domid);
	if (!vm->standby)
		vm_drbd_let_go(vm->config);
err_free:
	vm_free(vm);
	return r;
}

int vm_connect(struct daemon *d, uint32_t domid, struct control **ret, struct reason *why)
{
	struct path dir = path_vm_dir(&d->conf, domid);
	struct timeval limit = { .tv_sec = CALL_S };
	struct control *c;
	int r = control_connect(dir.text, &c);

	if (r < 0)
		return reason_set(why, -r, "pollux-vmm does not answer: %s", strerror(-r));
	if (setsockopt(control_fd(c), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(control_fd(c), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
		control_close(c);
		return reason_set(why, EIO, "no limit can be set on a socket");
	}
	*ret = c;
	return 0;
}

static int order(struct daemon *d, struct vm *vm, enum control_reason what, struct reason *why)
{
	uint8_t request = (uint8_t)what;
	struct control_call call = {
		.op = CONTROL_SHUTDOWN,
		.request = &request,
		.request_len = 1,
		.why = why,
	};
	struct cursor reply;
	struct control *c;
	int r = vm_connect(d, vm->domid, &c, why);

	if (r < 0)
		return r;
	r = control_call(c, &call, &reply);
	control_close(c);
	return r;
}

bool vm_stands_still(struct daemon *d, struct vm *vm)
{
	struct control_call call = { .op = CONTROL_INFO };
	bool still = false;
	struct cursor reply;
	struct control *c;

	if (vm_connect(d, vm->domid, &c, NULL) < 0)
		return false;
	if (!control_call(c, &call, &reply))
		still = cursor_get_u8(&reply) == CONTROL_PAUSED && cursor_ok(&reply);
	control_close(c);
	return still;
}

int vm_press_power(struct daemon *d, struct vm *vm, struct reason *why)
{
	return order(d, vm, CONTROL_POWEROFF, why);
}

static void end(struct daemon *d, struct vm *vm, bool keep)
{
	cleanup_close int memory = -1;
	struct process engine;

	daemon_lock(d);
	engine = vm->guard.process;
	daemon_unlock(d);
	guard_end(d, vm);
	order(d, vm, CONTROL_DESTROY, NULL);
	if (process_wait(&vm->vmm, clock_now_ns() + END_NS) < 0)
		process_signal(&vm->vmm, SIGKILL);
	process_wait(&vm->vmm, clock_now_ns() + END_NS);
	drop_domid(d, vm->domid);
	vm_drbd_let_go(vm->config);
	/* Whoever can still write to it would write into the next standby. */
	if (keep && !process_alive(&vm->vmm) && !process_alive(&engine))
		kept_put(d, vm);
	else
		kept_drop(d, vm->name);
	memory = take_fd(&vm->memory_fd);
	daemon_lock(d);
	vm->gone = true;
	d->nr_vms--;
	daemon_unlock(d);
	daemon_wake(d);
}

void vm_end(struct daemon *d, struct vm *vm)
{
	end(d, vm, false);
}

void vm_end_keeping(struct daemon *d, struct vm *vm)
{
	end(d, vm, true);
}

void vm_becomes_active(struct daemon *d, struct vm *vm)
{
	daemon_lock(d);
	vm->standby = false;
	vm->state = CONTROL_RUNNING;
	if (!vm->arrival)
		vm->arrival = json_object_new_object();
	json_add_copy(vm->arrival, "takeover", vm->guard.status);
	json_add_copy(vm->arrival, "switchover", vm->guard.status);
	daemon_unlock(d);
	vm_save(d, vm);
}

void vm_free(struct vm *vm)
{
	json_object_put(vm->config);
	json_object_put(vm->guard.status);
	json_object_put(vm->wish.options);
	json_object_put(vm->arrival);
	err_close_fd(&vm->memory_fd);
	free(vm);
}

/* --- after a restart ------------------------------------------------------------------- */

static int adopt(struct daemon *d, uint32_t domid)
{
	struct path dir = path_vm_dir(&d->conf, domid), file = path_under(dir.text, VM_FILE);
	cleanup_json struct json_object *o = NULL;
	struct json_object *config;
	struct process p;
	struct vm *vm;

	if (json_read_file(file.text, &o, NULL) < 0 ||
	    json_get_object(o, "config", &config, NULL) < 0 || vm_check_config(config, NULL) < 0)
		return -EINVAL;
	p = process_get(o);
	if (!process_alive(&p))
		return -ESRCH;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->domid = domid;
	vm->vmm = p;
	vm->memory_fd = kept_open(d, domid, json_number(config, "memory_mib", 0) << 20);
	vm->standby = json_flag(o, "standby");
	vm->state = vm->standby ? CONTROL_PAUSED : CONTROL_RUNNING;
	vm->config = json_object_get(config);
	snprintf(vm->name, sizeof(vm->name), "%s", json_text(config, "name", ""));
	snprintf(vm->uuid, sizeof(vm->uuid), "%s", json_text(config, "uuid", ""));
	snprintf(vm->wish.peer, sizeof(vm->wish.peer), "%s", json_text(o, "peer", ""));
	vm->wish.options = json_object_get(json_member(o, "options"));
	vm->wish.again = json_flag(o, "protect_again");
	vm->arrival = json_object_get(json_member(o, "arrival"));
	guard_adopt(d, vm);
	add(d, vm);
	events_add(d, vm->name, "vm.adopted", "found running as domain %u", domid);
	return 0;
}

void vm_adopt_all(struct daemon *d)
{
	struct path folder = path_under(d->conf.run_dir, "vm");
	DIR *list = opendir(folder.text);
	struct dirent *e;

	while (list && (e = readdir(list))) {
		uint64_t domid;

		if (text_parse_u64(e->d_name, &domid, NULL) < 0 || domid > MAX_DOMID)
			continue;
		/* A folder whose process is gone is what a crash has left. One whose process
		 * lives but was not yet written down is not ours to end: it stays. */
		if (adopt(d, (uint32_t)domid) == -ESRCH)
			drop_domid(d, (uint32_t)domid);
	}
	if (list)
		closedir(list);
}
