/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/ops.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "hypervisor/xen/describe.h"
#include "hypervisor/xen/disk.h"
#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/inject.h"
#include "hypervisor/xen/journal.h"
#include "hypervisor/xen/standby.h"
#include "hypervisor/xen/state.h"

#define PAGE_SHIFT 12

static int bad_request(struct control_work *w)
{
	return reason_set(&w->why, EPROTO,
			  "the request has not the length that its operation asks for");
}

/* --- the domain -------------------------------------------------------------------------- */

static int op_hello(struct xen_ops *o, struct control_work *w)
{
	const struct xen_description *about = &o->domain->about;
	uint32_t version = cursor_get_u32(&w->in);

	if (!cursor_done(&w->in))
		return bad_request(w);
	if (version != CONTROL_VERSION)
		return reason_set(&w->why, EPROTONOSUPPORT, "control version %u, this is %u",
				  version, CONTROL_VERSION);
	cursor_put_u32(&w->out, CONTROL_VERSION);
	cursor_put_u32(&w->out, o->domain->domid);
	cursor_put_bytes(&w->out, about->uuid, sizeof(about->uuid));
	cursor_put_u64(&w->out, o->domain->memory_pages << PAGE_SHIFT);
	cursor_put_u64(&w->out, 0);
	cursor_put_u64(&w->out, about->nr_gfns);
	cursor_put_u32(&w->out, about->nr_vcpus);
	cursor_put_u32(&w->out, about->nr_disks);
	cursor_put_u32(&w->out, about->nr_nics);
	cursor_put_u64(&w->out, 0);
	cursor_put_u64(&w->out, 0);
	cursor_put_u64(&w->out, XEN_STATE_MAX);
	cursor_put_u16(&w->out, (uint16_t)strlen(about->name));
	cursor_put_bytes(&w->out, about->name, strlen(about->name));
	return 0;
}

static int op_info(struct xen_ops *o, struct control_work *w)
{
	struct xen_info info;

	if (!cursor_done(&w->in))
		return bad_request(w);
	xen_domain_info(o->domain, &info);
	cursor_put_u8(&w->out, (uint8_t)info.state);
	cursor_put_u8(&w->out, (uint8_t)info.reason);
	cursor_put_u32(&w->out, info.pause_count);
	cursor_put_u64(&w->out, info.cpu_time_ns);
	return 0;
}

static bool waits(struct xen_ops *o)
{
	return o->standby && !xen_standby_ran(o->standby);
}

static int op_pause(struct xen_ops *o, struct control_work *w)
{
	uint64_t start = clock_now_ns();

	if (!cursor_done(&w->in))
		return bad_request(w);
	if (waits(o))
		return reason_set(&w->why, EBUSY, "a standby is paused until it runs");
	xen_journal_clear();
	if (libxl_domain_pause(o->domain->ctx, o->domain->domid, NULL))
		return xen_domain_failed(&w->why, "the domain cannot be paused");
	cursor_put_u64(&w->out, clock_now_ns() - start);
	return 0;
}

static int op_unpause(struct xen_ops *o, struct control_work *w)
{
	if (!cursor_done(&w->in))
		return bad_request(w);
	if (waits(o))
		return xen_standby_run(o->standby, &w->why);
	xen_journal_clear();
	if (libxl_domain_unpause(o->domain->ctx, o->domain->domid, NULL))
		return xen_domain_failed(&w->why, "the domain cannot be let run");
	return 0;
}

static int op_shutdown(struct xen_ops *o, struct control_work *w)
{
	uint8_t how = cursor_get_u8(&w->in);

	if (!cursor_done(&w->in) || how > CONTROL_DESTROY)
		return bad_request(w);
	if (how == CONTROL_DESTROY) {
		xen_domain_order_destroy(o->domain);
		return 0;
	}
	if (how != CONTROL_POWEROFF)
		return reason_set(&w->why, ENOTSUP, "only poweroff and destroy can be asked for");
	if (waits(o))
		return reason_set(&w->why, EBUSY, "a standby cannot be shut down");
	xen_journal_clear();
	if (libxl_domain_shutdown(o->domain->ctx, o->domain->domid, NULL))
		return xen_domain_failed(&w->why, "the guest cannot be asked to shut down");
	return 0;
}

/* --- what moves it ----------------------------------------------------------------------- */

static int text_to_file(const char *text, int *ret_fd)
{
	cleanup_close int fd = memfd_create("description", MFD_CLOEXEC);
	int err = fd < 0 ? -errno : file_write_at(fd, text, strlen(text), 0);

	if (!err)
		*ret_fd = take_fd(&fd);
	return err;
}

