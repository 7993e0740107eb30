/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/control_ops.h"

#include <fcntl.h>
#include <time.h>

#include "base/hist.h"
#include "hypervisor/vmm/blk_defer.h"
#include "hypervisor/vmm/chip_state.h"
#include "hypervisor/vmm/context.h"
#include "hypervisor/vmm/dirty.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "hypervisor/vmm/net_addresses.h"
#include "hypervisor/vmm/net_hold.h"
#include "hypervisor/vmm/power.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/vcpu.h"
#include "hypervisor/vmm/virtio_blk.h"
#include "hypervisor/vmm/virtio_net.h"
#include "hypervisor/vmm/vm.h"

#define PRESS_WAIT_MS 1000u /* for a paused VM that is told to shut down */

static int refuse(struct control_request *r, int err, const char *text)
{
	return reason_set(&r->why, err, "%s", text);
}

/* Every operation reads its request to the end, then believes it. */
static bool request_ok(const struct control_request *r)
{
	return cursor_done(&r->in);
}

static int bad_request(struct control_request *r)
{
	return refuse(r, EPROTO, "the request has not the length that its operation asks for");
}

/* The reply's descriptors are closed once they are sent, so they are copies. */
static int add_fd(struct control_request *r, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return -errno;
	r->fds[r->nr_fds++] = copy;
	return 0;
}

static void put_text(struct cursor *out, const char *text)
{
	size_t len = MIN(strlen(text), UINT16_MAX);

	cursor_put_u16(out, (uint16_t)len);
	cursor_put_bytes(out, text, len);
}

/* --- the VM ------------------------------------------------------------------------------ */

static int op_hello(struct control_request *r)
{
	struct vm *vm = r->vm;
	uint32_t version = cursor_get_u32(&r->in);
	int err;

	if (!request_ok(r))
		return bad_request(r);
	if (version != CONTROL_VERSION)
		return reason_set(&r->why, EPROTONOSUPPORT, "control version %u, this is %u",
				  version, CONTROL_VERSION);
	err = add_fd(r, vm->memory.fd);
	if (!err)
		err = add_fd(r, vm->export.fd);
	if (err)
		return err;
	cursor_put_u32(&r->out, CONTROL_VERSION);
	cursor_put_u32(&r->out, vm->domid);
	cursor_put_bytes(&r->out, vm->config.uuid, sizeof(vm->config.uuid));
	cursor_put_u64(&r->out, vm->memory.low_bytes);
	cursor_put_u64(&r->out, vm->memory.high_bytes);
	cursor_put_u64(&r->out, vm->memory.nr_gfns);
	cursor_put_u32(&r->out, vm->config.nr_vcpus);
	cursor_put_u32(&r->out, vm->config.nr_disks);
	cursor_put_u32(&r->out, vm->config.nr_nics);
	cursor_put_u64(&r->out, vm->export.dirty_offset);
	cursor_put_u64(&r->out, vm->export.context_offset);
	cursor_put_u64(&r->out, vm->export.context_max);
	put_text(&r->out, vm->config.name);
	return 0;
}

static uint64_t cpu_time_ns(struct vm *vm)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < vm->config.nr_vcpus; i++) {
		struct timespec ts;
		clockid_t id;

		if (pthread_getcpuclockid(vm->vcpu[i].thread, &id) || clock_gettime(id, &ts))
			continue;
		sum += (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
	}
	return sum;
}

static int op_info(struct control_request *r)
{
	struct run_info info;

	if (!request_ok(r))
		return bad_request(r);
	run_info(r->vm, &info);
	cursor_put_u8(&r->out, (uint8_t)info.state);
	cursor_put_u8(&r->out, (uint8_t)info.reason);
	cursor_put_u32(&r->out, info.pause_count);
	cursor_put_u64(&r->out, cpu_time_ns(r->vm));
	return 0;
}

static int op_processors(struct control_request *r)
{
	if (!request_ok(r))
		return bad_request(r);
	cursor_put_u64(&r->out, r->vm->chips->cpuid_digest);
	return 0;
}

