/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains: which there are, what they are, stop, go, end.
 *
 * Enumerating reads the run directory; asking for one domain that is there, which is what
 * an engine does, goes straight to it.
 */
#include <dirent.h>

#include "hypervisor/xenctrl/interface.h"

struct domain_list {
	uint32_t ids[1024];
	unsigned int nr;
};

static int call_simple(xc_interface *xch, uint32_t domid, enum control_op op)
{
	struct reason why = { 0 };
	struct control_call call = { .op = op, .why = &why };
	struct cursor reply;
	struct link *link;
	int err = link_get(&xch->links, domid, &link, &why);

	if (!err) {
		err = link_call(link, &call, &reply);
		link_put(&xch->links, link);
	}
	return interface_result(err, &why);
}

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
	return call_simple(xch, domid, CONTROL_PAUSE);
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
	return call_simple(xch, domid, CONTROL_UNPAUSE);
}

static int call_shutdown(xc_interface *xch, uint32_t domid, uint8_t reason, struct reason *why)
{
	struct control_call call = {
		.op = CONTROL_SHUTDOWN,
		.request = &reason,
		.request_len = sizeof(reason),
		.why = why,
	};
	struct cursor reply;
	struct link *link;
	int err = link_get(&xch->links, domid, &link, why);

	if (err)
		return err;
	err = link_call(link, &call, &reply);
	/* The process may end before its answer has left: that is what was asked for. */
	if (err == -ESRCH && reason == CONTROL_DESTROY)
		err = 0;
	link_put(&xch->links, link);
	return err;
}

int xc_domain_destroy(xc_interface *xch, uint32_t domid)
{
	struct reason why = { 0 };

	return interface_result(call_shutdown(xch, domid, CONTROL_DESTROY, &why), &why);
}

static int reason_from_xen(int reason)
{
	switch (reason) {
	case SHUTDOWN_poweroff:
		return CONTROL_POWEROFF;
	case SHUTDOWN_reboot:
		return CONTROL_REBOOT;
	case SHUTDOWN_crash:
		return CONTROL_CRASH;
	default:
		return -EINVAL;
	}
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
	struct reason why = { 0 };
	int to = reason_from_xen(reason);

	if (to < 0)
		return interface_result(reason_set(&why, EINVAL,
						   "shutdown reason %d: poweroff, reboot or crash",
						   reason),
					&why);
	return interface_result(call_shutdown(xch, domid, (uint8_t)to, &why), &why);
}

int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns)
{
	struct reason why = { 0 };
	struct link *link;
	int err = link_get(&xch->links, domid, &link, &why);

	if (!err) {
		*gpfns = link->nr_gfns;
		link_put(&xch->links, link);
	}
	return interface_result(err, &why);
}

static uint32_t xen_flags(uint8_t state, uint8_t reason, uint32_t pause_count)
{
	static const uint32_t reasons[] = {
		[CONTROL_POWEROFF] = SHUTDOWN_poweroff,
		[CONTROL_REBOOT] = SHUTDOWN_reboot,
		[CONTROL_CRASH] = SHUTDOWN_crash,
		[CONTROL_DESTROY] = SHUTDOWN_poweroff,
	};
	uint32_t flags = XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;

	if (state == CONTROL_RUNNING)
		flags |= XEN_DOMINF_running;
	if (state == CONTROL_PAUSED || pause_count)
		flags |= XEN_DOMINF_paused;
	if (state != CONTROL_STOPPED)
		return flags;
	if (reason >= ARRAY_SIZE(reasons))
		reason = CONTROL_CRASH;
	if (reason == CONTROL_DESTROY)
		flags |= XEN_DOMINF_dying;
	return flags | XEN_DOMINF_shutdown | reasons[reason] << XEN_DOMINF_shutdownshift;
}

static void fill_info(const struct link *link, xc_domaininfo_t *info)
{
	uint64_t pages = (link->low_bytes + link->high_bytes) >> LINK_PAGE_SHIFT;

	memset(info, 0, sizeof(*info));
	info->domain = (domid_t)link->domid;
	info->tot_pages = pages;
	info->max_pages = pages;
	info->shared_info_frame = ~UINT64_C(0);
	info->nr_online_vcpus = link->nr_vcpus;
	info->max_vcpu_id = link->nr_vcpus - 1;
	memcpy(info->handle, link->uuid, sizeof(info->handle));
	info->gpaddr_bits = (uint8_t)(64 - __builtin_clzll(link->nr_gfns) + LINK_PAGE_SHIFT);
}

