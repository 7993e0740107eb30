/* SPDX-License-Identifier: Apache-2.0 */
/* VM files: what is taken, what is refused and with which words. */
#include "tools/common/vmfile.h"

#include "tests/lib/test.h"

#include "tools/common/json.h"
#include "tools/common/text.h"

/* libxlutil forgets the half-read list on a syntax error. A command line that reads one
 * file and ends can bear that; ours would still be found. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:xlu__cfg_\nleak:xlu__cfgl_\n";
}

#define MINIMAL "name = 'db'\nkernel = '/k'\nmemory = 64\n"

static int parse(const char *text, struct json_object **ret, struct reason *why)
{
	why->text[0] = '\0';
	return vmfile_parse(text, strlen(text), "f.cfg", ret, why);
}

static void whole_file(void **state)
{
	cleanup_json struct json_object *o = NULL;
	struct json_object *disks, *nics;
	struct reason why;

	(void)state;
	assert_int_equal(
		parse("# a VM # [ 'x'\n"
		      "name = \"db\"; uuid = '6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11'\n"
		      "kernel = '/boot/vmlinuz'\nramdisk=\"/boot/initrd # no remark\"\n"
		      "extra = \"console=ttyS0 a=b\"\nroot = '/dev/vda'\n"
		      "memory = 256\nmaxmem = 256\nvcpus = 2\ntype = 'pvh'\nserial='pty'\n"
		      "disk = [ '/x.img,raw,xvda,rw',\n  # between\n  '/y.img,raw,xvdb,ro',\n"
		      "  'format=raw,vdev=xvdc,access=rw,target=nbd:unix:/run/z/nbd' ]\n"
		      "vif = [ 'mac=52:54:00:77:01:0A, bridge=br0', '' ]\n"
		      "on_poweroff = 'destroy'\non_reboot = \"restart\"\non_crash = 'preserve'\n",
		      &o, &why),
		0);
	assert_string_equal(json_text(o, "name", ""), "db");
	assert_string_equal(json_text(o, "uuid", ""), "6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11");
	assert_string_equal(json_text(o, "cmdline", ""), "root=/dev/vda console=ttyS0 a=b");
	assert_string_equal(json_text(o, "ramdisk", ""), "/boot/initrd # no remark");
	assert_int_equal(json_number(o, "memory_mib", 0), 256);
	assert_int_equal(json_number(o, "vcpus", 0), 2);
	assert_string_equal(json_text(o, "on_crash", ""), "preserve");
	disks = json_member(o, "disks");
	assert_int_equal(json_object_array_length(disks), 3);
	assert_string_equal(json_text(json_object_array_get_idx(disks, 2), "path", ""),
			    "nbd:unix:/run/z/nbd");
	assert_string_equal(json_text(json_object_array_get_idx(disks, 1), "path", ""), "/y.img");
	assert_true(json_flag(json_object_array_get_idx(disks, 1), "readonly"));
	assert_false(json_flag(json_object_array_get_idx(disks, 0), "readonly"));
	nics = json_member(o, "nics");
	assert_string_equal(json_text(json_object_array_get_idx(nics, 0), "mac", ""),
			    "52:54:00:77:01:0a");
	assert_string_equal(json_text(json_object_array_get_idx(nics, 0), "bridge", ""), "br0");
	assert_null(json_member(json_object_array_get_idx(nics, 1), "bridge"));
	assert_memory_equal(json_text(json_object_array_get_idx(nics, 1), "mac", ""),
			    "52:54:00:", 9);
}

static void what_is_left_out(void **state)
{
	cleanup_json struct json_object *o = NULL;
	struct reason why;

	(void)state;
	assert_int_equal(parse(MINIMAL, &o, &why), 0);
	assert_true(text_is_uuid(json_text(o, "uuid", "")));
	assert_int_equal(json_number(o, "vcpus", 0), 1);
	assert_string_equal(json_text(o, "cmdline", "?"), "");
	assert_string_equal(json_text(o, "on_poweroff", ""), "destroy");
	assert_string_equal(json_text(o, "on_reboot", ""), "restart");
	assert_string_equal(json_text(o, "on_crash", ""), "destroy");
	assert_int_equal(json_object_array_length(json_member(o, "disks")), 0);
}

static void refusals(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "\"name\" is missing" },
		{ MINIMAL "memroy = 65\n", "f.cfg:4: unknown key \"memroy\"" },
		{ "x = [ 'a',\n 'b',\n]\n", "f.cfg:1: unknown key \"x\"" },
		{ MINIMAL "disk = [\n'/x,raw,xvda,rw',\n]\nnothing = 1\n", "f.cfg:7: unknown key" },
		{ MINIMAL "a='x' ; device_model = 1\n", "f.cfg:4: unknown key \"a\"" },
		{ MINIMAL "vcpus += 1\nvcpus = 2", "f.cfg:5: key \"vcpus\" is given twice" },
		{ "name = 'db'\nmemory = 64\n", "\"kernel\" is missing" },
		{ "name = 'db'\nkernel = '/k'\n", "\"memory\" (in MiB) is missing" },
		{ "name = 'd b'\nkernel = '/k'\nmemory = 64\n", "name \"d b\"" },
		{ "name = ['db']\nkernel = '/k'\nmemory = 64\n", "\"name\" is a list" },
		{ "name = 'db'\nkernel = 'k'\nmemory = 64\n", "absolute path" },
		{ "name = 'db'\nkernel = '/k'\nmemory = 63\n",
		  "memory = 63, expected a number from 64 to 1048576" },
		{ "name = 'db'\nkernel = '/k'\nmemory = 1048577\n", "1048577" },
		{ "name = 'db'\nkernel = '/k'\nmemory = '64 MiB'\n", "memory = 64 MiB" },
		{ MINIMAL "vcpus = 0\n", "vcpus = 0, expected a number from 1 to 64" },
		{ MINIMAL "vcpus = 65\n", "from 1 to 64" },
		{ MINIMAL "maxmem = 128\n", "maxmem = 128, expected a number from 64 to 64" },
		{ MINIMAL "uuid = 'one'\n", "uuid = \"one\"" },
		{ MINIMAL "type = 'pv'\n", "type = \"pv\", expected pvh or hvm" },
		{ MINIMAL "on_crash = 'coredump-restart'\n",
		  "expected destroy, restart or preserve" },
		{ MINIMAL "cmdline = 'a'\nextra = 'b'\n", "exclude each other" },
		{ MINIMAL "disk = '/x.img,raw,xvda,rw'\n", "expected a list" },
		{ MINIMAL "disk = [ '/x.img,qcow2,xvda,rw' ]\n", "format qcow2, expected raw" },
		{ MINIMAL "disk = [ '/x.iso,raw,hdc:cdrom,r' ]\n", "CD-ROM" },
		{ MINIMAL "disk = [ 'x.img,raw,xvda,rw' ]\n", "absolute path" },
		{ MINIMAL "disk = [ 'vdev=xvda,target=nbd:unix:x' ]\n", "absolute path" },
		{ MINIMAL "disk = [ 'vdev=xvda,target=nbd:tcp:/x' ]\n", "absolute path" },
		{ MINIMAL "disk = [ '/x,raw,xvda,rw', '/x,raw,xvdb,rw' ]\n", "given twice" },
		{ MINIMAL "vif = [ 'mac=52:54:00:77:01' ]\n", "unicast address" },
		{ MINIMAL "vif = [ 'mac=01:54:00:77:01:00' ]\n", "unicast address" },
		{ MINIMAL "vif = [ 'brigde=br0' ]\n", "unknown key \"brigde\"" },
		{ MINIMAL "vif = [ 'bridge=a-name-beyond-15-c' ]\n", "1 to 15" },
		{ MINIMAL "vif = [ 'mac=52:54:00:77:01:00', 'mac=52:54:00:77:01:00' ]\n",
		  "given twice" },
		{ MINIMAL "vif = [ '','','','','','','','','' ]\n", "9 entries, at most 8" },
		{ MINIMAL "extra = 'unclosed\n", "f.cfg:4" },
		{ MINIMAL "extra = [\n", "f.cfg:" },
	};
	struct json_object *o = NULL;
	struct reason why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (parse(cases[i].text, &o, &why) != -EINVAL || !strstr(why.text, cases[i].says))
			fail_msg("case %zu: \"%s\" instead of \"%s\"", i, why.text, cases[i].says);
		assert_null(o);
	}
}

static void bytes_that_are_no_text(void **state)
{
	struct json_object *o = NULL;
	struct reason why;
	char *big = malloc(VMFILE_MAX_BYTES + 1);

	(void)state;
	assert_int_equal(vmfile_parse("name\0x", 6, "f", &o, &why), -EINVAL);
	memset(big, '#', VMFILE_MAX_BYTES + 1);
	assert_int_equal(vmfile_parse(big, VMFILE_MAX_BYTES + 1, "f", &o, &why), -EINVAL);
	memset(big, 'k', 100);
	memcpy(big + 100, "=1", 3);
	assert_int_equal(parse(big, &o, &why), -EINVAL);
	assert_non_null(strstr(why.text, "more than 64 characters"));
	free(big);
}

static void files_that_are_missing(void **state)
{
	char path[] = "/tmp/test_vmfile.XXXXXX", text[200];
	struct json_object *o = NULL;
	struct reason why;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_true(write(fd, MINIMAL, strlen(MINIMAL)) > 0);
	assert_int_equal(vmfile_read(path, &o, &why), -ENOENT);
	assert_non_null(strstr(why.text, "kernel /k: No such file"));
	assert_int_equal(ftruncate(fd, 0), 0);
	snprintf(text, sizeof(text),
		 "name='db'\nkernel='%s'\nmemory=64\n"
		 "disk=['/nowhere/x.img,raw,xvda,rw']\n",
		 path);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	assert_int_equal(vmfile_read(path, &o, &why), -ENOENT);
	assert_non_null(strstr(why.text, "disk /nowhere/x.img: No such file"));
	assert_int_equal(vmfile_read("/tmp", &o, &why), -EINVAL);
	assert_int_equal(vmfile_read("/nowhere", &o, &why), -ENOENT);
	assert_null(o);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_file),
		cmocka_unit_test(what_is_left_out),
		cmocka_unit_test(refusals),
		cmocka_unit_test(bytes_that_are_no_text),
		cmocka_unit_test(files_that_are_missing),
	};

	return test_main(tests);
}