static int op_pause(struct control_request *r)
{
	if (!request_ok(r))
		return bad_request(r);
	cursor_put_u64(&r->out, run_pause(r->vm));
	return 0;
}

/* What a standby's devices need (its disks, above all) they take when it shall run. */
static int op_unpause(struct control_request *r)
{
	struct run_info info;
	int err = 0;

	if (!request_ok(r))
		return bad_request(r);
	pthread_mutex_lock(r->lock);
	run_info(r->vm, &info);
	if (info.pause_count == 1)
		err = vm_start_devices(r->vm);
	if (err)
		reason_set(&r->why, -err, "starting devices: %s", strerror(-err));
	else
		err = run_unpause(r->vm);
	pthread_mutex_unlock(r->lock);
	return err;
}

/* A checkpoint's pause is over in milliseconds. False: it lasts, or the VM has ended. */
static bool await_running(struct vm *vm)
{
	const struct timespec step = { .tv_nsec = 1000000 };
	struct run_info info;

	run_info(vm, &info);
	for (unsigned int ms = 0; ms < PRESS_WAIT_MS && info.state == CONTROL_PAUSED; ms++) {
		nanosleep(&step, NULL);
		run_info(vm, &info);
	}
	return info.state == CONTROL_RUNNING;
}

static int op_shutdown(struct control_request *r)
{
	uint8_t how = cursor_get_u8(&r->in);

	if (!request_ok(r) || how > CONTROL_DESTROY)
		return bad_request(r);
	if (how != CONTROL_POWEROFF) {
		run_request(r->vm, (enum control_reason)how);
		return 0;
	}
	if (!await_running(r->vm))
		return refuse(r, EBUSY, "the VM is paused, or has ended");
	gate_enter(&r->vm->gate);
	power_press_button(r->vm->power);
	gate_leave(&r->vm->gate);
	return 0;
}

/* --- what changed, and the state --------------------------------------------------------- */

static int op_logdirty(struct control_request *r)
{
	uint64_t total = (r->vm->memory.low_bytes + r->vm->memory.high_bytes) / GUEST_PAGE_BYTES;
	uint8_t what = cursor_get_u8(&r->in);
	uint64_t dirty = 0;
	int err = -EINVAL;

	if (!request_ok(r) || what > CONTROL_LOGDIRTY_PEEK)
		return bad_request(r);
	switch ((enum control_logdirty)what) {
	case CONTROL_LOGDIRTY_OFF:
		err = dirty_disable(r->vm->dirty);
		break;
	case CONTROL_LOGDIRTY_ENABLE:
		err = dirty_enable(r->vm->dirty);
		dirty = total;
		break;
	case CONTROL_LOGDIRTY_CLEAN:
		err = dirty_take(r->vm->dirty, false, &dirty);
		break;
	case CONTROL_LOGDIRTY_PEEK:
		err = dirty_take(r->vm->dirty, true, &dirty);
		break;
	}
	if (err)
		return err;
	cursor_put_u64(&r->out, dirty);
	cursor_put_u64(&r->out, total);
	return 0;
}

static int op_get_context(struct control_request *r)
{
	struct export_area *area = &r->vm->export;
	size_t len = 0;
	int err = 0;

	if (!request_ok(r))
		return bad_request(r);
	pthread_mutex_lock(r->lock);
	if (!run_is_paused(r->vm))
		err = refuse(r, EBUSY, "the VM is not paused");
	else
		err = context_save(r->vm, area->context, (size_t)area->context_max, &len);
	pthread_mutex_unlock(r->lock);
	if (!err)
		cursor_put_u64(&r->out, len);
	return err;
}

