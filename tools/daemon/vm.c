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
#include "tools/daemon/vm_platform.h"

#define START_NS   (30 * NS_PER_S) /* until the VM is served */
#define START_POLL (20 * NS_PER_MS)
#define END_NS	   (5 * NS_PER_S)
#define CALL_S	   10
#define MAX_NUMBER 32000u
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
static int take_number(struct daemon *d, uint32_t *ret, struct reason *why)
{
	for (uint32_t n = 1; n <= MAX_NUMBER; n++) {
		struct path dir = path_vm_dir(&d->conf, n);

		if (!mkdir(dir.text, 0711)) {
			*ret = n;
			return 0;
		}
		if (errno != EEXIST)
			return reason_set(why, errno, "%s: %s", dir.text, strerror(errno));
	}
	return reason_set(why, ENOSPC, "no number up to %u is free for a VM", MAX_NUMBER);
}

static void drop_number(struct daemon *d, uint32_t number)
{
	struct path dir = path_vm_dir(&d->conf, number);
	DIR *list = opendir(dir.text);
	struct dirent *e;

	while (list && (e = readdir(list)))
		if (e->d_name[0] != '.')
			unlinkat(dirfd(list), e->d_name, 0);
	if (list)
		closedir(list);
	rmdir(dir.text);
}

int vm_save(struct daemon *d, const struct vm *vm)
{
	cleanup_json struct json_object *o = json_object_new_object();
	struct path dir = path_vm_dir(&d->conf, vm->number);
	struct path file = path_under(dir.text, VM_FILE);

	json_add_string(o, "name", vm->name);
	json_add_string(o, "uuid", vm->uuid);
	json_add_u64(o, "domid", vm->domid);
	json_add_bool(o, "standby", vm->standby);
	json_add_bool(o, "foreign", vm->foreign);
	process_put(&vm->server, o);
	json_add(o, "config", json_object_get(vm->config));
	json_add_string(o, "peer", vm->wish.peer);
	json_add(o, "options", json_object_get(vm->wish.options));
	json_add_bool(o, "protect_again", vm->wish.again);
	json_add(o, "arrival", json_object_get(vm->arrival));
	return json_write_file(file.text, o, 0600);
}

static struct path log_path(struct daemon *d, const struct vm *vm)
{
	return path_under(d->conf.log_dir, "%s-%s.log", vm->name, vm->platform->log);
}

/* `s` NULL: of one that has lost the process that served it. */
static int launch(struct daemon *d, struct vm *vm, const struct vm_start *s, struct reason *why)
{
	struct path program, dir = path_vm_dir(&d->conf, vm->number), log = log_path(d, vm);
	struct vm_launch args = { .config = path_under(dir.text, "config.json"), .pass_fd = -1 };
	struct process_launch l = { .argv = (char *const *)(uintptr_t)args.argv, .log = log.text };
	int r = path_program(&d->conf, vm->platform->program, &program, why);

	if (r < 0)
		return r;
	vm_launch_add(&args, vm->platform->program);
	vm_launch_add(&args, "--run-dir");
	vm_launch_add(&args, dir.text);
	r = vm->platform->arguments(d, vm, s, &args, why);
	if (r < 0)
		return r;
	l.program = program.text;
	l.pass_fd = args.pass_fd;
	return process_start(&l, &vm->server, why);
}

/* Why a process has ended, by its last words: of a line of keys what is in `reason`. */
static const char *plain_words(char *words)
{
	static const char key[] = "reason=\"";
	char *at = strstr(words, key), *end = at ? strrchr(at, '"') : NULL;

	if (!at || end < at + sizeof(key) - 1)
		return words[0] ? words : "ended at once, without a word";
	*end = '\0';
	return at + sizeof(key) - 1;
}

/* Its control socket appears when it is ready to serve. */
static int await_control(struct daemon *d, struct vm *vm, struct reason *why)
{
	const char *program = vm->platform->program;
	struct path dir = path_vm_dir(&d->conf, vm->number), log = log_path(d, vm);
	uint64_t deadline = clock_now_ns() + START_NS;
	struct control *c;
	char words[180];

	while (control_connect(dir.text, &c) < 0) {
		if (!process_alive(&vm->server)) {
			process_last_words(log.text, words, sizeof(words));
			return reason_set(why, EIO, "%s: %s", program, plain_words(words));
		}
		if (clock_now_ns() > deadline)
			return reason_set(why, ETIMEDOUT,
					  "%s does not serve after 30 s; see %.150s", program,
					  log.text);
		nanosleep(&(struct timespec){ .tv_nsec = START_POLL }, NULL);
	}
	control_close(c);
	return 0;
}

