/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/refuse.h"

#include <stdio.h>

#include "hypervisor/control/control.h"
#include "hypervisor/xen/description.h"
#include "hypervisor/xen/disk.h"

static bool set(libxl_defbool b)
{
	return !libxl_defbool_is_default(b) && libxl_defbool_val(b);
}

static bool unset(libxl_defbool b)
{
	return !libxl_defbool_is_default(b) && !libxl_defbool_val(b);
}

static int kind(const libxl_domain_config *c, struct reason *why)
{
	const libxl_domain_build_info *b = &c->b_info;

	if (c->c_info.type == LIBXL_DOMAIN_TYPE_PV)
		return reason_set(
			why, EPERM,
			"it is a PV guest, whose writes this Xen cannot follow (it has no "
			"shadow paging); make it PVH: type=\"pvh\"");
	if (c->c_info.type == LIBXL_DOMAIN_TYPE_PVH && set(b->u.pvh.pvshim))
		return reason_set(why, EPERM,
				  "it is a PV guest in a pvshim, which is not supported; make it "
				  "PVH without pvshim");
	if (c->c_info.type != LIBXL_DOMAIN_TYPE_PVH && c->c_info.type != LIBXL_DOMAIN_TYPE_HVM)
		return reason_set(why, EPERM, "its type %d is not known", c->c_info.type);
	if (!libxl_defbool_is_default(c->c_info.hap) && !libxl_defbool_val(c->c_info.hap))
		return reason_set(why, EPERM,
				  "it is without hardware-assisted paging, so its writes cannot be "
				  "followed; remove hap=0");
	return 0;
}

static bool named(const char *word)
{
	return word && word[0];
}

static bool listed(const libxl_string_list list)
{
	return list && list[0];
}

/* "tablet" and the like are emulated. */
static bool has_host_usb(const libxl_domain_build_info *b)
{
	bool has = named(b->u.hvm.usbdevice) && !strncmp(b->u.hvm.usbdevice, "host", 4);

	for (char **device = b->u.hvm.usbdevice_list; device && *device && !has; device++)
		has = !strncmp(*device, "host", 4);
	return has;
}

/* What goes nowhere else than to this host: not by the network, nor to its files. */
static bool is_local_serial(const char *where)
{
	return !strcmp(where, "pty") || !strcmp(where, "null") || !strcmp(where, "none");
}

static bool has_far_serial(const libxl_domain_build_info *b)
{
	bool has = named(b->u.hvm.serial) && !is_local_serial(b->u.hvm.serial);

	for (char **where = b->u.hvm.serial_list; where && *where && !has; where++)
		has = !is_local_serial(*where);
	return has;
}

/* An address that each host has, and a port that is free there. */
static bool has_bound_vnc(const libxl_vnc_info *vnc)
{
	static const char *const everywhere[] = { "127.0.0.1", "localhost", "::1", "0.0.0.0",
						  "::" };
	bool has = named(vnc->listen);

	for (size_t i = 0; i < ARRAY_SIZE(everywhere) && has; i++)
		has = strcmp(vnc->listen, everywhere[i]) != 0;
	return has || unset(vnc->findunused);
}

