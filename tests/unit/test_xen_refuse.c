/* SPDX-License-Identifier: Apache-2.0 */
/* Which domains of Xen are refused, each with its reason; and which host for want of features. */
#include "tests/lib/test.h"

#include "base/cursor.h"
#include "hypervisor/xen/description.h"
#include "hypervisor/xen/features.h"
#include "hypervisor/xen/refuse.h"

static libxl_domain_config config;
static libxl_device_nic nics[XEN_NICS_MAX + 1];
static libxl_device_disk disks[XEN_DISKS_MAX + 1];

static char *text(const char *constant)
{
	return (char *)(uintptr_t)constant;
}

static void good(void)
{
	memset(&config, 0, sizeof(config));
	memset(nics, 0, sizeof(nics));
	config.c_info.type = LIBXL_DOMAIN_TYPE_PVH;
	config.b_info.type = LIBXL_DOMAIN_TYPE_PVH;
	config.b_info.max_vcpus = 2;
	config.b_info.max_memkb = config.b_info.target_memkb = 262144;
	config.num_nics = 2;
	config.nics = nics;
	nics[1].devid = 1;
	memset(disks, 0, sizeof(disks));
	config.num_disks = 2;
	config.disks = disks;
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		disks[i].vdev = text("xvda");
		disks[i].pdev_path = text("nbd:unix:/run/nbd/db/nbd");
		disks[i].script = text(i ? "/etc/xen/scripts/block-pollux" : "block-pollux");
	}
}

static void refused(const char *words)
{
	struct reason why = { "" };

	assert_int_equal(xen_refuse(&config, &why), -EPERM);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
	good();
}

static void test_good(void **state)
{
	struct reason why = { "" };

	(void)state;
	good();
	libxl_defbool_set(&config.c_info.hap, true);
	libxl_defbool_set(&config.b_info.nested_hvm, false);
	assert_int_equal(xen_refuse(&config, &why), 0);
}

static void test_kinds(void **state)
{
	(void)state;
	good();
	config.c_info.type = LIBXL_DOMAIN_TYPE_PV;
	refused("no shadow paging");
	libxl_defbool_set(&config.b_info.u.pvh.pvshim, true);
	refused("pvshim");
	libxl_defbool_set(&config.c_info.hap, false);
	refused("hardware-assisted paging");
	config.c_info.type = LIBXL_DOMAIN_TYPE_INVALID;
	refused("not known");
}

static void good_hvm(void)
{
	good();
	config.c_info.type = LIBXL_DOMAIN_TYPE_HVM;
	config.b_info.type = LIBXL_DOMAIN_TYPE_HVM;
	config.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN;
}

static void refused_hvm(const char *words)
{
	refused(words);
	good_hvm();
}

static void test_device_models(void **state)
{
	struct reason why = { "" };
	char *argument[] = { text("-trace"), NULL };
	char *usb[] = { text("tablet"), NULL, NULL };
	char *serial[] = { NULL, NULL, NULL };

	(void)state;
	good_hvm();
	config.b_info.u.hvm.usbdevice_list = usb;
	assert_int_equal(xen_refuse(&config, &why), 0);
	config.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_UNKNOWN;
	assert_int_equal(xen_refuse(&config, &why), 0);
	config.b_info.device_model_version = LIBXL_DEVICE_MODEL_VERSION_QEMU_XEN_TRADITIONAL;
	refused_hvm("another device model than qemu-xen");
	libxl_defbool_set(&config.b_info.device_model_stubdomain, true);
	refused_hvm("in a domain of its own");
	libxl_defbool_set(&config.b_info.dm_restrict, true);
	refused_hvm("dm_restrict");
	config.b_info.device_model = text("/opt/qemu");
	refused_hvm("device_model_override");
	config.b_info.extra_hvm = argument;
	refused_hvm("device_model_args");
	config.b_info.u.hvm.system_firmware = text("/opt/bios");
	refused_hvm("bios_path_override");
	usb[1] = text("host:1.2");
	config.b_info.u.hvm.usbdevice_list = usb;
	refused_hvm("usbdevice=host");
	libxl_defbool_set(&config.b_info.u.hvm.gfx_passthru, true);
	refused_hvm("gfx_passthru");
	libxl_defbool_set(&config.b_info.u.hvm.spice.enable, true);
	refused_hvm("SPICE");
	libxl_defbool_set(&config.b_info.u.hvm.sdl.enable, true);
	refused_hvm("remove sdl");
	config.b_info.u.hvm.vnc.listen = text("127.0.0.1");
	libxl_defbool_set(&config.b_info.u.hvm.vnc.findunused, true);
	assert_int_equal(xen_refuse(&config, &why), 0);
	libxl_defbool_set(&config.b_info.u.hvm.vnc.findunused, false);
	refused_hvm("vncunused");
	config.b_info.u.hvm.vnc.listen = text("192.0.2.1");
	refused_hvm("vnclisten");
	config.b_info.u.hvm.vnc.listen = text("127.0.0.1:1");
	libxl_defbool_set(&config.b_info.u.hvm.vnc.enable, false);
	assert_int_equal(xen_refuse(&config, &why), 0);
	good_hvm();
	serial[0] = text("pty");
	config.b_info.u.hvm.serial_list = serial;
	assert_int_equal(xen_refuse(&config, &why), 0);
	serial[1] = text("file:/etc/passwd");
	refused_hvm("serial port");
	config.b_info.u.hvm.serial = text("tcp:192.0.2.1:99");
	refused_hvm("serial port");
	disks[1].is_cdrom = 1;
	refused_hvm("can be taken out");
}