static int ask_info(xc_interface *xch, uint32_t domid, xc_domaininfo_t *info, struct reason *why)
{
	struct control_call call = { .op = CONTROL_INFO, .why = why };
	struct cursor reply;
	struct link *link;
	uint8_t state, reason;
	int err = link_get(&xch->links, domid, &link, why);

	if (err)
		return err;
	err = link_call(link, &call, &reply);
	if (!err) {
		fill_info(link, info);
		state = cursor_get_u8(&reply);
		reason = cursor_get_u8(&reply);
		info->flags = xen_flags(state, reason, cursor_get_u32(&reply));
		info->cpu_time = cursor_get_u64(&reply);
		err = cursor_ok(&reply) ? 0 : -EPROTO;
	}
	link_put(&xch->links, link);
	return err;
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static bool parse_id(const char *name, uint32_t *ret)
{
	char *end;
	unsigned long id;

	if (*name < '0' || *name > '9')
		return false;
	errno = 0;
	id = strtoul(name, &end, 10);
	if (errno || *end || id >= DOMID_FIRST_RESERVED)
		return false;
	*ret = (uint32_t)id;
	return true;
}

/* Directories of domains from `first` on, in order; some may be of VMs that are gone. */
static int read_list(uint32_t first, struct domain_list *ret)
{
	char path[256];
	struct dirent *entry;
	DIR *dir;
	int err = link_vm_dir(path, sizeof(path));

	if (err)
		return err;
	ret->nr = 0;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (ret->nr < ARRAY_SIZE(ret->ids) && (entry = readdir(dir))) {
		uint32_t id;

		if (parse_id(entry->d_name, &id) && id >= first)
			ret->ids[ret->nr++] = id;
	}
	closedir(dir);
	qsort(ret->ids, ret->nr, sizeof(ret->ids[0]), compare_ids);
	return 0;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
			  xc_domaininfo_t *info)
{
	struct reason why = { 0 };
	struct domain_list list;
	unsigned int found = 0;
	int err;

	if (max_domains && !ask_info(xch, first_domain, info, &why)) {
		found = 1;
		first_domain++;
	}
	if (found == max_domains)
		return (int)found;
	err = read_list(first_domain, &list);
	for (unsigned int i = 0; !err && i < list.nr && found < max_domains; i++)
		if (!ask_info(xch, list.ids[i], &info[found], &why))
			found++;
	return err ? interface_result(err, NULL) : (int)found;
}

static void to_dominfo(const xc_domaininfo_t *from, xc_dominfo_t *to)
{
	memset(to, 0, sizeof(*to));
	to->domid = from->domain;
	to->dying = !!(from->flags & XEN_DOMINF_dying);
	to->shutdown = !!(from->flags & XEN_DOMINF_shutdown);
	to->paused = !!(from->flags & XEN_DOMINF_paused);
	to->running = !!(from->flags & XEN_DOMINF_running);
	to->hvm = !!(from->flags & XEN_DOMINF_hvm_guest);
	to->hap = !!(from->flags & XEN_DOMINF_hap);
	to->shutdown_reason = from->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
	if (to->shutdown && to->shutdown_reason == SHUTDOWN_crash) {
		to->shutdown = 0;
		to->crashed = 1;
	}
	to->nr_pages = from->tot_pages;
	to->shared_info_frame = from->shared_info_frame;
	to->cpu_time = from->cpu_time;
	to->max_memkb = from->max_pages << (LINK_PAGE_SHIFT - 10);
	to->nr_online_vcpus = from->nr_online_vcpus;
	to->max_vcpu_id = from->max_vcpu_id;
	memcpy(to->handle, from->handle, sizeof(to->handle));
	to->gpaddr_bits = from->gpaddr_bits;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms,
		      xc_dominfo_t *info)
{
	unsigned int found = 0;

	memset(info, 0, max_doms * sizeof(*info));
	while (found < max_doms) {
		xc_domaininfo_t one;
		int n = xc_domain_getinfolist(xch, first_domid, 1, &one);

		if (n <= 0)
			break;
		to_dominfo(&one, &info[found++]);
		first_domid = one.domain + 1u;
	}
	if (!found && max_doms)
		return interface_result(-ESRCH, NULL);
	return (int)found;
}
