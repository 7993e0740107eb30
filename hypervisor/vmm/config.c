/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/config.h"

#include <json-c/json.h>
#include <stdio.h>

#include "base/hex.h"
#include "hypervisor/vmm/memory.h"

#define DEFAULT_CMDLINE "console=ttyS0"
#define MIB		(UINT64_C(1) << 20)

/* One key of an object: what parses its value. */
struct key {
	const char *name;
	int (*parse)(json_object *value, void *into, struct reason *why);
	bool required;
};

/* A kind of object: what it is called in a refusal, and its keys. */
struct kind {
	const char *name;
	const struct key *keys;
	size_t nr_keys;
};

static int wrong(struct reason *why, const char *key, const char *wanted, json_object *value)
{
	return reason_set(why, EINVAL, "%s: %.80s is not %s", key,
			  json_object_to_json_string(value), wanted);
}

static int parse_object(json_object *object, const struct kind *kind, void *into,
			struct reason *why)
{
	const struct key *keys = kind->keys;
	uint64_t seen = 0;

	if (!json_object_is_type(object, json_type_object))
		return wrong(why, kind->name, "an object", object);
	json_object_object_foreach(object, name, value)
	{
		size_t k = 0;
		int err;

		while (k < kind->nr_keys && strcmp(keys[k].name, name))
			k++;
		if (k == kind->nr_keys)
			return reason_set(why, EINVAL, "%s: unknown key \"%.64s\"", kind->name,
					  name);
		err = keys[k].parse(value, into, why);
		if (err)
			return err;
		seen |= UINT64_C(1) << k;
	}
	for (size_t k = 0; k < kind->nr_keys; k++)
		if (keys[k].required && !(seen >> k & 1))
			return reason_set(why, EINVAL, "%s: \"%s\" is missing", kind->name,
					  keys[k].name);
	return 0;
}

/* --- values ------------------------------------------------------------------------------ */

static int take_string(json_object *value, const char *key, char **ret, struct reason *why)
{
	char *copy;

	if (!json_object_is_type(value, json_type_string) ||
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return wrong(why, key, "a text", value);
	copy = strdup(json_object_get_string(value));
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

struct bounds {
	uint64_t min, max;
};

static int take_number(json_object *value, const char *key, struct bounds in, uint64_t *ret,
		       struct reason *why)
{
	int64_t n = json_object_get_int64(value);

	if (!json_object_is_type(value, json_type_int))
		return wrong(why, key, "a number", value);
	if (n < 0 || (uint64_t)n < in.min || (uint64_t)n > in.max)
		return reason_set(why, EINVAL, "%s: %lld is not between %llu and %llu", key,
				  (long long)n, (unsigned long long)in.min,
				  (unsigned long long)in.max);
	*ret = (uint64_t)n;
	return 0;
}

static int take_action(json_object *value, const char *key, enum config_action *ret,
		       struct reason *why)
{
	static const char *const names[] = { "destroy", "restart", "preserve" };
	const char *text = json_object_get_string(value);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!text || strcmp(text, names[i]))
			continue;
		*ret = (enum config_action)i;
		return 0;
	}
	return wrong(why, key, "destroy, restart or preserve", value);
}

/* --- disks and NICs ---------------------------------------------------------------------- */

static int disk_path(json_object *value, void *into, struct reason *why)
{
	return take_string(value, "disk path", &((struct vm_config_disk *)into)->path, why);
}

static int disk_name(json_object *value, void *into, struct reason *why)
{
	if (!value)
		return 0;
	return take_string(value, "disk name", &((struct vm_config_disk *)into)->name, why);
}

static int disk_readonly(json_object *value, void *into, struct reason *why)
{
	struct vm_config_disk *disk = into;

	if (!json_object_is_type(value, json_type_boolean))
		return wrong(why, "disk readonly", "true or false", value);
	disk->readonly = json_object_get_boolean(value);
	return 0;
}

static int disk_deferred(json_object *value, void *into, struct reason *why)
{
	struct vm_config_disk *disk = into;

	if (!json_object_is_type(value, json_type_boolean))
		return wrong(why, "disk deferred", "true or false", value);
	disk->deferred = json_object_get_boolean(value);
	return 0;
}

static int nic_mac(json_object *value, void *into, struct reason *why)
{
	struct vm_config_nic *nic = into;
	const char *text = json_object_get_string(value);

	if (!text || !hex_parse(text, ':', nic->mac, sizeof(nic->mac)) || nic->mac[0] & 1)
		return wrong(why, "nic mac", "an address of one station", value);
	return 0;
}

static int nic_bridge(json_object *value, void *into, struct reason *why)
{
	struct vm_config_nic *nic = into;
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string) || strlen(text) >= sizeof(nic->bridge) ||
	    strchr(text, '/'))
		return wrong(why, "nic bridge", "the name of an interface", value);
	snprintf(nic->bridge, sizeof(nic->bridge), "%s", text);
	return 0;
}

static const struct key disk_keys[] = {
	{ "path", disk_path, true },
	{ "name", disk_name, false },
	{ "readonly", disk_readonly, false },
	{ "deferred", disk_deferred, false },
};

static const struct key nic_keys[] = {
	{ "mac", nic_mac, true },
	{ "bridge", nic_bridge, false },
};

static const struct kind disk_kind = { "disk", disk_keys, ARRAY_SIZE(disk_keys) };
static const struct kind nic_kind = { "nic", nic_keys, ARRAY_SIZE(nic_keys) };

