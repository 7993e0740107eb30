/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/vmfile.h"

#include <fcntl.h>
#include <libxlutil.h>
#include <stdio.h>
#include <sys/stat.h>

#include "disk-replica/drbd.h"
#include "hypervisor/control/control.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/common/vmfile_device.h"
#include "tools/common/vmfile_scan.h"

/* `type`, `serial` and `builder` are for xl; here every VM has a serial port and is a
 * hardware-assisted machine. */
static const char *const known_keys[] = {
	"name",	     "uuid",	 "kernel", "ramdisk",  "cmdline", "extra", "root",
	"memory",    "maxmem",	 "vcpus",  "maxvcpus", "disk",	  "vif",   "on_poweroff",
	"on_reboot", "on_crash", "type",   "serial",   "builder",
};

struct seen {
	const char *name;
	struct reason *why;
	unsigned int line[ARRAY_SIZE(known_keys)];
};

static int check_key(void *user, const char *key, unsigned int line)
{
	struct seen *seen = user;

	for (size_t i = 0; i < ARRAY_SIZE(known_keys); i++) {
		if (strcmp(known_keys[i], key))
			continue;
		if (seen->line[i])
			return reason_set(seen->why, EINVAL,
					  "%s:%u: key \"%s\" is given twice, first in line %u",
					  seen->name, line, key, seen->line[i]);
		seen->line[i] = line;
		return 0;
	}
	return reason_set(seen->why, EINVAL, "%s:%u: unknown key \"%s\"; pollux-vm(5) has the list",
			  seen->name, line, key);
}

static int check_keys(const char *text, size_t len, struct seen *seen)
{
	unsigned int line = 0;
	int r = vmfile_scan(text, len, check_key, seen, &line);

	if (r == -E2BIG)
		return reason_set(seen->why, EINVAL, "%s:%u: a key has more than %u characters",
				  seen->name, line, VMFILE_KEY_MAX);
	return r;
}

static int get_text(XLU_Config *cfg, const char *key, const char **ret, struct reason *why)
{
	int e = xlu_cfg_get_string(cfg, key, ret, 1);

	if (e == ESRCH)
		return -ENOENT;
	return e ? reason_set(why, EINVAL, "\"%s\" is a list, expected one value", key) : 0;
}

