/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pollux's own hypervisor, by its libxenctrl API. A plain pause is a consistent stop:
 * pollux-vmm parks the processors and closes the gate on its devices. All memory is
 * mapped once, since it neither moves nor balloons. The standby is a paused domain whose
 * memory is written directly: until it runs, nobody else looks at it.
 */
#include <stdio.h>

#include "ha/mapping.h"
#include "ha/platform.h"
#include "hypervisor/control/control.h"

#define LEFT_PAUSES_MAX 3u /* a checkpoint's, the throttle's, the backpressure's */

static int kvm_open(struct platform *p, const struct platform_config *c, struct reason *why)
{
	struct mapping_config config = { .domid = p->domid, .nr_gfns = p->nr_gfns };
	int r = mapping_open(&config, &p->memory);

	(void)c;
	if (r)
		return reason_set(why, -r,
				  "domain %u: its memory of %llu pages cannot be mapped: %s",
				  p->domid, (unsigned long long)p->nr_gfns, strerror(-r));
	p->memory_bytes = mapping_pages(p->memory) * PLATFORM_PAGE_BYTES;
	return 0;
}

static void kvm_close(struct platform *p)
{
	(void)p;
}

static enum platform_life kvm_look(struct platform *p)
{
	xc_dominfo_t info;

	if (xc_domain_getinfo(p->xch, p->domid, 1, &info) != 1 || info.domid != p->domid)
		return PLATFORM_LOST;
	return info.shutdown ? PLATFORM_ENDED : PLATFORM_RUNS;
}

static void kvm_nic_name(const struct platform *p, unsigned int nic, char *ret, size_t room)
{
	snprintf(ret, room, CONTROL_TAP_FORMAT, p->domid % CONTROL_TAP_DOMIDS, nic);
}

static void kvm_destroy(struct platform *p)
{
	xc_domain_pause(p->xch, p->domid);
	xc_domain_destroy(p->xch, p->domid);
}

static int kvm_stop(struct platform *p)
{
	return xc_domain_pause(p->xch, p->domid) ? -errno : 0;
}

static int kvm_resume(struct platform *p)
{
	return xc_domain_unpause(p->xch, p->domid) ? -errno : 0;
}

/* Nobody else pauses a protected VM. */
static unsigned int kvm_revive(struct platform *p)
{
	unsigned int n = 0;

	while (n < LEFT_PAUSES_MAX && !xc_domain_unpause(p->xch, p->domid))
		n++;
	return n;
}

/* With some to spare. */
static int kvm_state_room(struct platform *p, uint32_t *ret)
{
	int len = xc_domain_hvm_getcontext(p->xch, p->domid, NULL, 0);

	if (len < 0)
		return -errno;
	*ret = (uint32_t)len * 2 + 65536;
	return 0;
}

static int kvm_state(struct platform *p, void *ret, uint32_t room)
{
	int len = xc_domain_hvm_getcontext(p->xch, p->domid, ret, room);

	if (len > 0)
		return len;
	return len ? -errno : -EIO;
}

static int kvm_standby_load(struct platform *p, struct reason *why)
{
	if (!p->state_len)
		return reason_set(why, ENODATA, "domain %u: no epoch is committed", p->domid);
	if (xc_domain_hvm_setcontext(p->xch, p->domid, p->state, p->state_len))
		return reason_set(why, errno ? errno : EIO, "domain %u refuses its state: %s",
				  p->domid, strerror(errno));
	return 0;
}

static int kvm_standby_run(struct platform *p, struct reason *why)
{
	if (xc_domain_unpause(p->xch, p->domid))
		return reason_set(why, errno ? errno : EIO, "domain %u does not run: %s", p->domid,
				  strerror(errno));
	return 0;
}

const struct platform_ops platform_ops = {
	.name = "kvm",
	.holds_output = true,
	.zeroed = true,
	.open = kvm_open,
	.close = kvm_close,
	.look = kvm_look,
	.nic_name = kvm_nic_name,
	.destroy = kvm_destroy,
	.stop = kvm_stop,
	.resume = kvm_resume,
	.revive = kvm_revive,
	.page = platform_mapped_page,
	.state_room = kvm_state_room,
	.state = kvm_state,
	.standby_load = kvm_standby_load,
	.standby_run = kvm_standby_run,
};
