/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/run.h"

#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "hypervisor/vmm/boot.h"
#include "hypervisor/vmm/vcpu.h"
#include "hypervisor/vmm/vm.h"

/* Guests look for lost time after a pause of seconds; shorter ones need no excuse. */
#define EXCUSE_AFTER_NS NS_PER_S

struct run {
	struct vm *vm;
	int wake_fd;   /* eventfd: the main thread has something to do */
	int signal_fd; /* SIGTERM, SIGINT */
	pthread_mutex_t lock;
	pthread_cond_t parked;	/* running fell to 0, or a request was executed */
	pthread_cond_t resumed; /* halts fell to 0, or quit */

	/* All below: lock. */
	unsigned int halts;   /* who holds the VM halted */
	unsigned int running; /* vCPU threads that are not parked; atomic for a glance */
	bool gate_closed;     /* by us */
	uint32_t pause_count; /* part of halts: by clients */
	bool settled;	      /* a client was told that it is paused */
	bool fresh;	      /* no vCPU has run */
	uint64_t halted_at_ns;
	bool requested, stopped, destroy, quit;
	enum control_reason request;	  /* while requested */
	enum control_reason reason;	  /* of the last stop */
	int watcher[CONTROL_MAX_CLIENTS]; /* eventfds; -1: free */
	unsigned int nr_watchers;
};

static void raise_fd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return; /* full: it is raised already */
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int run_open(struct vm *vm, struct run **ret)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return -ENOMEM;
	run->vm = vm;
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->parked, NULL);
	pthread_cond_init(&run->resumed, NULL);
	run->fresh = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(run->watcher); i++)
		run->watcher[i] = -1;
	run->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	run->signal_fd = open_signals();
	if (run->wake_fd < 0 || run->signal_fd < 0) {
		run_close(run);
		return -EMFILE;
	}
	/* Threads that have yet to start count as running; they park first of all. */
	run->running = vm->config.nr_vcpus;
	if (vm->standby) {
		run->halts = run->pause_count = 1;
		run->settled = true;
		/* Its vCPU threads park before they ever enter the guest. */
		gate_close(&vm->gate);
		run->gate_closed = true;
	}
	*ret = run;
	return 0;
}

void run_close(struct run *run)
{
	if (!run)
		return;
	if (run->wake_fd >= 0)
		close(run->wake_fd);
	if (run->signal_fd >= 0)
		close(run->signal_fd);
	free(run);
}

/* --- halting and going on: lock held ----------------------------------------------------- */

static void hold(struct run *run)
{
	if (run->halts++ > 0)
		return;
	run->halted_at_ns = clock_now_ns();
	blackbox_record("halt", run->running, 0);
	for (unsigned int i = 0; i < run->vm->config.nr_vcpus; i++)
		vcpu_kick(&run->vm->vcpu[i]);
}

/* Someone else may end the last hold while we wait: then there is nothing to wait for. */
static void wait_halted(struct run *run)
{
	while (run->running > 0 && run->halts > 0 && !run->quit)
		pthread_cond_wait(&run->parked, &run->lock);
	if (run->halts > 0 && run->running == 0 && !run->gate_closed && !run->quit) {
		gate_close(&run->vm->gate);
		run->gate_closed = true;
		blackbox_record("halted", clock_now_ns() - run->halted_at_ns, 0);
	}
}

/*
 * After a long pause the guest's watchdogs are told that it was not its own fault: P6.
 * Processors without a kvmclock refuse, and have nothing to be told.
 */