static int array_length(json_object *value, const char *key, unsigned int max, unsigned int *ret,
			struct reason *why)
{
	if (!json_object_is_type(value, json_type_array))
		return wrong(why, key, "a list", value);
	if (json_object_array_length(value) > max)
		return reason_set(why, E2BIG, "%s: %zu, at most %u", key,
				  json_object_array_length(value), max);
	*ret = (unsigned int)json_object_array_length(value);
	return 0;
}

/* --- the VM ------------------------------------------------------------------------------ */

static int vm_name(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_string) || !*text ||
	    strlen(text) >= sizeof(config->name) || strpbrk(text, "/ \n\t\"="))
		return wrong(why, "name", "a name of 1 to 63 letters, without / or spaces", value);
	snprintf(config->name, sizeof(config->name), "%s", text);
	return 0;
}

static int vm_uuid(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	const char *text = json_object_get_string(value);

	if (!text || !hex_parse(text, '-', config->uuid, sizeof(config->uuid)))
		return wrong(why, "uuid", "a UUID", value);
	return 0;
}

static int vm_kernel(json_object *value, void *into, struct reason *why)
{
	return take_string(value, "kernel", &((struct vm_config *)into)->kernel, why);
}

static int vm_ramdisk(json_object *value, void *into, struct reason *why)
{
	if (!value)
		return 0;
	return take_string(value, "ramdisk", &((struct vm_config *)into)->ramdisk, why);
}

static int vm_cmdline(json_object *value, void *into, struct reason *why)
{
	return take_string(value, "cmdline", &((struct vm_config *)into)->cmdline, why);
}

static int vm_memory(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	const struct bounds bounds = { GUEST_MIN_BYTES / MIB, GUEST_MAX_BYTES / MIB };
	uint64_t mib;
	int err = take_number(value, "memory_mib", bounds, &mib, why);

	if (!err)
		config->memory_bytes = mib * MIB;
	return err;
}

static int vm_vcpus(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	const struct bounds bounds = { 1, CONFIG_MAX_VCPUS };
	uint64_t n;
	int err = take_number(value, "vcpus", bounds, &n, why);

	if (!err)
		config->nr_vcpus = (unsigned int)n;
	return err;
}

static int vm_processors(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	const char *text = json_object_get_string(value);
	uint8_t bytes[8];

	if (!text || !hex_parse(text, '\0', bytes, sizeof(bytes)))
		return wrong(why, "processors", "16 hexadecimal digits", value);
	config->processors = strtoull(text, NULL, 16);
	return 0;
}

static int vm_disks(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	int err = array_length(value, "disks", CONFIG_MAX_DISKS, &config->nr_disks, why);

	for (unsigned int i = 0; !err && i < config->nr_disks; i++)
		err = parse_object(json_object_array_get_idx(value, i), &disk_kind,
				   &config->disk[i], why);
	return err;
}

static int vm_nics(json_object *value, void *into, struct reason *why)
{
	struct vm_config *config = into;
	int err = array_length(value, "nics", CONFIG_MAX_NICS, &config->nr_nics, why);

	for (unsigned int i = 0; !err && i < config->nr_nics; i++)
		err = parse_object(json_object_array_get_idx(value, i), &nic_kind, &config->nic[i],
				   why);
	return err;
}

static int vm_on_poweroff(json_object *value, void *into, struct reason *why)
{
	return take_action(value, "on_poweroff", &((struct vm_config *)into)->on_poweroff, why);
}

static int vm_on_reboot(json_object *value, void *into, struct reason *why)
{
	return take_action(value, "on_reboot", &((struct vm_config *)into)->on_reboot, why);
}

static int vm_on_crash(json_object *value, void *into, struct reason *why)
{
	return take_action(value, "on_crash", &((struct vm_config *)into)->on_crash, why);
}

static const struct key vm_keys[] = {
	{ "name", vm_name, true },
	{ "uuid", vm_uuid, true },
	{ "kernel", vm_kernel, false },
	{ "ramdisk", vm_ramdisk, false },
	{ "cmdline", vm_cmdline, false },
	{ "memory_mib", vm_memory, true },
	{ "vcpus", vm_vcpus, false },
	{ "processors", vm_processors, false },
	{ "disks", vm_disks, false },
	{ "nics", vm_nics, false },
	{ "on_poweroff", vm_on_poweroff, false },
	{ "on_reboot", vm_on_reboot, false },
	{ "on_crash", vm_on_crash, false },
};

static const struct kind vm_kind = { "vm", vm_keys, ARRAY_SIZE(vm_keys) };

int vm_config_read(const char *path, struct vm_config *ret, struct reason *why)
{
	struct vm_config config = {
		.nr_vcpus = 1,
		.on_poweroff = CONFIG_DESTROY,
		.on_reboot = CONFIG_RESTART,
		.on_crash = CONFIG_DESTROY,
	};
	json_object *root = json_object_from_file(path);
	int err;

	if (!root)
		return reason_set(why, EINVAL, "%s: %s", path, json_util_get_last_err());
	err = parse_object(root, &vm_kind, &config, why);
	json_object_put(root);
	if (!err && !config.cmdline) {
		config.cmdline = strdup(DEFAULT_CMDLINE);
		err = config.cmdline ? 0 : -ENOMEM;
	}
	if (err) {
		vm_config_free(&config);
		return err;
	}
	*ret = config;
	return 0;
}

void vm_config_free(struct vm_config *config)
{
	free(config->kernel);
	free(config->ramdisk);
	free(config->cmdline);
	for (unsigned int i = 0; i < CONFIG_MAX_DISKS; i++) {
		free(config->disk[i].path);
		free(config->disk[i].name);
	}
	memset(config, 0, sizeof(*config));
}
