/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/description.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hex.h"

struct bounds {
	uint64_t min, max;
};

/* --- text to values ---------------------------------------------------------------------- */

static int member(struct json_object *o, const char *key, enum json_type type,
		  struct json_object **ret, struct reason *why)
{
	if (!json_object_object_get_ex(o, key, ret) || !json_object_is_type(*ret, type))
		return reason_set(why, EINVAL, "\"%s\" is missing or is no %s", key,
				  json_type_to_name(type));
	return 0;
}

static int take_text(struct json_object *o, const char *key, char *ret, size_t size,
		     struct reason *why)
{
	struct json_object *value;
	int err = member(o, key, json_type_string, &value, why);

	if (err)
		return err;
	if ((size_t)json_object_get_string_len(value) >= size ||
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return reason_set(why, EINVAL, "\"%s\" has %d bytes, at most %zu, and no NUL", key,
				  json_object_get_string_len(value), size - 1);
	strcpy(ret, json_object_get_string(value));
	return 0;
}

static int check_number(struct json_object *value, const char *key, struct bounds in,
			struct reason *why)
{
	int64_t n = json_object_get_int64(value);

	if (!json_object_is_type(value, json_type_int) || n < 0 || (uint64_t)n < in.min ||
	    (uint64_t)n > in.max)
		return reason_set(why, EINVAL, "\"%s\": %.40s is not between %llu and %llu", key,
				  value ? json_object_to_json_string(value) : "nothing",
				  (unsigned long long)in.min, (unsigned long long)in.max);
	return 0;
}

static int take_number(struct json_object *o, const char *key, struct bounds in, uint64_t *ret,
		       struct reason *why)
{
	struct json_object *value;
	int err = member(o, key, json_type_int, &value, why);

	if (!err)
		err = check_number(value, key, in, why);
	if (!err)
		*ret = (uint64_t)json_object_get_int64(value);
	return err;
}

/* A table of records of `bytes` each, at least one and at most `max`. */
static int take_table(struct json_object *o, const char *key, uint32_t bytes, uint32_t max,
		      uint8_t **ret, struct reason *why)
{
	struct json_object *value;
	cleanup_free uint8_t *table = NULL;
	size_t len;
	int err = member(o, key, json_type_string, &value, why);

	if (err)
		return err;
	len = (size_t)json_object_get_string_len(value) / 2;
	if (!len || len % bytes || len / bytes > max)
		return reason_set(why, EINVAL,
				  "\"%s\": %zu bytes are not 1 to %u records of %u bytes", key, len,
				  max, bytes);
	table = malloc(len);
	if (!table)
		return -ENOMEM;
	if (!hex_parse(json_object_get_string(value), '\0', table, len))
		return reason_set(why, EINVAL, "\"%s\" is not written in hexadecimal", key);
	*ret = take_ptr(&table);
	return (int)(len / bytes);
}

bool xen_version_parse(const char *text, uint32_t *ret_major, uint32_t *ret_minor)
{
	unsigned int major, minor;
	char end;

	if (sscanf(text, "%4u.%4u%c", &major, &minor, &end) < 2 || !major)
		return false;
	*ret_major = major;
	*ret_minor = minor;
	return true;
}

/* --- the parts --------------------------------------------------------------------------- */

static int parse_range(struct json_object *pair, uint64_t from, struct xen_range *ret,
		       struct reason *why)
{
	struct json_object *first, *count;
	int err;

