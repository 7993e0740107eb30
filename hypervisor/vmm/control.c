/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/control.h"

#include <pthread.h>

#include "hypervisor/control/server.h"
#include "hypervisor/vmm/control_ops.h"
#include "hypervisor/vmm/control_track.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/vm.h"

struct vm_control {
	struct vm *vm;
	struct control_server *server;
	pthread_mutex_t lock; /* see control_ops.h; before the lock of run */
};

static int execute(void *opaque, uint32_t op, struct control_work *work)
{
	struct vm_control *c = opaque;
	struct control_request request = {
		.vm = c->vm,
		.lock = &c->lock,
		.in = work->in,
		.out = work->out,
		.in_fds = work->in_fds,
		.nr_in_fds = work->nr_in_fds,
	};
	int err;

	if (control_track_is(op))
		return control_track(c->vm->disk_track, op, work);
	err = control_execute(op, &request);
	work->out = request.out;
	work->why = request.why;
	work->nr_fds = request.nr_fds;
	memcpy(work->fds, request.fds, sizeof(work->fds));
	return err;
}

static int watch(void *opaque, int event_fd)
{
	struct vm_control *c = opaque;

	return run_watch(c->vm, event_fd);
}

static void unwatch(void *opaque, int event_fd)
{
	struct vm_control *c = opaque;

	run_unwatch(c->vm, event_fd);
}

static void state(void *opaque, uint32_t *ret_state, uint32_t *ret_reason)
{
	struct vm_control *c = opaque;
	struct run_info info;

	run_info(c->vm, &info);
	*ret_state = info.state;
	*ret_reason = info.reason;
}

int vm_control_open(struct vm *vm, struct vm_control **ret, struct reason *why)
{
	struct vm_control *c = calloc(1, sizeof(*c));
	const struct control_server_config config = {
		.run_dir = vm->run_dir,
		.opaque = c,
		.execute = execute,
		.watch = watch,
		.unwatch = unwatch,
		.state = state,
	};
	int err;

	if (!c)
		return -ENOMEM;
	c->vm = vm;
	pthread_mutex_init(&c->lock, NULL);
	err = control_server_open(&config, &c->server, why);
	if (err) {
		vm_control_close(c);
		return err;
	}
	*ret = c;
	return 0;
}

int vm_control_start(struct vm_control *control)
{
	return control_server_start(control->server);
}

void vm_control_close(struct vm_control *control)
{
	if (!control)
		return;
	control_server_close(control->server);
	pthread_mutex_destroy(&control->lock);
	free(control);
}
