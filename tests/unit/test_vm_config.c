/* SPDX-License-Identifier: Apache-2.0 */
/* hypervisor/vmm/config.h: a whole configuration, and each way in which one is wrong. */
#include "tests/lib/test.h"

#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "hypervisor/vmm/config.h"

#define UUID "\"uuid\": \"01234567-89ab-cdef-0123-456789abcdef\""
#define BASE "\"name\": \"db\", " UUID ", \"memory_mib\": 256"

static int read_text(const char *text, struct vm_config *ret, struct reason *why)
{
	char path[] = "/tmp/test_vm_config.XXXXXX";
	int fd = mkstemp(path), err;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	memset(why, 0, sizeof(*why));
	err = vm_config_read(path, ret, why);
	unlink(path);
	return err;
}

static void test_whole(void **state)
{
	struct vm_config c;
	struct reason why;

	(void)state;
	assert_int_equal(
		read_text("{" BASE
			  ", \"kernel\": \"/k\", \"ramdisk\": \"/r\", \"cmdline\": \"a b\","
			  "\"vcpus\": 64, \"disks\": [{\"path\": \"/d\"}, {\"path\": \"/e\","
			  "\"readonly\": true}], \"nics\": [{\"mac\": \"52:54:00:77:01:0A\","
			  "\"bridge\": \"br0\"}], \"on_poweroff\": \"preserve\","
			  "\"on_reboot\": \"destroy\", \"on_crash\": \"restart\"}",
			  &c, &why),
		0);
	assert_string_equal(c.name, "db");
	assert_int_equal(c.uuid[15], 0xef);
	assert_string_equal(c.ramdisk, "/r");
	assert_string_equal(c.cmdline, "a b");
	assert_int_equal(c.memory_bytes, 256u << 20);
	assert_int_equal(c.nr_vcpus, 64);
	assert_int_equal(c.nr_disks, 2);
	assert_true(c.disk[1].readonly && !c.disk[0].readonly);
	assert_int_equal(c.nic[0].mac[5], 0x0a);
	assert_string_equal(c.nic[0].bridge, "br0");
	assert_int_equal(c.on_poweroff, CONFIG_PRESERVE);
	assert_int_equal(c.on_reboot, CONFIG_DESTROY);
	assert_int_equal(c.on_crash, CONFIG_RESTART);
	vm_config_free(&c);
}

static void test_defaults(void **state)
{
	struct vm_config c;
	struct reason why;

	(void)state;
	assert_int_equal(read_text("{" BASE "}", &c, &why), 0);
	assert_null(c.kernel);
	assert_int_equal(c.nr_vcpus, 1);
	assert_string_equal(c.cmdline, "console=ttyS0");
	assert_int_equal(c.on_reboot, CONFIG_RESTART);
	vm_config_free(&c);
}

/* Each is refused, and the reason names what is wrong. */
static void test_wrong(void **state)
{
	static const struct {
		const char *text, *named;
	} wrong[] = {
		{ "", "" },
		{ "[]", "vm" },
		{ "{" BASE, "" },
		{ "{" UUID ", \"memory_mib\": 256}", "\"name\"" },
		{ "{\"name\": \"a\", \"memory_mib\": 256}", "\"uuid\"" },
		{ "{\"name\": \"a\", " UUID "}", "\"memory_mib\"" },
		{ "{" BASE ", \"vnc\": 1}", "unknown key \"vnc\"" },
		{ "{" BASE ", \"vcpus\": 0}", "between 1 and 64" },
		{ "{" BASE ", \"vcpus\": 65}", "between 1 and 64" },
		{ "{" BASE ", \"vcpus\": \"2\"}", "vcpus" },
		{ "{" BASE ", \"vcpus\": 1.5}", "vcpus" },
		{ "{\"name\": \"a\", " UUID ", \"memory_mib\": 63}", "63 is not between 64" },
		{ "{\"name\": \"a\", " UUID ", \"memory_mib\": 1048577}", "1048576" },
		{ "{\"name\": \"a\", " UUID ", \"memory_mib\": -1}", "memory_mib" },
		{ "{\"name\": \"a/b\", " UUID ", \"memory_mib\": 64}", "name" },
		{ "{\"name\": \"\", " UUID ", \"memory_mib\": 64}", "name" },
		{ "{\"name\": \"a\", \"uuid\": \"12\", \"memory_mib\": 64}", "uuid" },
		{ "{" BASE ", \"kernel\": 7}", "kernel" },
		{ "{" BASE ", \"kernel\": \"/a\\u0000b\"}", "kernel" },
		{ "{" BASE ", \"disks\": {}}", "disks" },
		{ "{" BASE ", \"disks\": [{}]}", "\"path\"" },
		{ "{" BASE ", \"disks\": [{\"path\": \"/d\", \"rw\": 1}]}", "\"rw\"" },
		{ "{" BASE ", \"disks\": [1,2,3,4,5,6,7,8,9]}", "at most 8" },
		{ "{" BASE ", \"nics\": [{\"mac\": \"52:54:00:77:01\"}]}", "mac" },
		{ "{" BASE ", \"nics\": [{\"mac\": \"53:54:00:77:01:00\"}]}", "mac" },
		{ "{" BASE ", \"nics\": [{\"mac\": \"52:54:00:77:01:00\", \"bridge\":"
		  "\"0123456789abcdef\"}]}",
		  "bridge" },
		{ "{" BASE ", \"on_crash\": \"panic\"}", "on_crash" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct vm_config c;
		struct reason why;

		if (read_text(wrong[i].text, &c, &why) != -EINVAL &&
		    !strstr(wrong[i].named, "at most"))
			fail_msg("accepted: %s", wrong[i].text);
		if (!why.text[0] || !strstr(why.text, wrong[i].named))
			fail_msg("%s: the reason is \"%s\"", wrong[i].text, why.text);
	}
}

static void test_absent(void **state)
{
	struct vm_config c;
	struct reason why = { 0 };

	(void)state;
	assert_true(vm_config_read("/nonexistent/x.json", &c, &why) < 0);
	assert_non_null(strstr(why.text, "/nonexistent/x.json"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_absent),
	};

	return test_main(tests);
}