static int op_set_context(struct control_request *r)
{
	struct export_area *area = &r->vm->export;
	uint64_t len = cursor_get_u64(&r->in);
	int err;

	if (!request_ok(r))
		return bad_request(r);
	if (len > area->context_max)
		return reason_set(&r->why, E2BIG, "state: %llu bytes, at most %llu",
				  (unsigned long long)len, (unsigned long long)area->context_max);
	pthread_mutex_lock(r->lock);
	if (!run_is_paused(r->vm) || !run_is_fresh(r->vm) || r->vm->to_start != r->vm->devices)
		err = refuse(r, EBUSY, "a state is only loaded into a standby that has not run");
	else
		err = context_load(r->vm, area->context, (size_t)len, &r->why);
	pthread_mutex_unlock(r->lock);
	return err;
}

/* --- the network ------------------------------------------------------------------------- */

static int op_net_hold(struct control_request *r)
{
	uint8_t on = cursor_get_u8(&r->in);
	uint64_t limit = cursor_get_u64(&r->in);
	int err;

	if (!request_ok(r) || on > 1)
		return bad_request(r);
	err = net_hold_set(r->vm->net_hold, on, limit, on ? &r->fds[0] : NULL);
	if (!err && on)
		r->nr_fds = 1;
	return err;
}

static int op_net_mark(struct control_request *r)
{
	uint64_t epoch = cursor_get_u64(&r->in);

	if (!request_ok(r))
		return bad_request(r);
	return net_hold_mark(r->vm->net_hold, epoch);
}

static int op_net_release(struct control_request *r)
{
	uint64_t epoch = cursor_get_u64(&r->in), not_after_ns = cursor_get_u64(&r->in);
	uint64_t frames = 0, bytes = 0;
	int err;

	if (!request_ok(r))
		return bad_request(r);
	err = net_hold_release(r->vm->net_hold, epoch, not_after_ns, &frames, &bytes);
	if (err)
		return err;
	cursor_put_u64(&r->out, frames);
	cursor_put_u64(&r->out, bytes);
	return 0;
}

static int op_net_drop(struct control_request *r)
{
	if (!request_ok(r))
		return bad_request(r);
	cursor_put_u64(&r->out, net_hold_drop(r->vm->net_hold));
	return 0;
}

static int op_net_stats(struct control_request *r)
{
	struct net_hold_stats stats;

	if (!request_ok(r))
		return bad_request(r);
	net_hold_stats(r->vm->net_hold, &stats);
	cursor_put_u64(&r->out, stats.held_frames);
	cursor_put_u64(&r->out, stats.held_bytes);
	cursor_put_u64(&r->out, stats.limit_hits);
	cursor_put_u64(&r->out, stats.released_frames);
	hist_put(&stats.hold_time, &r->out);
	return 0;
}

static int op_net_addresses(struct control_request *r)
{
	uint16_t nic = cursor_get_u16(&r->in);
	struct net_addresses known;
	uint8_t mac[6];
	int err;

	if (!request_ok(r))
		return bad_request(r);
	err = virtio_net_addresses(r->vm, nic, mac, &known);
	if (err)
		return err;
	cursor_put_bytes(&r->out, mac, sizeof(mac));
	cursor_put_u16(&r->out, (uint16_t)known.nr);
	for (uint32_t i = 0; i < known.nr; i++) {
		cursor_put_u16(&r->out, known.at[i].vlan);
		cursor_put_u8(&r->out, known.at[i].family);
		cursor_put_bytes(&r->out, known.at[i].bytes, sizeof(known.at[i].bytes));
	}
	return 0;
}

static int op_net_inject(struct control_request *r)
{
	uint16_t nic = cursor_get_u16(&r->in);
	size_t len = cursor_left(&r->in);
	const void *frame = cursor_get_view(&r->in, len);

	if (!request_ok(r))
		return bad_request(r);
	return net_hold_inject(r->vm->net_hold, nic, frame, len);
}

/* --- disks ------------------------------------------------------------------------------- */

static int op_disk_list(struct control_request *r)
{
	const struct vm_config *config = &r->vm->config;

	if (!request_ok(r))
		return bad_request(r);
	cursor_put_u16(&r->out, (uint16_t)config->nr_disks);
	for (unsigned int i = 0; i < config->nr_disks; i++) {
		struct virtio_blk_info info;
		int err = virtio_blk_info(r->vm, i, &info);

		if (err)
			return err;
		cursor_put_u64(&r->out, info.bytes);
		cursor_put_u8(&r->out, info.readonly);
		put_text(&r->out, config->disk[i].name ?: config->disk[i].path);
	}
	return 0;
}

