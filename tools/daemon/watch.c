/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/ipc.h"
#include "base/log.h"
#include "ha/record.h"
#include "tools/common/json.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/guard_poll.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/reprotect.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"
#include "tools/daemon/worker.h"

#define RETRY_NS       NS_PER_S
#define NAME_WAIT_NS   (60 * NS_PER_S)
#define FOLLOW_NS      (20 * NS_PER_S) /* until others have done what they do */
#define FOLLOW_POLL_NS (500 * NS_PER_MS)

/* What a worker is told about a VM: its name and which one of that name. */
struct job {
	char name[TEXT_NAME_MAX + 1];
	uint32_t number;
	enum control_reason reason;
};

static struct vm *find_job(struct daemon *d, const struct job *job)
{
	struct vm *vm;

	daemon_lock(d);
	vm = vm_find(d, job->name);
	daemon_unlock(d);
	return vm && vm->number == job->number ? vm : NULL;
}

/* When it fails, the next look tries again. */
static int start_job(struct daemon *d, struct vm *vm, worker_fn *fn, enum control_reason reason)
{
	struct job *job = calloc(1, sizeof(*job));
	int r;

	if (!job)
		return -ENOMEM;
	memcpy(job->name, vm->name, sizeof(job->name));
	job->number = vm->number;
	job->reason = reason;
	r = worker_run(d, fn, job);
	if (r < 0)
		free(job);
	return r;
}

/* --- a VM has stopped by itself ---------------------------------------------------------- */

static const char *action_of(struct vm *vm, enum control_reason reason)
{
	switch (reason) {
	case CONTROL_POWEROFF:
		return json_text(vm->config, "on_poweroff", "destroy");
	case CONTROL_REBOOT:
		return json_text(vm->config, "on_reboot", "restart");
	case CONTROL_CRASH:
		return json_text(vm->config, "on_crash", "destroy");
	case CONTROL_DESTROY:
		return "destroy";
	}
	return "destroy";
}

static const char *word_of(enum control_reason reason)
{
	static const char *const words[] = { "has powered off", "wants to reboot", "has crashed",
					     "was destroyed" };

	return (unsigned int)reason < ARRAY_SIZE(words) ? words[reason] : "has stopped";
}

/* The backup must not take a VM over that has stopped by itself. */
static bool leave_protection(struct daemon *d, struct vm *vm, const char *why_text)
{
	cleanup_json struct json_object *request = json_object_new_object(), *reply = NULL;
	bool was = vm->guard.wanted && vm->guard.primary;
	struct reason why;

	if (!was)
		return false;
	json_add_string(request, "verb", "unprotect");
	json_add_bool(request, "force", false);
	json_add_string(request, "reason", why_text);
	if (guard_call(d, vm->name, request, 10 * NS_PER_S, &reply, &why) < 0 ||
	    !json_flag(reply, "ok"))
		events_add(d, vm->name, "unprotect.failed", "%s",
			   reply ? json_text(reply, "error", "refused") : why.text);
	else
		/* Until the backup's answer is on our disk. */
		process_wait(&vm->guard.process, clock_now_ns() + 10 * NS_PER_S);
	guard_end(d, vm);
	return true;
}

static void restart(struct daemon *d, struct vm *vm, bool protect_again)
{
	struct json_object *config = json_copy(vm->config);
	struct wish wish = vm->wish;
	struct vm_start s = { .config = config, .wish = &wish };
	struct reason why;
	struct vm *again;

	/* One that the backup may run by now is not started a second time. */
	if (!guard_is_alone(d, vm)) {
		events_add(d, vm->name, "vm.ended", "not started again: %s may run it",
			   vm->guard.peer);
		vm_end(d, vm);
		json_object_put(config);
		return;
	}
	wish.again |= protect_again;
	wish.options = json_copy(wish.options);

	vm_end(d, vm);
	if (vm_start(d, &s, &again, &why) < 0)
		events_add(d, json_text(config, "name", "-"), "vm.failed",
			   "does not start again: %s", why.text);
	else
		events_add(d, again->name, "vm.restarted", "runs as domain %u", again->domid);
	json_object_put(config);
	json_object_put(wish.options);
}