static int get_number(XLU_Config *cfg, const char *key, uint64_t min, uint64_t max, uint64_t *ret)
{
	const char *text = NULL;
	uint64_t v;
	int r = get_text(cfg, key, &text, NULL);

	if (r < 0)
		return r;
	if (text_parse_u64(text, &v, NULL) < 0 || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

static int refuse_number(XLU_Config *cfg, const char *key, uint64_t min, uint64_t max,
			 struct reason *why)
{
	const char *text = "a list";

	xlu_cfg_get_string(cfg, key, &text, 1);
	return reason_set(why, EINVAL, "%s = %.40s, expected a number from %llu to %llu", key, text,
			  (unsigned long long)min, (unsigned long long)max);
}

static int take_identity(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	const char *name = NULL, *uuid = NULL;
	char made[37];
	int r = get_text(cfg, "name", &name, why);

	if (r == -ENOENT)
		return reason_set(why, EINVAL, "key \"name\" is missing");
	if (!r)
		r = text_check_name("name", name, why);
	if (r < 0)
		return r;
	r = get_text(cfg, "uuid", &uuid, why);
	if (r == -ENOENT) {
		text_make_uuid(made);
		uuid = made;
	} else if (r < 0) {
		return r;
	}
	if (!text_is_uuid(uuid))
		return reason_set(why, EINVAL,
				  "uuid = \"%.60s\", expected such as "
				  "6f1c1a9e-5a0e-4b8f-9d35-0d2a4f6b7c11",
				  uuid);
	json_add_string(o, "name", name);
	json_add_string(o, "uuid", uuid);
	return 0;
}

static int take_path(XLU_Config *cfg, const char *key, bool needed, struct json_object *o,
		     struct reason *why)
{
	const char *path = NULL;
	int r = get_text(cfg, key, &path, why);

	if (r == -ENOENT)
		return needed ? reason_set(why, EINVAL, "key \"%s\" is missing", key) : 0;
	if (r < 0)
		return r;
	if (*path != '/' || strlen(path) > VMFILE_PATH_MAX)
		return reason_set(why, EINVAL,
				  "%s = \"%.80s\", expected an absolute path of at most %u bytes",
				  key, path, VMFILE_PATH_MAX);
	json_add_string(o, key, path);
	return 0;
}

/* As xl does it: `cmdline` alone, or else root=ROOT and extra. */
static int take_cmdline(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	const char *cmdline = NULL, *root = NULL, *extra = NULL;
	cleanup_free char *joined = NULL;
	int r = get_text(cfg, "cmdline", &cmdline, why);

	if (r < 0 && r != -ENOENT)
		return r;
	r = get_text(cfg, "root", &root, why);
	if (r < 0 && r != -ENOENT)
		return r;
	r = get_text(cfg, "extra", &extra, why);
	if (r < 0 && r != -ENOENT)
		return r;
	if (cmdline && (root || extra))
		return reason_set(why, EINVAL, "\"cmdline\" and \"%s\" exclude each other",
				  root ? "root" : "extra");
	if (asprintf(&joined, "%s%s%s%s%s", cmdline ?: "", root ? "root=" : "", root ?: "",
		     root && extra ? " " : "", extra ?: "") < 0) {
		joined = NULL;
		return reason_set(why, ENOMEM, "out of memory");
	}
	if (strlen(joined) > VMFILE_MAX_CMDLINE)
		return reason_set(why, EINVAL, "the kernel command line has %zu bytes, at most %u",
				  strlen(joined), VMFILE_MAX_CMDLINE);
	json_add_string(o, "cmdline", joined);
	return 0;
}

static int take_size(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	uint64_t memory = 0, maxmem = 0, vcpus = 1, maxvcpus;
	int r = get_number(cfg, "memory", VMFILE_MIN_MEMORY_MIB, VMFILE_MAX_MEMORY_MIB, &memory);

	if (r == -ENOENT)
		return reason_set(why, EINVAL, "key \"memory\" (in MiB) is missing");
	if (r < 0)
		return refuse_number(cfg, "memory", VMFILE_MIN_MEMORY_MIB, VMFILE_MAX_MEMORY_MIB,
				     why);
	r = get_number(cfg, "maxmem", memory, memory, &maxmem);
	if (r < 0 && r != -ENOENT)
		return refuse_number(cfg, "maxmem", memory, memory, why);
	r = get_number(cfg, "vcpus", 1, VMFILE_MAX_VCPUS, &vcpus);
	if (r < 0 && r != -ENOENT)
		return refuse_number(cfg, "vcpus", 1, VMFILE_MAX_VCPUS, why);
	r = get_number(cfg, "maxvcpus", vcpus, vcpus, &maxvcpus);
	if (r < 0 && r != -ENOENT)
		return refuse_number(cfg, "maxvcpus", vcpus, vcpus, why);
	json_add_u64(o, "memory_mib", memory);
	json_add_u64(o, "vcpus", vcpus);
	return 0;
}

static int take_word(XLU_Config *cfg, const char *key, const char *const *words, const char **ret,
		     struct reason *why)
{
	const char *text = NULL;
	int r = get_text(cfg, key, &text, why);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (unsigned int i = 0; words[i]; i++)
		if (!strcmp(text, words[i])) {
			*ret = words[i];
			return 0;
		}
	return reason_set(why, EINVAL, "%s = \"%.40s\", expected %s%s%s%s%s", key, text, words[0],
			  words[2] ? ", " : " or ", words[1], words[2] ? " or " : "",
			  words[2] ?: "");
}

static int take_actions(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	static const char *const words[] = { "destroy", "restart", "preserve", NULL };
	static const char *const types[] = { "pvh", "hvm", NULL };
	static const char *const keys[] = { "on_poweroff", "on_reboot", "on_crash" };
	const char *type = NULL;
	int r;

	for (unsigned int i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *word = words[i == 1];

		r = take_word(cfg, keys[i], words, &word, why);
		if (r < 0)
			return r;
		json_add_string(o, keys[i], word);
	}
	return take_word(cfg, "type", types, &type, why);
}

static int take_all(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	int r = take_identity(cfg, o, why);

	if (!r)
		r = take_path(cfg, "kernel", true, o, why);
	if (!r)
		r = take_path(cfg, "ramdisk", false, o, why);
	if (!r)
		r = take_cmdline(cfg, o, why);
	if (!r)
		r = take_size(cfg, o, why);
	if (!r)
		r = vmfile_take_disks(cfg, o, why);
	if (!r)
		r = vmfile_take_nics(cfg, o, why);
	return r ?: take_actions(cfg, o, why);
}

/* What libxlutil had to say first; it names file and line itself. */
static int parse_refusal(const char *report, const char *name, struct reason *why)
{
	return reason_set(why, EINVAL, "%.200s", *report ? report : name);
}

int vmfile_parse(const char *text, size_t len, const char *name, struct json_object **ret,
		 struct reason *why)
{
	struct seen seen = { .name = name, .why = why };
	struct reason sub = { "" };
	cleanup_free char *report = NULL;
	cleanup_json struct json_object *o = NULL;
	size_t report_len;
	FILE *to;
	XLU_Config *cfg;
	int r;

	if (len > VMFILE_MAX_BYTES || memchr(text, '\0', len))
		return reason_set(why, EINVAL, "%s: %s", name,
				  len > VMFILE_MAX_BYTES ? "larger than 64 KiB"
							 : "holds a NUL byte");
	r = check_keys(text, len, &seen);
	if (r < 0)
		return r;
	to = open_memstream(&report, &report_len);
	cfg = to ? xlu_cfg_init(to, name) : NULL;
	o = json_object_new_object();
	if (!cfg || !o) {
		r = reason_set(why, ENOMEM, "out of memory");
		goto out;
	}
	r = xlu_cfg_readdata(cfg, text, (int)len);
	if (!r) {
		r = take_all(cfg, o, &sub);
		if (r < 0)
			reason_set(why, EINVAL, "%.80s: %.170s", name, sub.text);
	} else {
		fflush(to);
		if (report)
			report[strcspn(report, "\n")] = '\0';
		r = parse_refusal(report ?: "", name, why);
	}
out:
	if (cfg)
		xlu_cfg_destroy(cfg);
	if (to)
		fclose(to);
	if (!r) {
		*ret = o;
		o = NULL;
	}
	return r;
}

static int check_file(const char *what, const char *path, bool device_too, struct reason *why)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return reason_set(why, errno, "%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !(device_too && S_ISBLK(st.st_mode)))
		return reason_set(why, EINVAL, "%s %s is no file%s", what, path,
				  device_too ? " and no block device" : "");
	return 0;
}

/* A file, a block device, or the socket by which one is served. */
static int check_disk(const char *path, struct reason *why)
{
	size_t prefix = strlen(CONTROL_NBD_PREFIX);
	struct stat st;

	/* Of DRBD, polluxd looks at the state. */
	if (drbd_resource(path))
		return 0;
	if (strncmp(path, CONTROL_NBD_PREFIX, prefix))
		return check_file("disk", path, true, why);
	if (stat(path + prefix, &st) < 0)
		return reason_set(why, errno, "disk %s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return reason_set(why, EINVAL, "disk %s is no socket", path);
	return 0;
}

static int check_files(struct json_object *o, struct reason *why)
{
	struct json_object *disks = json_member(o, "disks");
	const char *ramdisk = json_text(o, "ramdisk", NULL);
	int r = check_file("kernel", json_text(o, "kernel", ""), false, why);

	if (!r && ramdisk)
		r = check_file("ramdisk", ramdisk, false, why);
	for (size_t i = 0; !r && i < json_object_array_length(disks); i++)
		r = check_disk(json_text(json_object_array_get_idx(disks, i), "path", ""), why);
	return r;
}

int vmfile_read(const char *path, struct json_object **ret, struct reason *why)
{
	cleanup_free char *text = NULL;
	cleanup_json struct json_object *o = NULL;
	struct reason sub;
	size_t len;
	int r = text_read_file(path, VMFILE_MAX_BYTES, &text, &len, why);

	if (r < 0)
		return r;
	r = vmfile_parse(text, len, path, &o, why);
	if (r < 0)
		return r;
	r = check_files(o, &sub);
	if (r < 0)
		return reason_set(why, -r, "%.80s: %.170s", path, sub.text);
	*ret = o;
	o = NULL;
	return 0;
}
