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
	struct reason why = { "" };
	uint8_t one = 1, both = 3;

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
	/* Of a PVH guest they are followed; of one that does not say, libxl plugs them all. */
	config.b_info.avail_vcpus = (libxl_bitmap){ .size = 1, .map = &one };
	assert_int_equal(xen_refuse(&config, &why), 0);
	good_hvm();
	assert_int_equal(xen_refuse(&config, &why), 0);
	config.b_info.avail_vcpus = (libxl_bitmap){ .size = 1, .map = &both };
	assert_int_equal(xen_refuse(&config, &why), 0);
	config.b_info.avail_vcpus = (libxl_bitmap){ .size = 1, .map = &one };
	refused("1 of its 2 processors are plugged");
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

struct msr {
	uint32_t index;
	uint64_t value;
};

struct processor {
	struct leaf leaf[3];
	struct msr msr[2];
};

static const struct leaf intel = { 0, UINT32_MAX, 13, 0x756e6547, 0x6c65746e, 0x49656e69 };

static void put_leaves(uint8_t *room, const struct leaf *l, uint32_t n)
{
	struct cursor out = cursor_over(room, (size_t)n * XEN_LEAF_BYTES);

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t words[] = {
			l[i].leaf, l[i].subleaf, l[i].a, l[i].b, l[i].c, l[i].d
		};

		for (size_t w = 0; w < ARRAY_SIZE(words); w++)
			cursor_put_u32(&out, words[w]);
	}
}

static void put_msrs(uint8_t *room, const struct msr *m, uint32_t n)
{
	struct cursor out = cursor_over(room, (size_t)n * XEN_MSR_BYTES);

	for (uint32_t i = 0; i < n; i++) {
		cursor_put_u32(&out, m[i].index);
		cursor_put_u32(&out, 0);
		cursor_put_u64(&out, m[i].value);
	}
}

static int compare(const struct processor *guest, const struct processor *host, struct reason *why)
{
	const struct processor *p[] = { guest, host };
	uint8_t leaves[2][ARRAY_SIZE(guest->leaf) * XEN_LEAF_BYTES];
	uint8_t msrs[2][ARRAY_SIZE(guest->msr) * XEN_MSR_BYTES];
	struct xen_policy policy[2];

	for (size_t i = 0; i < 2; i++) {
		put_leaves(leaves[i], p[i]->leaf, ARRAY_SIZE(p[i]->leaf));
		put_msrs(msrs[i], p[i]->msr, ARRAY_SIZE(p[i]->msr));
		policy[i] = (struct xen_policy){ leaves[i], ARRAY_SIZE(p[i]->leaf), msrs[i],
						 ARRAY_SIZE(p[i]->msr) };
	}
	return xen_features_check(&policy[0], &policy[1], why);
}

static void lacks(const struct processor *guest, const struct processor *host, const char *words)
{
	struct reason why = { "" };

	assert_int_equal(compare(guest, host, &why), -EOPNOTSUPP);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

static void test_features(void **state)
{
	struct processor guest = {
		{ intel, { 1, UINT32_MAX, 0, 0, 1u << 28, 0xff }, { 7, 0, 2, 1u << 5, 0, 0 } },
		{ { 0xce, 1u << 31 }, { 0x10a, 1u << 0 } }
	};
	struct processor host = { { intel,
				    { 1, UINT32_MAX, 9, 9, 1u << 28, 0xff },
				    { 7, 0, 0, 1u << 5 | 1u << 3, 0, 1 } },
				  { { 0xce, 1u << 31 }, { 0x10a, 1u << 0 | 1u << 3 } } };
	struct reason why = { "" };

	(void)state;
	assert_int_equal(compare(&guest, &host, &why), 0);
	guest.leaf[1].c |= 1u << 27; /* OSXSAVE: the guest's own doing */
	assert_int_equal(compare(&guest, &host, &why), 0);
	host.leaf[2].b = 1u << 3;
	lacks(&guest, &host, "leaf 0x7, ebx, bits 0x20");
	host.leaf[2].leaf = 6; /* a host that has not even the leaf */
	lacks(&guest, &host, "leaf 0x7, ebx, bits 0x20");
	host.leaf[2] = guest.leaf[2];

	host.leaf[2].subleaf = guest.leaf[2].subleaf = 1;
	guest.leaf[2].d = 1u << 4;
	lacks(&guest, &host, "leaf 0x7, edx, bits 0x10");
	host.leaf[2] = guest.leaf[2];
	assert_int_equal(compare(&guest, &host, &why), 0);
}

static void test_msrs_and_maker(void **state)
{
	struct processor guest = { { intel }, { { 0xce, 1u << 31 }, { 0x10a, 1u << 8 } } };
	struct processor host = guest;
	struct reason why = { "" };

	(void)state;
	assert_int_equal(compare(&guest, &host, &why), 0);
	host.msr[1].value = 0;
	lacks(&guest, &host, "MSR 0x10a, bits 0x100");
	host.msr[0].index = 0x10b;
	host.msr[1].value = 1u << 8;
	lacks(&guest, &host, "MSR 0xce, bits 0x80000000");
	host.msr[0].index = 0xce;
	guest.msr[1].value |= 1u << 2; /* RSBA: the host is the better one */
	assert_int_equal(compare(&guest, &host, &why), 0);

	host.leaf[0].b = 0x68747541; /* "Auth" */
	lacks(&guest, &host, "of \"AuthineIntel\", the domain knows one of \"GenuineIntel\"");
	host.leaf[0].b = 0x01020304;
	lacks(&guest, &host, "of \"????ineIntel\"");
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
		cmocka_unit_test(test_msrs_and_maker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