/* It is others who see to a domain that they have made. If that is there anew, after a reboot
 * for one, it is protected again. One that was not protected is none of ours any more. */
static void follow(struct daemon *d, struct vm *vm, enum control_reason reason, bool was)
{
	bool comes_back =
		was && (reason == CONTROL_DESTROY || !strcmp(action_of(vm, reason), "restart"));
	uint64_t deadline = clock_now_ns() + (comes_back ? FOLLOW_NS : 0);
	struct wish wish = vm->wish;
	struct vm_start s = { .adopt = vm->name, .wish = &wish };
	struct vm *again = NULL;

	wish.options = json_copy(wish.options);
	wish.again |= was;
	vm_let_go(d, vm); /* the loop frees it, but only once the name is free */
	while (!again && clock_now_ns() < deadline) {
		nanosleep(&(struct timespec){ .tv_nsec = FOLLOW_POLL_NS }, NULL);
		if (vm_start(d, &s, &again, NULL) < 0)
			again = NULL;
		if (again && again->domid == vm->domid) { /* not yet taken away */
			vm_let_go(d, again);
			again = NULL;
		}
	}
	if (again)
		events_add(d, again->name, "vm.restarted", "runs as domain %u", again->domid);
	else if (was)
		events_add(d, vm->name, "unprotected",
			   "protection has ended with the run of the VM");
	json_object_put(wish.options);
}

/*
 * What has ended and nobody takes away is ours to see to: xl, which would have, is gone. It ends
 * when it finds its domain suspended, as it does if another domain of the host ends within a
 * checkpoint of this one.
 */
static bool is_left(struct daemon *d, struct vm *vm, enum control_reason reason, const char *action)
{
	/* What serves it is there for as long as the domain is. */
	if (reason == CONTROL_DESTROY || !strcmp(action, "preserve") ||
	    process_wait(&vm->server, clock_now_ns() + FOLLOW_NS) >= 0)
		return false;
	events_add(d, vm->name, "vm.left", "nobody has seen to its end; action: %s", action);
	return true;
}

static void stopped(struct daemon *d, struct vm *vm, enum control_reason reason)
{
	const char *action = action_of(vm, reason);
	bool was;

	events_add(d, vm->name, "vm.stopped", "%s; action: %s", word_of(reason),
		   vm->foreign ? "left to who made it" : action);
	was = leave_protection(d, vm, "the VM has stopped");
	if (vm->foreign && !is_left(d, vm, reason, action)) {
		follow(d, vm, reason, was);
		return;
	}
	if (was && strcmp(action, "restart"))
		events_add(d, vm->name, "unprotected",
			   "protection has ended with the run of the VM");
	if (!strcmp(action, "restart"))
		restart(d, vm, was);
	else if (strcmp(action, "preserve"))
		vm_end(d, vm);
}

static void stopped_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;
	struct vm *vm;

	if (worker_take_name(d, job->name, clock_now_ns() + NAME_WAIT_NS) < 0)
		return;
	vm = find_job(d, job);
	if (vm)
		stopped(d, vm, job->reason);
	worker_drop_name(d, job->name);
}

/* --- its process has ended ---------------------------------------------------------------- */

static bool runs_elsewhere(struct daemon *d, struct vm *vm)
{
	struct record rec;

	return !record_read(path_state_dir(&d->conf, vm->name).text, &rec, NULL) &&
	       rec.role == RECORD_STOPPED;
}

/* What serves a VM that lives on without. False: the VM is gone, too. */
static bool serve_again(struct daemon *d, struct vm *vm)
{
	struct reason why;

	if (vm->standby || !vm->platform->lives_on || runs_elsewhere(d, vm))
		return false;
	if (vm_serve_again(d, vm, &why) < 0) {
		events_add(d, vm->name, "vm.gone", "%s", why.text);
		return false;
	}
	events_add(d, vm->name, "vm.adopted", "served again, as domain %u", vm->domid);
	return true;
}