static void test_memory_and_processors(void **state)
{
	(void)state;
	good();
	config.b_info.num_vnuma_nodes = 2;
	refused("2 virtual NUMA nodes");
	config.b_info.target_memkb--;
	refused("262143 KiB is below its maxmem of 262144 KiB");
	config.b_info.max_vcpus = 129;
	refused("129 processors, at most 128");
	libxl_defbool_set(&config.b_info.nested_hvm, true);
	refused("nestedhvm");
	config.b_info.altp2m = LIBXL_ALTP2M_MODE_MIXED;
	refused("altp2m");
	libxl_defbool_set(&config.b_info.disable_migrate, true);
	refused("nomigrate");
}

static void test_devices(void **state)
{
	(void)state;
	good();
	config.num_pcidevs = 1;
	refused("PCI devices of the host (1)");
	config.b_info.num_iomem = 3;
	refused("device memory of the host (3)");
	config.num_usbctrls = 1;
	refused("USB");
	config.num_vtpms = 1;
	refused("TPM");
	config.num_nics = XEN_NICS_MAX + 1;
	refused("9 network cards, at most 8");
	nics[1].devid = 2;
	refused("no vif number 1");
	nics[0].backend_domid = 3;
	refused("network card 0 is served by another domain");
	nics[1].ifname = text("web0");
	refused("is called web0");
}

static void test_disks(void **state)
{
	static char path[XEN_DISK_PATH_MAX + 2] = "nbd:unix:/";

	(void)state;
	good();
	disks[1].pdev_path = text("/dev/vg/db");
	refused("disk xvda, /dev/vg/db, is not one that Pollux's nbdkit plugin serves");
	disks[0].pdev_path = NULL;
	refused("xvda, empty, is not one");
	disks[1].pdev_path = text("nbd:unix:db");
	refused("is not one");
	/* A script of the other host's choice would be run here, by root. */
	disks[0].script = text("/tmp/block-pollux");
	refused("make it 'vdev=xvda,script=block-pollux,target=nbd:unix:/SOCKET'");
	disks[0].script = NULL;
	refused("is not one");
	memset(path + 10, 'x', sizeof(path) - 11);
	disks[0].pdev_path = path;
	refused("256 bytes, at most 255");
	disks[1].is_cdrom = 1;
	refused("can be taken out");
	disks[1].removable = 1;
	refused("can be taken out");
	disks[0].backend_domid = 2;
	refused("served by another domain");
	config.num_disks = XEN_DISKS_MAX + 1;
	refused("9 disks, at most 8");
}

/* --- features ---------------------------------------------------------------------------- */

struct leaf {
	uint32_t leaf, subleaf, a, b, c, d;
};

static struct xen_leaves leaves(uint8_t *room, const struct leaf *l, uint32_t n)
{
	struct cursor out = cursor_over(room, (size_t)n * XEN_LEAF_BYTES);

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t words[] = {
			l[i].leaf, l[i].subleaf, l[i].a, l[i].b, l[i].c, l[i].d
		};

		for (size_t w = 0; w < ARRAY_SIZE(words); w++)
			cursor_put_u32(&out, words[w]);
	}
	return (struct xen_leaves){ room, n };
}

static int compare(const struct leaf *guest, const struct leaf *host, struct reason *why)
{
	uint8_t rooms[2][2 * XEN_LEAF_BYTES];

	return xen_features_check(leaves(rooms[0], guest, 2), leaves(rooms[1], host, 2), why);
}

static void test_features(void **state)
{
	struct leaf guest[2] = { { 1, UINT32_MAX, 0, 0, 1u << 28, 0xff },
				 { 7, 0, 2, 1u << 5, 0, 0 } };
	struct leaf host[2] = { { 1, UINT32_MAX, 9, 9, 1u << 28, 0xff },
				{ 7, 0, 0, 1u << 5 | 1u << 3, 0, 1 } };
	struct reason why = { "" };

	(void)state;
	assert_int_equal(compare(guest, host, &why), 0);
	guest[0].c |= 1u << 27; /* OSXSAVE: the guest's own doing */
	assert_int_equal(compare(guest, host, &why), 0);
	host[1].b = 1u << 3;
	assert_int_equal(compare(guest, host, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why.text, "leaf 0x7, ebx, bits 0x20"));
	host[1].leaf = 6; /* a host that has not even the leaf */
	assert_int_equal(compare(guest, host, &why), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_device_models),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_memory_and_processors),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_features),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