static void excuse_pause(struct run *run)
{
	if (clock_now_ns() - run->halted_at_ns < EXCUSE_AFTER_NS)
		return;
	for (unsigned int i = 0; i < run->vm->config.nr_vcpus; i++)
		ioctl(run->vm->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
}

static void release(struct run *run)
{
	assert(run->halts > 0);
	if (--run->halts > 0)
		return;
	blackbox_record("resume", clock_now_ns() - run->halted_at_ns, 0);
	if (run->gate_closed) {
		excuse_pause(run);
		gate_open(&run->vm->gate);
		run->gate_closed = false;
	}
	pthread_cond_broadcast(&run->resumed);
	pthread_cond_broadcast(&run->parked);
}

bool run_park(struct vcpu *vcpu)
{
	struct run *run = vcpu->vm->run;
	bool go_on;

	pthread_mutex_lock(&run->lock);
	if (run->halts == 0)
		goto out;
	if (__atomic_sub_fetch(&run->running, 1, __ATOMIC_RELEASE) == 0)
		pthread_cond_broadcast(&run->parked);
	while (run->halts > 0 && !run->quit)
		pthread_cond_wait(&run->resumed, &run->lock);
	__atomic_add_fetch(&run->running, 1, __ATOMIC_RELEASE);
out:
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	run->fresh = run->fresh && run->quit;
	go_on = !run->quit;
	pthread_mutex_unlock(&run->lock);
	return go_on;
}

/* --- clients ----------------------------------------------------------------------------- */

uint64_t run_pause(struct vm *vm)
{
	struct run *run = vm->run;
	uint64_t start = clock_now_ns();

	pthread_mutex_lock(&run->lock);
	run->pause_count++;
	hold(run);
	wait_halted(run);
	while (run->requested && !run->settled && !run->quit)
		pthread_cond_wait(&run->parked, &run->lock);
	run->settled = run->pause_count > 0;
	pthread_mutex_unlock(&run->lock);
	return clock_now_ns() - start;
}

int run_unpause(struct vm *vm)
{
	struct run *run = vm->run;
	int err = 0;

	pthread_mutex_lock(&run->lock);
	if (run->pause_count == 0) {
		err = -EINVAL;
	} else {
		if (--run->pause_count == 0)
			run->settled = false;
		release(run);
		if (run->requested)
			raise_fd(run->wake_fd);
	}
	pthread_mutex_unlock(&run->lock);
	return err;
}

bool run_is_paused(struct vm *vm)
{
	struct run *run = vm->run;
	bool paused;

	pthread_mutex_lock(&run->lock);
	paused = run->settled && run->gate_closed;
	pthread_mutex_unlock(&run->lock);
	return paused;
}

bool run_is_fresh(struct vm *vm)
{
	struct run *run = vm->run;
	bool fresh;

	pthread_mutex_lock(&run->lock);
	fresh = run->fresh;
	pthread_mutex_unlock(&run->lock);
	return fresh;
}

void run_info(struct vm *vm, struct run_info *ret)
{
	struct run *run = vm->run;

	pthread_mutex_lock(&run->lock);
	*ret = (struct run_info){
		.state = run->stopped		? CONTROL_STOPPED
			 : run->pause_count > 0 ? CONTROL_PAUSED
						: CONTROL_RUNNING,
		.reason = run->reason,
		.pause_count = run->pause_count,
	};
	pthread_mutex_unlock(&run->lock);
}

int run_watch(struct vm *vm, int event_fd)
{
	struct run *run = vm->run;
	int err = -EBUSY;

	pthread_mutex_lock(&run->lock);
	for (unsigned int i = 0; err && i < ARRAY_SIZE(run->watcher); i++) {
		if (run->watcher[i] >= 0)
			continue;
		run->watcher[i] = event_fd;
		run->nr_watchers++;
		err = 0;
	}
	pthread_mutex_unlock(&run->lock);
	return err;
}

void run_unwatch(struct vm *vm, int event_fd)
{
	struct run *run = vm->run;

	pthread_mutex_lock(&run->lock);
	for (unsigned int i = 0; i < ARRAY_SIZE(run->watcher); i++) {
		if (run->watcher[i] != event_fd)
			continue;
		run->watcher[i] = -1;
		run->nr_watchers--;
	}
	raise_fd(run->wake_fd);
	pthread_mutex_unlock(&run->lock);
}

static void tell_watchers(struct run *run)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(run->watcher); i++)
		if (run->watcher[i] >= 0)
			raise_fd(run->watcher[i]);
}