static void server_died(struct daemon *d, struct vm *vm)
{
	bool again = !vm->standby && !vm->guard.wanted && !runs_elsewhere(d, vm) &&
		     !strcmp(action_of(vm, CONTROL_CRASH), "restart");

	if (runs_elsewhere(d, vm))
		events_add(d, vm->name, "vm.superseded", "ended here; it runs on %s",
			   vm->guard.peer);
	else
		vm_tell_died(d, vm);
	if (serve_again(d, vm))
		return;
	if (vm->foreign && !runs_elsewhere(d, vm))
		stopped(d, vm, CONTROL_DESTROY);
	else if (again)
		restart(d, vm, false);
	else if (vm->standby || vm->guard.wanted || runs_elsewhere(d, vm))
		vm_end_keeping(d, vm);
	else
		vm_end(d, vm);
}

static void server_died_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;
	struct vm *vm;

	if (worker_take_name(d, job->name, clock_now_ns() + NAME_WAIT_NS) < 0)
		return;
	vm = find_job(d, job);
	if (vm && !process_alive(&vm->server))
		server_died(d, vm);
	worker_drop_name(d, job->name);
}

/* Does `then` to the VM of a job, with its name taken; nothing if it is gone. */
static void with_vm(struct daemon *d, struct job *job, void (*then)(struct daemon *, struct vm *))
{
	struct vm *vm;

	if (worker_take_name(d, job->name, clock_now_ns() + NAME_WAIT_NS) < 0)
		return;
	vm = find_job(d, job);
	if (vm)
		then(d, vm);
	worker_drop_name(d, job->name);
}

static void guard_died_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;

	with_vm(d, job, guard_died);
}

static void reprotect_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;

	with_vm(d, job, reprotect_try);
}

static bool takes_over(const struct vm *vm)
{
	return vm->standby && !strcmp(json_text(vm->guard.status, "role", ""), "active");
}

void watch_arrival(struct daemon *d, struct vm *vm)
{
	bool arrived;

	daemon_lock(d);
	arrived = takes_over(vm);
	daemon_unlock(d);
	if (!arrived)
		return;
	vm_becomes_active(d, vm);
	events_add(d, vm->name, "takeover", "runs here now, taken over from %s", vm->guard.peer);
	reprotect_try(d, vm);
}

static void active_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;

	with_vm(d, job, watch_arrival);
}

/* --- watching ----------------------------------------------------------------------------- */

static void drop_watch(struct vm *vm)
{
	vm->watch_source = sd_event_source_disable_unref(vm->watch_source);
	control_close(vm->watch);
	vm->watch = NULL;
}

static int on_watch(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct vm *vm = user;
	struct daemon *d = vm->daemon;
	uint8_t message[64];
	ssize_t len = recv(fd, message, sizeof(message), MSG_DONTWAIT);
	struct cursor c = cursor_over(message, len > 0 ? (size_t)len : 0);
	uint32_t state, reason;
	bool gone;

	(void)source, (void)revents;
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	state = cursor_get_u32(&c);
	reason = cursor_get_u32(&c);
	if (len <= 0 || !cursor_ok(&c) || state > CONTROL_STOPPED || reason > CONTROL_DESTROY) {
		drop_watch(vm);
		return 0;
	}
	daemon_lock(d);
	vm->state = (enum control_state)state;
	gone = vm->gone;
	daemon_unlock(d);
	/* By pollux-vmm "destroyed" is said of what was ordered here. */
	if (state == CONTROL_STOPPED && !gone &&
	    (reason != CONTROL_DESTROY || vm->platform->lives_on))
		start_job(d, vm, stopped_work, (enum control_reason)reason);
	return 0;
}

