/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/describe.h"

#include <stdio.h>
#include <xenctrl.h>
#include <xenguest.h>

#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/journal.h"
#include "hypervisor/xen/refuse.h"

#define BATCH 1024u

/* Exported, but in no header that is installed. */
int xc_get_pfn_type_batch(xc_interface *xch, uint32_t dom, unsigned int num, xen_pfn_t *arr);

int xen_describe_version(struct xen_domain *d, char *ret, size_t size)
{
	const libxl_version_info *v = libxl_get_version_info(d->ctx);

	if (!v)
		return -EIO;
	snprintf(ret, size, "%d.%d%.20s", v->xen_version_major, v->xen_version_minor,
		 v->xen_version_extra ? v->xen_version_extra : "");
	return 0;
}

/* --- memory ------------------------------------------------------------------------------ */

static int add_page(struct xen_description *d, uint32_t *room, uint64_t gfn)
{
	struct xen_range *last = d->nr_ranges ? &d->range[d->nr_ranges - 1] : NULL;

	d->nr_pages++;
	d->nr_gfns = gfn + 1;
	if (last && last->first + last->count == gfn) {
		last->count++;
		return 0;
	}
	if (d->nr_ranges == XEN_RANGES_MAX)
		return -E2BIG;
	if (d->nr_ranges == *room) {
		uint32_t more = MAX(16u, 2 * *room);
		struct xen_range *range = realloc(d->range, more * sizeof(*range));

		if (!range)
			return -ENOMEM;
		d->range = range;
		*room = more;
	}
	d->range[d->nr_ranges++] = (struct xen_range){ gfn, 1 };
	return 0;
}

/* The lock held. As libxc's save finds them: pages that are Xen's own, such as the shared one, are
 * not among them. */
static int find_ranges(struct xen_domain *dom, struct xen_description *d)
{
	xen_pfn_t batch[BATCH], nr_gfns;
	uint32_t room = 0;

	if (xc_domain_nr_gpfns(dom->xch, dom->domid, &nr_gfns) < 0)
		return -errno;
	if (nr_gfns > XEN_GFNS_MAX)
		return -E2BIG;
	for (uint64_t first = 0; first < nr_gfns; first += BATCH) {
		unsigned int n = (unsigned int)MIN((uint64_t)BATCH, nr_gfns - first);

		for (unsigned int i = 0; i < n; i++)
			batch[i] = first + i;
		if (xc_get_pfn_type_batch(dom->xch, dom->domid, n, batch))
			return -errno;
		for (unsigned int i = 0; i < n; i++) {
			int err;

			if ((batch[i] & XEN_DOMCTL_PFINFO_LTAB_MASK) != XEN_DOMCTL_PFINFO_NOTAB)
				continue;
			err = add_page(d, &room, first + i);
			if (err)
				return err;
		}
	}
	return d->nr_pages ? 0 : -ENXIO;
}

/* --- processors -------------------------------------------------------------------------- */

static int serialise(struct xen_domain *dom, xc_cpu_policy_t *policy, struct xen_description *d)
{
	uint32_t leaves, msrs;

	if (xc_cpu_policy_get_size(dom->xch, &leaves, &msrs))
		return -errno;
	d->cpuid = calloc(leaves, sizeof(xen_cpuid_leaf_t));
	d->msrs = calloc(msrs, sizeof(xen_msr_entry_t));
	if (!d->cpuid || !d->msrs)
		return -ENOMEM;
	if (xc_cpu_policy_get_domain(dom->xch, dom->domid, policy) ||
	    xc_cpu_policy_serialise(dom->xch, policy, (xen_cpuid_leaf_t *)d->cpuid, &leaves,
				    (xen_msr_entry_t *)d->msrs, &msrs))
		return -errno;
	d->nr_leaves = leaves;
	d->nr_msrs = msrs;
	return 0;
}

static int find_policy(struct xen_domain *dom, struct xen_description *d)
{
	xc_cpu_policy_t *policy = xc_cpu_policy_init();
	int err = policy ? serialise(dom, policy, d) : -ENOMEM;

	static_assert(sizeof(xen_cpuid_leaf_t) == XEN_LEAF_BYTES, "as in the stream");
	static_assert(sizeof(xen_msr_entry_t) == XEN_MSR_BYTES, "as in the stream");
	if (policy)
		xc_cpu_policy_destroy(policy);
	return err;
}

/* --- the configuration ------------------------------------------------------------------- */

static int copy_config(struct xen_domain *dom, libxl_domain_config *config,
		       struct xen_description *d, struct reason *why)
{
	if (!config->c_info.name || strlen(config->c_info.name) > XEN_NAME_MAX)
		return reason_set(why, EPERM, "its name has more than %u bytes", XEN_NAME_MAX);
	strcpy(d->name, config->c_info.name);
	memcpy(d->uuid, libxl_uuid_bytearray(&config->c_info.uuid), sizeof(d->uuid));
	d->memory_mib = (config->b_info.max_memkb + 1023) >> 10;
	d->nr_vcpus = (uint32_t)config->b_info.max_vcpus;
	d->nr_nics = (uint32_t)config->num_nics;
	for (uint32_t i = 0; i < d->nr_nics; i++) {
		const libxl_device_nic *nic = &config->nics[i];

		memcpy(d->nic[i].mac, nic->mac, sizeof(d->nic[i].mac));
		snprintf(d->nic[i].bridge, sizeof(d->nic[i].bridge), "%s",
			 nic->bridge ? nic->bridge : "");
	}
	d->nr_disks = (uint32_t)config->num_disks;
	for (uint32_t i = 0; i < d->nr_disks; i++) {
		snprintf(d->disk[i].path, sizeof(d->disk[i].path), "%s",
			 config->disks[i].pdev_path);
		d->disk[i].readonly = !config->disks[i].readwrite;
	}
	/* The other host chooses the number. */
	config->c_info.domid = XEN_NO_DOMAIN;
	d->libxl = libxl_domain_config_to_json(dom->ctx, config);
	return d->libxl ? 0 : -ENOMEM;
}

static int find_config(struct xen_domain *dom, struct xen_description *d, struct reason *why)
{
	libxl_domain_config config;
	int err;

	libxl_domain_config_init(&config);
	xen_journal_clear();
	if (libxl_retrieve_domain_configuration(dom->ctx, dom->domid, &config, NULL)) {
		err = xen_domain_failed(why, "its configuration cannot be had");
	} else {
		err = xen_refuse(&config, why);
		if (!err)
			err = copy_config(dom, &config, d, why);
	}
	libxl_domain_config_dispose(&config);
	return err;
}

int xen_describe(struct xen_domain *dom, struct xen_description *ret, struct reason *why)
{
	struct xen_description d = { 0 };
	int err = find_config(dom, &d, why);

	if (!err)
		err = xen_describe_version(dom, d.version, sizeof(d.version));
	pthread_mutex_lock(&dom->lock);
	if (!err)
		err = find_policy(dom, &d);
	if (!err)
		err = find_ranges(dom, &d);
	pthread_mutex_unlock(&dom->lock);
	if (err) {
		if (!why->text[0])
			reason_set(why, -err, "it cannot be described: %s", strerror(-err));
		xen_description_free(&d);
		return err;
	}
	*ret = d;
	return 0;
}