/* Whatever fails, no process of it is left. */
static int serve(struct daemon *d, struct vm *vm, const struct vm_start *s, struct reason *why)
{
	int r = launch(d, vm, s, why);

	if (!r)
		r = await_control(d, vm, why);
	if (!r)
		r = vm->platform->greet(d, vm, why);
	if (!r && vm_save(d, vm) < 0)
		r = reason_set(why, EIO, "%s cannot be written", d->conf.run_dir);
	if (!r)
		return 0;
	process_end(&vm->server, vm->platform->lives_on ? END_NS : 0);
	return r;
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

static int check_new(struct daemon *d, const char *name, const char *uuid, struct reason *why)
{
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

static int make(const struct vm_start *s, struct vm **ret, struct reason *why)
{
	const struct vm_platform *platform =
		s->config ? vm_platform_of(s->config) : &vm_platform_xen;
	struct vm *vm;

	if (!platform)
		return reason_set(why, EINVAL, "platform \"%.40s\" is neither kvm nor xen",
				  json_text(s->config, "platform", ""));
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return reason_set(why, ENOMEM, "out of memory");
	vm->platform = platform;
	snprintf(vm->name, sizeof(vm->name), "%s", s->adopt ?: json_text(s->config, "name", ""));
	snprintf(vm->uuid, sizeof(vm->uuid), "%s", json_text(s->config, "uuid", ""));
	vm->memory_fd = -1;
	vm->standby = s->standby;
	vm->foreign = s->adopt;
	vm->state = s->standby ? CONTROL_PAUSED : CONTROL_RUNNING;
	vm->config = json_copy(s->config);
	if (s->wish) {
		vm->wish = *s->wish;
		vm->wish.options = json_copy(s->wish->options);
	}
	*ret = vm;
	return 0;
}

int vm_start(struct daemon *d, const struct vm_start *s, struct vm **ret, struct reason *why)
{
	struct vm *vm = NULL;
	int r = s->config ? vm_check_config(s->config, why) : 0;

	if (!r)
		r = check_new(d, s->adopt ?: json_text(s->config, "name", ""),
			      json_text(s->config, "uuid", ""), why);
	if (!r)
		r = make(s, &vm, why);
	if (r < 0)
		return r;
	if (!s->memory_fd) {
		kept_drop(d, vm->name);
		if (vm->platform->memory_here)
			kept_make_room(d, vm->name, vm_memory_bytes(vm));
	}
	r = take_number(d, &vm->number, why);
	if (r < 0)
		goto err_free;
	vm->domid = vm->number;
	r = serve(d, vm, s, why);
	if (r < 0)
		goto err_number;
	add(d, vm);
	*ret = vm;
	return 0;

err_number:
	drop_number(d, vm->number);
	if (!vm->standby)
		vm_drbd_let_go(vm->config);
err_free:
	vm_free(vm);
	return r;
}

int vm_serve_again(struct daemon *d, struct vm *vm, struct reason *why)
{
	return serve(d, vm, NULL, why);
}

int vm_describe(struct daemon *d, struct vm *vm, struct reason *why)
{
	int r = vm->platform->describe ? vm->platform->describe(d, vm, why) : 0;

	if (!r && vm_save(d, vm) < 0)
		r = reason_set(why, EIO, "%s cannot be written", d->conf.run_dir);
	return r;
}

int vm_connect(struct daemon *d, uint32_t number, struct control **ret, struct reason *why)
{
	struct path dir = path_vm_dir(&d->conf, number);
	struct timeval limit = { .tv_sec = CALL_S };
	struct control *c;
	int r = control_connect(dir.text, &c);

	if (r < 0)
		return reason_set(why, -r, "what serves the VM does not answer: %s", strerror(-r));
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
	int r = vm_connect(d, vm->number, &c, why);

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

	if (vm_connect(d, vm->number, &c, NULL) < 0)
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

static void forget(struct daemon *d, struct vm *vm)
{
	drop_number(d, vm->number);
	daemon_lock(d);
	vm->gone = true;
	d->nr_vms--;
	daemon_unlock(d);
	daemon_wake(d);
}

static void end(struct daemon *d, struct vm *vm, bool keep)
{
	cleanup_close int memory = -1;
	struct process engine;

	daemon_lock(d);
	engine = vm->guard.process;
	daemon_unlock(d);
	guard_end(d, vm);
	/* It is ended by who serves it. When none can serve it, it is gone already. */
	if (vm->platform->lives_on && !process_alive(&vm->server))
		vm_serve_again(d, vm, NULL);
	order(d, vm, CONTROL_DESTROY, NULL);
	if (process_wait(&vm->server, clock_now_ns() + vm->platform->end_ns) < 0)
		process_signal(&vm->server, SIGKILL);
	process_wait(&vm->server, clock_now_ns() + END_NS);
	vm_drbd_let_go(vm->config);
	/* Whoever can still write to it would write into the next standby. */
	if (keep && !process_alive(&vm->server) && !process_alive(&engine))
		kept_put(d, vm);
	else
		kept_drop(d, vm->name);
	memory = take_fd(&vm->memory_fd);
	forget(d, vm);
}

void vm_tell_died(struct daemon *d, const struct vm *vm)
{
	struct path log = path_under(d->conf.log_dir, "%s-%s.log", vm->name, vm->platform->log);
	char words[160];

	process_last_words(log.text, words, sizeof(words));
	events_add(d, vm->name, "vm.died", "%s has ended: %s", vm->platform->program,
		   words[0] ? words : "without a word");
}

void vm_end(struct daemon *d, struct vm *vm)
{
	end(d, vm, false);
}

void vm_end_keeping(struct daemon *d, struct vm *vm)
{
	end(d, vm, true);
}

void vm_let_go(struct daemon *d, struct vm *vm)
{
	assert(vm->platform->lives_on);
	guard_end(d, vm);
	process_end(&vm->server, END_NS);
	forget(d, vm);
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

static void read_saved(struct vm *vm, struct json_object *o, struct json_object *config)
{
	vm->domid = (uint32_t)json_number(o, "domid", vm->number);
	vm->server = process_get(o);
	vm->standby = json_flag(o, "standby");
	vm->foreign = json_flag(o, "foreign");
	vm->state = vm->standby ? CONTROL_PAUSED : CONTROL_RUNNING;
	vm->config = json_object_get(config);
	snprintf(vm->name, sizeof(vm->name), "%s", json_text(config, "name", ""));
	snprintf(vm->uuid, sizeof(vm->uuid), "%s", json_text(config, "uuid", ""));
	snprintf(vm->wish.peer, sizeof(vm->wish.peer), "%s", json_text(o, "peer", ""));
	vm->wish.options = json_object_get(json_member(o, "options"));
	vm->wish.again = json_flag(o, "protect_again");
	vm->arrival = json_object_get(json_member(o, "arrival"));
}

static int adopt(struct daemon *d, uint32_t number)
{
	struct path dir = path_vm_dir(&d->conf, number), file = path_under(dir.text, VM_FILE);
	cleanup_json struct json_object *o = NULL;
	const struct vm_platform *platform;
	struct json_object *config;
	struct process p;
	struct vm *vm;

	if (json_read_file(file.text, &o, NULL) < 0 ||
	    json_get_object(o, "config", &config, NULL) < 0 || vm_check_config(config, NULL) < 0)
		return -EINVAL;
	p = process_get(o);
	platform = vm_platform_of(config);
	/* One that lives on is served again, once the loop sees that nobody does. */
	if (!platform || (!process_alive(&p) && !platform->lives_on))
		return -ESRCH;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->platform = platform;
	vm->number = number;
	vm->memory_fd = -1;
	read_saved(vm, o, config);
	if (process_alive(&vm->server))
		platform->greet(d, vm, NULL);
	guard_adopt(d, vm);
	add(d, vm);
	events_add(d, vm->name, "vm.adopted", "found running as domain %u", vm->domid);
	return 0;
}

void vm_adopt_all(struct daemon *d)
{
	struct path folder = path_under(d->conf.run_dir, "vm");
	DIR *list = opendir(folder.text);
	struct dirent *e;

	while (list && (e = readdir(list))) {
		uint64_t number;

		if (text_parse_u64(e->d_name, &number, NULL) < 0 || number > MAX_NUMBER)
			continue;
		/* A folder whose process is gone is what a crash has left. One whose process
		 * lives but was not yet written down is not ours to end: it stays. */
		if (adopt(d, (uint32_t)number) == -ESRCH)
			drop_number(d, (uint32_t)number);
	}
	if (list)
		closedir(list);
}
