/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/host.h"

#include <stdio.h>
#include <xenctrl.h>
#include <xenguest.h>

#include "hypervisor/xen/describe.h"
#include "hypervisor/xen/disk.h"
#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/features.h"
#include "hypervisor/xen/journal.h"

#define XEN_EMULATOR "/usr/libexec/xen-qemu-system-i386" /* libxl's, as Debian builds it */

/* Xen restores what an older Xen saved, but not the other way round, and the way back is to
 * be open. */
static int check_version(struct xen_domain *d, struct reason *why)
{
	char version[XEN_VERSION_MAX + 1];
	uint32_t major, minor, own_major = 0, own_minor = 0;
	int err = xen_describe_version(d, version, sizeof(version));

	if (err)
		return reason_set(why, -err, "this host's Xen does not tell its version");
	xen_version_parse(version, &own_major, &own_minor);
	if (xen_version_parse(d->about.version, &major, &minor) && major == own_major &&
	    minor == own_minor)
		return 0;
	return reason_set(why, EOPNOTSUPP, "this host has Xen %s, the other one %s: not the same",
			  version, d->about.version);
}

static int compare(struct xen_domain *d, xc_cpu_policy_t *policy, struct reason *why)
{
	cleanup_free xen_cpuid_leaf_t *leaves = NULL;
	cleanup_free xen_msr_entry_t *entries = NULL;
	const struct xen_policy guest = { d->about.cpuid, d->about.nr_leaves, d->about.msrs,
					  d->about.nr_msrs };
	struct xen_policy host;
	uint32_t nr = 0, msrs = 0;

	if (xc_cpu_policy_get_size(d->xch, &nr, &msrs))
		return -errno;
	leaves = calloc(nr, sizeof(*leaves));
	entries = calloc(msrs, sizeof(*entries));
	if (!leaves || !entries)
		return -ENOMEM;
	if (xc_cpu_policy_get_system(d->xch, XEN_SYSCTL_cpu_policy_hvm_max, policy) ||
	    xc_cpu_policy_serialise(d->xch, policy, leaves, &nr, entries, &msrs))
		return -errno;
	host = (struct xen_policy){ (const uint8_t *)leaves, nr, (const uint8_t *)entries, msrs };
	return xen_features_check(&guest, &host, why);
}

static int check_features(struct xen_domain *d, struct reason *why)
{
	xc_cpu_policy_t *policy = xc_cpu_policy_init();
	int err = policy ? compare(d, policy, why) : -ENOMEM;

	if (policy)
		xc_cpu_policy_destroy(policy);
	return err;
}

static int check_memory(struct xen_domain *d, libxl_domain_config *config, struct reason *why)
{
	uint64_t need = 0, unused = 0;

	xen_journal_clear();
	if (libxl_domain_need_memory(d->ctx, config, XEN_NO_DOMAIN, &need) ||
	    libxl_get_free_memory(d->ctx, &unused))
		return xen_domain_failed(why, "this host's free memory is not known");
	if (unused >= need)
		return 0;
	return reason_set(why, ENOMEM,
			  "this host's Xen has %llu MiB free, the domain takes %llu MiB; give "
			  "dom0 less",
			  (unsigned long long)(unused >> 10), (unsigned long long)(need >> 10));
}

/* What its hotplug would fail at, at a takeover. */
static int check_nics(const libxl_domain_config *config, struct reason *why)
{
	char path[64];

	for (int i = 0; i < config->num_nics; i++) {
		const libxl_device_nic *nic = &config->nics[i];

		if (nic->script && nic->script[0] == '/' && access(nic->script, X_OK))
			return reason_set(why, ENOENT, "network card %d: %.100s: %s", i,
					  nic->script, strerror(errno));
		if (!nic->bridge || !nic->bridge[0])
			continue;
		if (strlen(nic->bridge) > XEN_BRIDGE_MAX || strchr(nic->bridge, '/'))
			return reason_set(why, EINVAL, "network card %d: bridge %.40s is none", i,
					  nic->bridge);
		snprintf(path, sizeof(path), "/sys/class/net/%s/bridge", nic->bridge);
		if (access(path, F_OK))
			return reason_set(why, ENOENT,
					  "network card %d: there is no bridge %s here", i,
					  nic->bridge);
	}
	return 0;
}

/* What an HVM guest's device model is started with, at a takeover. */
static int check_emulator(const libxl_domain_config *config, struct reason *why)
{
	const struct {
		const char *path, *what;
		int mode;
	} files[] = {
		{ XEN_EMULATOR, "device model, of Debian's qemu-system-xen", X_OK },
		{ config->b_info.kernel, "kernel", R_OK },
		{ config->b_info.ramdisk, "ramdisk", R_OK },
	};

	if (config->c_info.type != LIBXL_DOMAIN_TYPE_HVM)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (files[i].path && access(files[i].path, files[i].mode))
			return reason_set(why, ENOENT, "its %s: %.100s: %s", files[i].what,
					  files[i].path, strerror(errno));
	return 0;
}

int xen_host_check(struct xen_domain *d, libxl_domain_config *config, struct reason *why)
{
	int err = check_version(d, why);

	if (!err)
		err = check_features(d, why);
	if (!err)
		err = check_memory(d, config, why);
	if (!err)
		err = check_nics(config, why);
	if (!err)
		err = check_emulator(config, why);
	if (!err && config->num_disks)
		err = xen_disk_check_host(why);
	if (err && !why->text[0])
		reason_set(why, -err, "this host could not be asked: %s", strerror(-err));
	return err;
}