static int op_disk_mirror(struct control_request *r)
{
	uint8_t on = cursor_get_u8(&r->in);
	uint64_t ring_bytes = cursor_get_u64(&r->in);
	int err;

	if (!request_ok(r) || on > 1)
		return bad_request(r);
	err = disk_mirror_set(r->vm->disk_mirror, on, ring_bytes, on ? r->fds : NULL);
	if (!err && on)
		r->nr_fds = 3;
	return err;
}

static int op_disk_defer(struct control_request *r)
{
	uint8_t on = cursor_get_u8(&r->in);
	uint64_t limit_bytes = cursor_get_u64(&r->in);
	int err = 0;

	if (!request_ok(r) || on > 1)
		return bad_request(r);
	for (unsigned int i = 0; i < r->vm->config.nr_disks && !err; i++) {
		struct blk_defer *defer = virtio_blk_defer(r->vm, i);

		if (defer)
			err = on ? blk_defer_start(defer, limit_bytes) : blk_defer_end(defer);
	}
	return err;
}

static int op_disk_settle(struct control_request *r)
{
	uint64_t position = cursor_get_u64(&r->in), settled = position, waiting = 0;
	int error = 0;

	if (!request_ok(r))
		return bad_request(r);
	for (unsigned int i = 0; i < r->vm->config.nr_disks; i++) {
		struct blk_defer *defer = virtio_blk_defer(r->vm, i);
		struct blk_defer_stats stats;

		if (!defer)
			continue;
		blk_defer_settle(defer, position);
		blk_defer_stats(defer, &stats);
		settled = MIN(settled, stats.settled);
		waiting += stats.waiting_bytes;
		error = error ? error : stats.error;
	}
	cursor_put_u64(&r->out, settled);
	cursor_put_u64(&r->out, waiting);
	cursor_put_u32(&r->out, (uint32_t)error);
	return 0;
}

static int op_disk_give(struct control_request *r)
{
	uint16_t disk = cursor_get_u16(&r->in);

	if (!cursor_done(&r->in) || r->nr_in_fds != 1)
		return bad_request(r);
	return virtio_blk_give(r->vm, disk, take_fd(&r->in_fds[0]), &r->why);
}

int control_execute(uint32_t op, struct control_request *request)
{
	static int (*const ops[])(struct control_request *) = {
		[CONTROL_HELLO] = op_hello,
		[CONTROL_INFO] = op_info,
		[CONTROL_PROCESSORS] = op_processors,
		[CONTROL_PAUSE] = op_pause,
		[CONTROL_UNPAUSE] = op_unpause,
		[CONTROL_SHUTDOWN] = op_shutdown,
		[CONTROL_LOGDIRTY] = op_logdirty,
		[CONTROL_GET_CONTEXT] = op_get_context,
		[CONTROL_SET_CONTEXT] = op_set_context,
		[CONTROL_NET_HOLD] = op_net_hold,
		[CONTROL_NET_MARK] = op_net_mark,
		[CONTROL_NET_RELEASE] = op_net_release,
		[CONTROL_NET_DROP] = op_net_drop,
		[CONTROL_NET_STATS] = op_net_stats,
		[CONTROL_NET_ADDRESSES] = op_net_addresses,
		[CONTROL_NET_INJECT] = op_net_inject,
		[CONTROL_DISK_LIST] = op_disk_list,
		[CONTROL_DISK_MIRROR] = op_disk_mirror,
		[CONTROL_DISK_DEFER] = op_disk_defer,
		[CONTROL_DISK_SETTLE] = op_disk_settle,
		[CONTROL_DISK_GIVE] = op_disk_give,
	};

	if (op >= ARRAY_SIZE(ops) || !ops[op])
		return reason_set(&request->why, ENOSYS, "operation %u is not known", op);
	return ops[op](request);
}