	if (!json_object_is_type(pair, json_type_array) || json_object_array_length(pair) != 2)
		return reason_set(why, EINVAL, "\"ranges\": %.40s is no pair",
				  pair ? json_object_to_json_string(pair) : "nothing");
	first = json_object_array_get_idx(pair, 0);
	count = json_object_array_get_idx(pair, 1);
	err = check_number(first, "ranges: first", (struct bounds){ from, XEN_GFNS_MAX - 1 }, why);
	if (err)
		return err;
	ret->first = (uint64_t)json_object_get_int64(first);
	err = check_number(count, "ranges: count", (struct bounds){ 1, XEN_GFNS_MAX - ret->first },
			   why);
	if (!err)
		ret->count = (uint64_t)json_object_get_int64(count);
	return err;
}

/* They rise, so no page is there twice. More than libxl gives a domain is no domain's. */
static int parse_ranges(struct json_object *o, struct xen_description *d, struct reason *why)
{
	struct json_object *list;
	uint64_t most = (d->memory_mib + 64) << 8;
	size_t n;
	int err = member(o, "ranges", json_type_array, &list, why);

	if (err)
		return err;
	n = json_object_array_length(list);
	if (!n || n > XEN_RANGES_MAX)
		return reason_set(why, EINVAL, "%zu ranges of memory are not between 1 and %u", n,
				  XEN_RANGES_MAX);
	d->range = calloc(n, sizeof(*d->range));
	if (!d->range)
		return -ENOMEM;
	for (size_t i = 0; i < n && !err; i++) {
		struct xen_range *r = &d->range[i];

		err = parse_range(json_object_array_get_idx(list, i), d->nr_gfns, r, why);
		if (err)
			return err;
		d->nr_gfns = r->first + r->count;
		d->nr_pages += r->count;
	}
	d->nr_ranges = (uint32_t)n;
	if (d->nr_pages > most)
		return reason_set(why, EINVAL,
				  "%llu pages of memory, a domain of %llu MiB has at most %llu",
				  (unsigned long long)d->nr_pages,
				  (unsigned long long)d->memory_mib, (unsigned long long)most);
	return 0;
}

static int parse_nic(struct json_object *o, struct xen_nic *ret, struct reason *why)
{
	char mac[18];
	int err;

	if (!json_object_is_type(o, json_type_object))
		return reason_set(why, EINVAL, "a network card is no object");
	err = take_text(o, "mac", mac, sizeof(mac), why);
	if (!err && !hex_parse(mac, ':', ret->mac, sizeof(ret->mac)))
		err = reason_set(why, EINVAL, "mac %s is none", mac);
	if (!err)
		err = take_text(o, "bridge", ret->bridge, sizeof(ret->bridge), why);
	return err;
}

static int parse_nics(struct json_object *o, struct xen_description *d, struct reason *why)
{
	struct json_object *list;
	int err = member(o, "nics", json_type_array, &list, why);

	if (err)
		return err;
	if (json_object_array_length(list) > XEN_NICS_MAX)
		return reason_set(why, EINVAL, "%zu network cards, at most %u",
				  json_object_array_length(list), XEN_NICS_MAX);
	d->nr_nics = (uint32_t)json_object_array_length(list);
	for (uint32_t i = 0; i < d->nr_nics && !err; i++)
		err = parse_nic(json_object_array_get_idx(list, i), &d->nic[i], why);
	return err;
}

static int parse_disk(struct json_object *o, struct xen_disk *ret, struct reason *why)
{
	struct json_object *readonly;
	int err;

	if (!json_object_is_type(o, json_type_object))
		return reason_set(why, EINVAL, "a disk is no object");
	err = take_text(o, "path", ret->path, sizeof(ret->path), why);
	if (!err)
		err = member(o, "readonly", json_type_boolean, &readonly, why);
	if (!err)
		ret->readonly = json_object_get_boolean(readonly);
	return err;
}

static int parse_disks(struct json_object *o, struct xen_description *d, struct reason *why)
{
	struct json_object *list;
	int err = member(o, "disks", json_type_array, &list, why);

	if (err)
		return err;
	if (json_object_array_length(list) > XEN_DISKS_MAX)
		return reason_set(why, EINVAL, "%zu disks, at most %u",
				  json_object_array_length(list), XEN_DISKS_MAX);
	d->nr_disks = (uint32_t)json_object_array_length(list);
	for (uint32_t i = 0; i < d->nr_disks && !err; i++)
		err = parse_disk(json_object_array_get_idx(list, i), &d->disk[i], why);
	return err;
}

static int parse_xen(struct json_object *o, struct xen_description *d, struct reason *why)
{
	struct json_object *libxl;
	uint32_t major, minor;
	int err = take_text(o, "version", d->version, sizeof(d->version), why);

	if (!err && !xen_version_parse(d->version, &major, &minor))
		err = reason_set(why, EINVAL, "version %s of Xen is none", d->version);
	if (!err)
		err = member(o, "libxl", json_type_object, &libxl, why);
	if (err)
		return err;
	d->libxl = strdup(json_object_to_json_string_ext(libxl, JSON_C_TO_STRING_PLAIN));
	if (!d->libxl)
		return -ENOMEM;
	err = take_table(o, "cpuid", XEN_LEAF_BYTES, XEN_LEAVES_MAX, &d->cpuid, why);
	if (err < 0)
		return err;
	d->nr_leaves = (uint32_t)err;
	err = take_table(o, "msrs", XEN_MSR_BYTES, XEN_MSRS_MAX, &d->msrs, why);
	if (err < 0)
		return err;
	d->nr_msrs = (uint32_t)err;
	return parse_ranges(o, d, why);
}

static int parse(struct json_object *o, struct xen_description *d, struct reason *why)
{
	char platform[8], uuid[37];
	struct json_object *xen;
	uint64_t vcpus = 0;
	int err = take_text(o, "platform", platform, sizeof(platform), why);

	if (!err && strcmp(platform, "xen"))
		err = reason_set(why, EINVAL, "platform \"%s\" is not \"xen\"", platform);
	if (!err)
		err = take_text(o, "name", d->name, sizeof(d->name), why);
	if (!err && !d->name[0])
		err = reason_set(why, EINVAL, "the domain has no name");
	if (!err)
		err = take_text(o, "uuid", uuid, sizeof(uuid), why);
	if (!err && !hex_parse(uuid, '-', d->uuid, sizeof(d->uuid)))
		err = reason_set(why, EINVAL, "uuid %s is none", uuid);
	if (!err)
		err = take_number(o, "memory_mib", (struct bounds){ 1, XEN_MEMORY_MIB_MAX },
				  &d->memory_mib, why);
	if (!err)
		err = take_number(o, "vcpus", (struct bounds){ 1, XEN_VCPUS_MAX }, &vcpus, why);
	d->nr_vcpus = (uint32_t)vcpus;
	if (!err)
		err = parse_nics(o, d, why);
	if (!err)
		err = parse_disks(o, d, why);
	if (!err)
		err = member(o, "xen", json_type_object, &xen, why);
	return err ? err : parse_xen(xen, d, why);
}

int xen_description_parse(const char *text, struct xen_description *ret, struct reason *why)
{
	struct xen_description d = { 0 };
	struct json_object *o;
	int err;

	if (strlen(text) > XEN_TEXT_MAX)
		return reason_set(why, EINVAL, "a description of %zu bytes, at most %u",
				  strlen(text), XEN_TEXT_MAX);
	o = json_tokener_parse(text);
	if (json_object_is_type(o, json_type_object))
		err = parse(o, &d, why);
	else
		err = reason_set(why, EINVAL, "the description is no JSON object");
	json_object_put(o);
	if (err)
		xen_description_free(&d);
	else
		*ret = d;
	return err;
}

int xen_description_read(const char *path, struct xen_description *ret, struct reason *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	struct stat st;
	int err;

	if (fd < 0 || fstat(fd, &st) < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	if (st.st_size > XEN_TEXT_MAX)
		return reason_set(why, EINVAL, "%s has %lld bytes, at most %u", path,
				  (long long)st.st_size, XEN_TEXT_MAX);
	text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	err = file_read_at(fd, text, (size_t)st.st_size, 0);
	if (err)
		return reason_set(why, -err, "%s: %s", path, strerror(-err));
	return xen_description_parse(text, ret, why);
}

void xen_description_free(struct xen_description *d)
{
	free(d->libxl);
	free(d->cpuid);
	free(d->msrs);
	free(d->range);
	*d = (struct xen_description){ 0 };
}

/* --- values to text ---------------------------------------------------------------------- */

static void add_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

static void add_number(struct json_object *o, const char *key, uint64_t n)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

/* Bytes in hexadecimal, a separator after those that `after` has a bit for. */
static void put_hex(char *to, const uint8_t *bytes, size_t n, char separator, uint32_t after)
{
	for (size_t i = 0; i < n; i++) {
		to += sprintf(to, "%02x", bytes[i]);
		if (i < 32 && i + 1 < n && (after >> i & 1))
			*to++ = separator;
	}
}

static int add_table(struct json_object *o, const char *key, const uint8_t *bytes, size_t len)
{
	cleanup_free char *text = malloc(2 * len + 1);

	if (!text)
		return -ENOMEM;
	put_hex(text, bytes, len, 0, 0);
	add_text(o, key, text);
	return 0;
}

static void add_nics(struct json_object *o, const struct xen_description *d)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t i = 0; i < d->nr_nics; i++) {
		struct json_object *nic = json_object_new_object();
		char mac[18];

		put_hex(mac, d->nic[i].mac, sizeof(d->nic[i].mac), ':', UINT32_MAX);
		add_text(nic, "mac", mac);
		add_text(nic, "bridge", d->nic[i].bridge);
		json_object_array_add(list, nic);
	}
	json_object_object_add(o, "nics", list);
}