/* Connecting may wait for a process that hangs: a worker does it, without the name. */
static void watch_work(struct daemon *d, void *arg)
{
	cleanup_free struct job *job = arg;
	struct control *c = NULL;
	struct vm *vm;

	if (!vm_connect(d, job->number, &c, NULL) && control_simple(c, CONTROL_WATCH) < 0) {
		control_close(c);
		c = NULL;
	}
	daemon_lock(d);
	vm = vm_find(d, job->name);
	if (vm && vm->number == job->number) {
		vm->watch_wanted = false;
		vm->watch_new = c;
		c = NULL;
	}
	daemon_unlock(d);
	control_close(c);
	daemon_wake(d);
}

static void start_watch(struct daemon *d, struct vm *vm)
{
	uint64_t now = clock_now_ns();
	bool ask = false;

	daemon_lock(d);
	if (vm->watch_new) {
		vm->watch = vm->watch_new;
		vm->watch_new = NULL;
	} else if (!vm->watch && !vm->watch_wanted && now >= vm->watch_at_ns) {
		vm->watch_at_ns = now + RETRY_NS;
		vm->watch_wanted = ask = true;
	}
	daemon_unlock(d);
	if (ask && start_job(d, vm, watch_work, CONTROL_CRASH) < 0) {
		daemon_lock(d);
		vm->watch_wanted = false;
		daemon_unlock(d);
	}
	if (vm->watch && !vm->watch_source &&
	    sd_event_add_io(d->loop, &vm->watch_source, control_fd(vm->watch), EPOLLIN, on_watch,
			    vm) < 0)
		drop_watch(vm);
}

void watch_stop(struct vm *vm)
{
	drop_watch(vm);
	control_close(vm->watch_new);
	vm->watch_new = NULL;
	guard_poll_stop(vm);
}

/* What the loop goes by, read in one piece: workers change it meanwhile. */
struct look {
	bool taken, gone, wanted, takes_over, reprotect;
	uint64_t retry_at_ns;
	struct process server, guard;
};

static struct look take_look(struct daemon *d, struct vm *vm)
{
	const struct guard *g = &vm->guard;
	struct look l;

	daemon_lock(d);
	l = (struct look){
		.taken = worker_name_taken(d, vm->name),
		.gone = vm->gone,
		.wanted = g->wanted,
		.takes_over = takes_over(vm),
		.reprotect = reprotect_due(vm),
		.retry_at_ns = g->retry_at_ns,
		.server = vm->server,
		.guard = g->process,
	};
	daemon_unlock(d);
	return l;
}

static void look_at(struct daemon *d, struct vm *vm)
{
	struct look l = take_look(d, vm);

	if (l.gone)
		return;
	start_watch(d, vm);
	guard_poll(d, vm, l.wanted);
	if (l.taken)
		return; /* somebody works on it: what is dead now may be so on purpose */
	if (!process_alive(&l.server))
		start_job(d, vm, server_died_work, CONTROL_CRASH);
	else if (l.wanted && clock_now_ns() >= l.retry_at_ns && !process_alive(&l.guard))
		start_job(d, vm, guard_died_work, CONTROL_CRASH);
	else if (l.takes_over)
		start_job(d, vm, active_work, CONTROL_CRASH);
	else if (l.reprotect)
		start_job(d, vm, reprotect_work, CONTROL_CRASH);
}

static void free_gone(struct daemon *d)
{
	struct vm *gone = NULL;

	daemon_lock(d);
	for (struct vm **at = &d->vms; *at;) {
		struct vm *vm = *at;

		/* A worker that still holds the name may hold the pointer. */
		if (!vm->gone || worker_name_taken(d, vm->name)) {
			at = &vm->next;
			continue;
		}
		*at = vm->next;
		vm->next = gone;
		gone = vm;
	}
	daemon_unlock(d);
	while (gone) {
		struct vm *next = gone->next;

		watch_stop(gone);
		vm_free(gone);
		gone = next;
	}
}

void watch_all(struct daemon *d)
{
	struct vm *first;

	free_gone(d);
	kept_expire(d);
	/* The list changes under the lock, but only at its head, and the loop alone frees. */
	daemon_lock(d);
	first = d->vms;
	daemon_unlock(d);
	for (struct vm *vm = first; vm; vm = vm->next)
		look_at(d, vm);
}
