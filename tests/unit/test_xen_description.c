/* SPDX-License-Identifier: Apache-2.0 */
/* The description of a domain of Xen: read, written, and refused with value and limit. */
#include "tests/lib/test.h"

#include "tests/unit/xen_sample.h"

static void test_parse(void **state)
{
	struct xen_description d;
	struct reason why;

	(void)state;
	assert_int_equal(xen_description_parse(xen_sample_text(&xen_sample), &d, &why), 0);
	assert_string_equal(d.name, "db");
	assert_int_equal(d.uuid[0], 0x00);
	assert_int_equal(d.uuid[15], 0xff);
	assert_int_equal(d.memory_mib, 64);
	assert_int_equal(d.nr_vcpus, 2);
	assert_int_equal(d.nr_nics, 1);
	assert_int_equal(d.nic[0].mac[5], 0xff);
	assert_string_equal(d.nic[0].bridge, "lan");
	assert_int_equal(d.nr_disks, 1);
	assert_string_equal(d.disk[0].path, "nbd:unix:/a/b");
	assert_true(d.disk[0].readonly);
	assert_int_equal(d.nr_leaves, 2);
	assert_int_equal(d.cpuid[20], 4);
	assert_int_equal(d.nr_msrs, 1);
	assert_int_equal(d.msrs[0], 0xce);
	assert_int_equal(d.nr_ranges, 3);
	assert_int_equal(d.nr_pages, 3168);
	assert_int_equal(d.nr_gfns, 1044488);
	assert_string_equal(d.libxl, "{\"c_info\":{\"name\":\"db\"}}");
	xen_description_free(&d);
}

static void test_write(void **state)
{
	struct xen_description d, again;
	struct reason why;
	char *text, *second;

	(void)state;
	assert_int_equal(xen_description_parse(xen_sample_text(&xen_sample), &d, &why), 0);
	assert_int_equal(xen_description_write(&d, &text), 0);
	assert_non_null(strstr(text, "\"00112233-4455-6677-8899-aabbccddeeff\""));
	assert_non_null(strstr(text, "\"00:16:3e:01:02:ff\""));
	assert_int_equal(xen_description_parse(text, &again, &why), 0);
	assert_int_equal(xen_description_write(&again, &second), 0);
	assert_string_equal(text, second);
	free(text);
	free(second);
	xen_description_free(&d);
	xen_description_free(&again);
}

static void refused(const char *text, const char *words)
{
	struct xen_description d = { .nr_vcpus = 77 };
	struct reason why = { "" };

	assert_int_equal(xen_description_parse(text, &d, &why), -EINVAL);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
	assert_int_equal(d.nr_vcpus, 77);
}

#define REFUSED(member, value, words)                                                              \
	do {                                                                                       \
		struct xen_sample s_ = xen_sample;                                                 \
		s_.member = (value);                                                               \
		refused(xen_sample_text(&s_), (words));                                            \
	} while (0)

static void test_bad_values(void **state)
{
	(void)state;
	refused("[]", "no JSON object");
	refused("{", "no JSON object");
	refused("{\"platform\":\"kvm\"}", "\"kvm\" is not");
	REFUSED(memory_mib, "0", "between 1 and 1048576");
	REFUSED(memory_mib, "\"64\"", "memory_mib");
	REFUSED(memory_mib, "-1", "-1 is not between");
	REFUSED(nics, "{}", "nics");
	REFUSED(nics, "[7]", "no object");
	REFUSED(nics, "[{\"mac\":\"00:16:3e:01:02\",\"bridge\":\"\"}]", "mac 00:16");
	REFUSED(nics, "[{\"mac\":\"00:16:3e:01:02:03\",\"bridge\":\"0123456789abcdef\"}]",
		"at most 15");
	REFUSED(nics, "[{},{},{},{},{},{},{},{},{}]", "9 network cards, at most 8");
	REFUSED(disks, "{}", "disks");
	REFUSED(disks, "[7]", "no object");
	REFUSED(disks, "[{\"path\":\"/a\"}]", "readonly");
	REFUSED(disks, "[{},{},{},{},{},{},{},{},{}]", "9 disks, at most 8");
	REFUSED(version, "four", "version four");
	REFUSED(cpuid, "", "0 bytes are not 1 to 1024");
	REFUSED(cpuid, "00", "1 bytes are not");
	REFUSED(cpuid, XEN_SAMPLE_LEAF "zz", "cpuid");
	REFUSED(msrs, "ce00000000000000000000008000000x", "hexadecimal");
}

/* Each page once, in the order of gfns, and no more than a domain of that size has. */
static void test_bad_ranges(void **state)
{
	(void)state;
	REFUSED(ranges, "[]", "0 ranges");
	REFUSED(ranges, "[[0]]", "no pair");
	REFUSED(ranges, "[[0,0]]", "between 1 and");
	REFUSED(ranges, "[[0,10],[9,1]]", "between 10 and");
	REFUSED(ranges, "[[0,-1]]", "-1 is not");
	REFUSED(ranges, "[[268435456,1]]", "and 268435455");
	REFUSED(ranges, "[[268435455,2]]", "between 1 and 1");
	REFUSED(ranges, "[[0,9223372036854775807]]", "between 1 and 268435456");
	REFUSED(ranges, "[[0,32769]]", "at most 32768");
}

static void test_versions(void **state)
{
	uint32_t major = 0, minor = 0;

	(void)state;
	assert_true(xen_version_parse("4.17.6-pre", &major, &minor));
	assert_int_equal(major, 4);
	assert_int_equal(minor, 17);
	assert_false(xen_version_parse("4", &major, &minor));
	assert_false(xen_version_parse("", &major, &minor));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	   cmocka_unit_test(test_write),
		cmocka_unit_test(test_bad_values), cmocka_unit_test(test_bad_ranges),
		cmocka_unit_test(test_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