static int op_describe(struct xen_ops *o, struct control_work *w)
{
	struct xen_description about;
	cleanup_free char *text = NULL;
	int err;

	if (!cursor_done(&w->in))
		return bad_request(w);
	if (waits(o))
		return reason_set(&w->why, EBUSY, "a standby is described on the other host");
	err = xen_describe(o->domain, &about, &w->why);
	if (err)
		return err;
	err = xen_description_write(&about, &text);
	xen_description_free(&about);
	if (!err && strlen(text) > XEN_TEXT_MAX)
		err = reason_set(&w->why, E2BIG, "its description has %zu bytes, at most %u",
				 strlen(text), XEN_TEXT_MAX);
	if (!err)
		err = text_to_file(text, &w->fds[0]);
	if (err)
		return err;
	w->nr_fds = 1;
	cursor_put_u64(&w->out, strlen(text));
	return 0;
}

static int op_set_context(struct xen_ops *o, struct control_work *w)
{
	uint64_t len = cursor_get_u64(&w->in);
	cleanup_free uint8_t *state = NULL;
	int err;

	if (!cursor_done(&w->in) || w->nr_in_fds != 1)
		return bad_request(w);
	if (!o->standby)
		return reason_set(&w->why, EBUSY, "a state is only loaded into a standby");
	if (len > XEN_STATE_MAX)
		return reason_set(&w->why, E2BIG, "state: %llu bytes, at most %u",
				  (unsigned long long)len, XEN_STATE_MAX);
	state = malloc(len + 1);
	if (!state)
		return -ENOMEM;
	err = file_read_at(w->in_fds[0], state, (size_t)len, 0);
	if (err)
		return reason_set(&w->why, -err, "state: its file cannot be read: %s",
				  strerror(-err));
	/* libxl's failure would be the standby's end; a server may come back. */
	err = xen_disks_check(&o->domain->about, &w->why);
	return err ? err : xen_standby_load(o->standby, state, (size_t)len, &w->why);
}

/* --- network and disks ------------------------------------------------------------------- */

/* No addresses: a guest of Xen tells its neighbours itself when it finds itself moved. */
static int op_net_addresses(struct xen_ops *o, struct control_work *w)
{
	const struct xen_description *about = &o->domain->about;
	uint16_t nic = cursor_get_u16(&w->in);

	if (!cursor_done(&w->in))
		return bad_request(w);
	if (nic >= about->nr_nics)
		return reason_set(&w->why, ENODEV, "network card %u of %u", nic, about->nr_nics);
	cursor_put_bytes(&w->out, about->nic[nic].mac, sizeof(about->nic[nic].mac));
	cursor_put_u16(&w->out, 0);
	return 0;
}

static int op_net_inject(struct xen_ops *o, struct control_work *w)
{
	uint16_t nic = cursor_get_u16(&w->in);
	size_t len = cursor_left(&w->in);
	const void *frame = cursor_get_view(&w->in, len);

	if (!cursor_done(&w->in))
		return bad_request(w);
	if (nic >= o->domain->about.nr_nics)
		return reason_set(&w->why, ENODEV, "network card %u of %u", nic,
				  o->domain->about.nr_nics);
	return xen_inject(o->domain->domid, nic, frame, len, &w->why);
}

static int op_disk_list(struct xen_ops *o, struct control_work *w)
{
	const struct xen_description *about = &o->domain->about;

	if (!cursor_done(&w->in))
		return bad_request(w);
	cursor_put_u16(&w->out, (uint16_t)about->nr_disks);
	for (uint32_t i = 0; i < about->nr_disks; i++) {
		const struct xen_disk *disk = &about->disk[i];
		uint64_t bytes = 0;
		int err = xen_disk_bytes(disk->path, &bytes, &w->why);

		if (err)
			return err;
		cursor_put_u64(&w->out, bytes);
		cursor_put_u8(&w->out, disk->readonly);
		cursor_put_u16(&w->out, (uint16_t)strlen(disk->path));
		cursor_put_bytes(&w->out, disk->path, strlen(disk->path));
	}
	return 0;
}

int xen_ops_execute(void *opaque, uint32_t op, struct control_work *work)
{
	static int (*const ops[])(struct xen_ops *, struct control_work *) = {
		[CONTROL_HELLO] = op_hello,
		[CONTROL_INFO] = op_info,
		[CONTROL_PAUSE] = op_pause,
		[CONTROL_UNPAUSE] = op_unpause,
		[CONTROL_SHUTDOWN] = op_shutdown,
		[CONTROL_SET_CONTEXT] = op_set_context,
		[CONTROL_NET_ADDRESSES] = op_net_addresses,
		[CONTROL_NET_INJECT] = op_net_inject,
		[CONTROL_DISK_LIST] = op_disk_list,
		[CONTROL_DESCRIBE] = op_describe,
	};

	if (op >= ARRAY_SIZE(ops))
		return reason_set(&work->why, ENOSYS, "operation %u is not known", op);
	if (!ops[op])
		return reason_set(&work->why, ENOTSUP, "operation %u is not one of a domain of Xen",
				  op);
	return ops[op](opaque, work);
}