/* An HVM guest's is started anew on the other host, from the same configuration. */
static int device_model(const libxl_domain_config *c, struct reason *why)
{
	const libxl_domain_build_info *b = &c->b_info;
	const struct {
		bool has;
		const char *what;
	} kinds[] = {
		{ b->device_model_version != LIBXL_DEVICE_MODEL_VERSION_UNKNOWN && /* not said */
			  b->device_model_version != LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN,
		  "another device model than qemu-xen; remove device_model_version" },
		{ set(b->device_model_stubdomain),
		  "its device model in a domain of its own; remove "
		  "device_model_stubdomain_override" },
		{ set(b->dm_restrict),
		  "a device model that may not write its state; remove dm_restrict" },
		{ named(b->device_model),
		  "a device model of its own; remove device_model_override" },
		{ listed(b->extra) || listed(b->extra_hvm),
		  "a device model with arguments of its own; remove device_model_args" },
		{ named(b->u.hvm.system_firmware),
		  "firmware of its own; remove bios_path_override" },
		{ has_host_usb(b), "a USB device of the host; remove usbdevice=host" },
		{ set(b->u.hvm.gfx_passthru), "the host's graphics; remove gfx_passthru" },
		{ set(b->u.hvm.spice.enable), "a display by SPICE; remove spice" },
		{ set(b->u.hvm.sdl.enable), "a window on this host; remove sdl" },
		{ !unset(b->u.hvm.vnc.enable) && has_bound_vnc(&b->u.hvm.vnc),
		  "a VNC display at an address or port that the other host may not have; remove "
		  "vnclisten, vncdisplay and vncunused" },
		{ has_far_serial(b), "a serial port elsewhere than at pty or null; remove serial" },
	};

	if (c->c_info.type != LIBXL_DOMAIN_TYPE_HVM)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].has)
			return reason_set(why, EPERM, "it has %s", kinds[i].what);
	return 0;
}

static int memory(const libxl_domain_config *c, struct reason *why)
{
	const libxl_domain_build_info *b = &c->b_info;

	if (b->num_vnuma_nodes)
		return reason_set(why, EPERM, "it has %d virtual NUMA nodes; remove vnuma",
				  b->num_vnuma_nodes);
	if (b->target_memkb != LIBXL_MEMKB_DEFAULT && b->target_memkb < b->max_memkb)
		return reason_set(why, EPERM,
				  "its memory of %llu KiB is below its maxmem of %llu KiB, so it "
				  "may change; xl mem-set it to maxmem, or set maxmem to memory",
				  (unsigned long long)b->target_memkb,
				  (unsigned long long)b->max_memkb);
	return 0;
}

static int count_bits(const libxl_bitmap *map)
{
	int n = 0;

	for (uint32_t i = 0; i < map->size; i++)
		n += __builtin_popcount(map->map[i]);
	return n;
}

static int processors(const libxl_domain_config *c, struct reason *why)
{
	const libxl_domain_build_info *b = &c->b_info;
	int plugged = count_bits(&b->avail_vcpus);

	if (b->max_vcpus > (int)XEN_VCPUS_MAX)
		return reason_set(why, EPERM, "it has %d processors, at most %u", b->max_vcpus,
				  XEN_VCPUS_MAX);
	/* Which of an HVM guest's are plugged in its device model knows, and it is started anew. */
	if (c->c_info.type == LIBXL_DOMAIN_TYPE_HVM && b->avail_vcpus.size &&
	    plugged < b->max_vcpus)
		return reason_set(why, EPERM,
				  "%d of its %d processors are plugged, which the other host could "
				  "not repeat; xl vcpu-set all of them, or set maxvcpus to vcpus",
				  plugged, b->max_vcpus);
	if (set(b->nested_hvm))
		return reason_set(why, EPERM,
				  "it may run guests of its own, whose state is not part of a "
				  "checkpoint; remove nestedhvm");
	if (b->altp2m != LIBXL_ALTP2M_MODE_DISABLED)
		return reason_set(why, EPERM,
				  "it has altp2m, whose views are not part of a "
				  "checkpoint; remove altp2m");
	if (set(b->disable_migrate))
		return reason_set(why, EPERM, "it is not to leave this host; remove nomigrate");
	return 0;
}

static int devices(const libxl_domain_config *c, struct reason *why)
{
	const struct {
		int n;
		const char *what;
	} kinds[] = {
		{ c->num_pcidevs, "PCI devices of the host" },
		{ c->num_rdms, "memory reserved for devices of the host" },
		{ c->num_dtdevs, "devices of the host's device tree" },
		{ c->b_info.num_ioports, "I/O ports of the host" },
		{ c->b_info.num_irqs, "interrupts of the host" },
		{ c->b_info.num_iomem, "device memory of the host" },
		{ c->num_usbctrls + c->num_usbdevs, "USB devices" },
		{ c->num_vtpms, "virtual TPMs" },
		{ c->num_p9s, "9pfs mounts" },
		{ c->num_pvcallsifs, "pvcalls devices" },
		{ c->num_vdispls, "virtual displays" },
		{ c->num_vsnds, "sound devices" },
		{ c->num_vfbs, "virtual framebuffers" },
		{ c->num_channels, "channels" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].n)
			return reason_set(why, EPERM,
					  "it has %s (%d), which would not be on the other host; "
					  "remove them",
					  kinds[i].what, kinds[i].n);
	return 0;
}