/* --- requests ---------------------------------------------------------------------------- */

/* The request holds the VM, from the instruction that made it until it is executed. The
 * first of several counts: processors may fault one after the other on their way down. */
void run_request(struct vm *vm, enum control_reason reason)
{
	struct run *run = vm->run;

	blackbox_record("request", reason, 0);
	pthread_mutex_lock(&run->lock);
	if (reason == CONTROL_DESTROY) {
		run->destroy = true;
	} else if (!run->requested && !run->stopped) {
		run->requested = true;
		run->request = reason;
		hold(run);
	}
	raise_fd(run->wake_fd);
	pthread_mutex_unlock(&run->lock);
}

static enum config_action action_for(const struct vm *vm, enum control_reason reason)
{
	switch (reason) {
	case CONTROL_POWEROFF:
		return vm->config.on_poweroff;
	case CONTROL_REBOOT:
		return vm->config.on_reboot;
	case CONTROL_CRASH:
		return vm->config.on_crash;
	case CONTROL_DESTROY:
		break;
	}
	return CONFIG_DESTROY;
}

/* Stopped for good: the request's hold is never released. */
static void stop(struct run *run, enum control_reason reason)
{
	static const char *const names[] = { "poweroff", "reboot", "crash", "destroy" };

	run->stopped = true;
	run->reason = reason;
	log_notice("event=vm_stopped reason=%s", names[reason]);
	tell_watchers(run);
}

/*
 * A reset happens in place: the process, the memory and the devices stay, and every page
 * that loading the kernel changes is marked, so a VM that is being replicated reboots
 * like any other and its copy follows.
 */
static void execute(struct run *run)
{
	enum control_reason reason = run->request;
	int err;

	wait_halted(run);
	if (action_for(run->vm, reason) == CONFIG_RESTART) {
		err = boot_reset(run->vm);
		if (err) {
			log_error("event=reset_failed error=%s", strerror(-err));
			stop(run, reason);
		} else {
			log_notice("event=vm_reset");
			release(run);
		}
	} else {
		stop(run, reason);
	}
	run->requested = false;
	pthread_cond_broadcast(&run->parked);
}

static bool is_over(struct vm *vm, struct run *run)
{
	return run->destroy || (run->stopped && run->nr_watchers == 0 &&
				action_for(vm, run->reason) != CONFIG_PRESERVE);
}

void run_main(struct vm *vm)
{
	struct run *run = vm->run;
	struct pollfd fds[] = { { .fd = run->wake_fd, .events = POLLIN },
				{ .fd = run->signal_fd, .events = POLLIN } };
	bool over = false;
	uint64_t count;

	while (!over) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (read(run->wake_fd, &count, sizeof(count)) < 0)
			count = 0;
		pthread_mutex_lock(&run->lock);
		if (fds[1].revents)
			run->destroy = true;
		if (run->requested && !run->settled && !run->destroy)
			execute(run);
		over = is_over(vm, run);
		pthread_mutex_unlock(&run->lock);
	}
}

void run_quit(struct vm *vm)
{
	struct run *run = vm->run;

	pthread_mutex_lock(&run->lock);
	run->quit = true;
	/* Not just opened: a VM that was fenced lies there with frames in its queues (P3). */
	gate_end(&vm->gate);
	run->gate_closed = false;
	for (unsigned int i = 0; vm->vcpu && i < vm->config.nr_vcpus; i++)
		if (vm->vcpu[i].run)
			vcpu_kick(&vm->vcpu[i]);
	pthread_cond_broadcast(&run->resumed);
	pthread_cond_broadcast(&run->parked);
	pthread_mutex_unlock(&run->lock);
}