static void add_disks(struct json_object *o, const struct xen_description *d)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t i = 0; i < d->nr_disks; i++) {
		struct json_object *disk = json_object_new_object();

		add_text(disk, "path", d->disk[i].path);
		json_object_object_add(disk, "readonly",
				       json_object_new_boolean(d->disk[i].readonly));
		json_object_array_add(list, disk);
	}
	json_object_object_add(o, "disks", list);
}

static void add_ranges(struct json_object *o, const struct xen_description *d)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t i = 0; i < d->nr_ranges; i++) {
		struct json_object *pair = json_object_new_array();

		json_object_array_add(pair, json_object_new_int64((int64_t)d->range[i].first));
		json_object_array_add(pair, json_object_new_int64((int64_t)d->range[i].count));
		json_object_array_add(list, pair);
	}
	json_object_object_add(o, "ranges", list);
}

static int add_xen(struct json_object *o, const struct xen_description *d)
{
	struct json_object *xen = json_object_new_object(), *libxl = json_tokener_parse(d->libxl);

	json_object_object_add(o, "xen", xen);
	if (!json_object_is_type(libxl, json_type_object)) {
		json_object_put(libxl);
		return -EBADMSG;
	}
	add_text(xen, "version", d->version);
	json_object_object_add(xen, "libxl", libxl);
	add_ranges(xen, d);
	if (add_table(xen, "cpuid", d->cpuid, (size_t)d->nr_leaves * XEN_LEAF_BYTES))
		return -ENOMEM;
	return add_table(xen, "msrs", d->msrs, (size_t)d->nr_msrs * XEN_MSR_BYTES);
}

int xen_description_write(const struct xen_description *d, char **ret)
{
	struct json_object *o = json_object_new_object();
	char uuid[37];
	int err;

	put_hex(uuid, d->uuid, sizeof(d->uuid), '-', 1u << 3 | 1u << 5 | 1u << 7 | 1u << 9);
	add_text(o, "platform", "xen");
	add_text(o, "name", d->name);
	add_text(o, "uuid", uuid);
	add_number(o, "memory_mib", d->memory_mib);
	add_number(o, "vcpus", d->nr_vcpus);
	add_nics(o, d);
	add_disks(o, d);
	err = add_xen(o, d);
	if (!err) {
		*ret = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
		err = *ret ? 0 : -ENOMEM;
	}
	json_object_put(o);
	return err;
}