/* Held and announced by their number, so that has to be their place. */
static int nics(const libxl_domain_config *c, struct reason *why)
{
	if (c->num_nics > (int)XEN_NICS_MAX)
		return reason_set(why, EPERM, "it has %d network cards, at most %u", c->num_nics,
				  XEN_NICS_MAX);
	for (int i = 0; i < c->num_nics; i++) {
		const libxl_device_nic *nic = &c->nics[i];

		if (nic->devid != i)
			return reason_set(why, EPERM,
					  "its network cards are not numbered from 0 on: there is "
					  "no vif number %d",
					  i);
		if (nic->backend_domid || (nic->backend_domname && nic->backend_domname[0]))
			return reason_set(why, EPERM,
					  "its network card %d is served by another domain than "
					  "dom0, where output cannot be held",
					  i);
		/* It would be called so on the other host, too. */
		if (nic->ifname && nic->ifname[0])
			return reason_set(why, EPERM,
					  "its network card %d is called %.30s; remove vifname", i,
					  nic->ifname);
	}
	return 0;
}

static bool is_ours(const libxl_device_disk *disk)
{
	const char *path = disk->pdev_path ? disk->pdev_path : "";
	const char *script = disk->script ? disk->script : "";
	size_t prefix = strlen(CONTROL_NBD_PREFIX);

	return !strncmp(path, CONTROL_NBD_PREFIX, prefix) && path[prefix] == '/' &&
	       (!strcmp(script, XEN_DISK_SCRIPT) || !strcmp(script, XEN_DISK_SCRIPT_PATH));
}

/* Who else serves a disk does not tell of its changes. */
static int one_disk(const libxl_device_disk *disk, struct reason *why)
{
	const char *vdev = disk->vdev ? disk->vdev : "?";

	if (!is_ours(disk))
		return reason_set(why, EPERM,
				  "its disk %.20s, %.100s, is not one that Pollux's nbdkit plugin "
				  "serves, so its changes cannot be followed; make it "
				  "'vdev=%.20s,script=" XEN_DISK_SCRIPT
				  ",target=" CONTROL_NBD_PREFIX "/SOCKET'",
				  vdev, disk->pdev_path ? disk->pdev_path : "empty", vdev);
	if (strlen(disk->pdev_path) > XEN_DISK_PATH_MAX)
		return reason_set(why, EPERM,
				  "the path of its disk %.20s has %zu bytes, at most %u", vdev,
				  strlen(disk->pdev_path), XEN_DISK_PATH_MAX);
	if (disk->is_cdrom || disk->removable)
		return reason_set(why, EPERM, "its disk %.20s can be taken out; make it a disk",
				  vdev);
	if (disk->backend_domid || (disk->backend_domname && disk->backend_domname[0]))
		return reason_set(why, EPERM,
				  "its disk %.20s is served by another domain than dom0", vdev);
	return 0;
}

static int disks(const libxl_domain_config *c, struct reason *why)
{
	int err = 0;

	if (c->num_disks > (int)XEN_DISKS_MAX)
		return reason_set(why, EPERM, "it has %d disks, at most %u", c->num_disks,
				  XEN_DISKS_MAX);
	for (int i = 0; i < c->num_disks && !err; i++)
		err = one_disk(&c->disks[i], why);
	return err;
}

int xen_refuse(const libxl_domain_config *config, struct reason *why)
{
	int err = kind(config, why);

	if (!err)
		err = device_model(config, why);
	if (!err)
		err = memory(config, why);
	if (!err)
		err = processors(config, why);
	if (!err)
		err = devices(config, why);
	if (!err)
		err = nics(config, why);
	if (!err)
		err = disks(config, why);
	return err;
}
