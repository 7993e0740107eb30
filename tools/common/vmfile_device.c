/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/common/vmfile_device.h"

#include <stdio.h>
#include <sys/random.h>

#include "disk-replica/drbd.h"
#include "hypervisor/control/control.h"
#include "tools/common/json.h"
#include "tools/common/vmfile.h"

static int get_list(XLU_Config *cfg, const char *key, unsigned int max, XLU_ConfigList **ret,
		    int *ret_n, struct reason *why)
{
	int n = 0, e = xlu_cfg_get_list(cfg, key, ret, &n, 1);

	if (e == ESRCH) {
		*ret_n = 0;
		return 0;
	}
	if (e)
		return reason_set(why, EINVAL, "\"%s\" is one value, expected a list: [ '...' ]",
				  key);
	if ((unsigned int)n > max)
		return reason_set(why, EINVAL, "\"%s\" has %d entries, at most %u", key, n, max);
	*ret_n = n;
	return 0;
}

/* Of a file or device, or of the socket of its server; or the name of a resource of DRBD. */
static bool is_path(const char *text)
{
	size_t prefix = strlen(CONTROL_NBD_PREFIX);
	const char *resource = text ? drbd_resource(text) : NULL;

	if (resource)
		return drbd_name_ok(resource);
	if (text && !strncmp(text, CONTROL_NBD_PREFIX, prefix))
		text += prefix;
	return text && text[0] == '/';
}

static int check_disk(const libxl_device_disk *d, const char *spec, struct json_object *disks,
		      struct reason *why)
{
	if (d->format != LIBXL_DISK_FORMAT_RAW)
		return reason_set(why, EINVAL, "disk '%.80s': format %s, expected raw", spec,
				  libxl_disk_format_to_string(d->format) ?: "unknown");
	if (d->is_cdrom)
		return reason_set(why, EINVAL, "disk '%.80s': a CD-ROM; only disks are possible",
				  spec);
	if (!is_path(d->pdev_path) || strlen(d->pdev_path) > VMFILE_PATH_MAX)
		return reason_set(why, EINVAL,
				  "disk '%.80s': expected an absolute path of at most %u bytes, or "
				  "target=" CONTROL_NBD_PREFIX "/SOCKET, or "
				  "target=" CONTROL_DRBD_PREFIX "RESOURCE",
				  spec, VMFILE_PATH_MAX);
	for (size_t i = 0; i < json_object_array_length(disks); i++)
		if (!strcmp(json_text(json_object_array_get_idx(disks, i), "path", ""),
			    d->pdev_path))
			return reason_set(why, EINVAL, "disk %.100s is given twice", d->pdev_path);
	return 0;
}

static int take_disk(XLU_Config *cfg, const char *spec, struct json_object *disks,
		     struct reason *why)
{
	struct json_object *o;
	libxl_device_disk d;
	int r;

	libxl_device_disk_init(&d);
	if (xlu_disk_parse(cfg, 1, &spec, &d))
		r = reason_set(why, EINVAL,
			       "disk '%.80s' is not understood, expected such as "
			       "'/path/db.img,raw,xvda,rw'",
			       spec);
	else
		r = check_disk(&d, spec, disks, why);
	if (!r) {
		o = json_object_new_object();
		json_add_string(o, "path", d.pdev_path);
		json_add_bool(o, "readonly", !d.readwrite);
		json_object_array_add(disks, o);
	}
	libxl_device_disk_dispose(&d);
	return r;
}

int vmfile_take_disks(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	struct json_object *disks = json_object_new_array();
	XLU_ConfigList *list = NULL;
	int n, r = get_list(cfg, "disk", VMFILE_MAX_DISKS, &list, &n, why);

	json_add(o, "disks", disks);
	for (int i = 0; !r && i < n; i++) {
		const char *spec = xlu_cfg_get_listitem(list, i);

		r = spec ? take_disk(cfg, spec, disks, why)
			 : reason_set(why, EINVAL, "\"disk\": entry %d is no text", i + 1);
	}
	return r;
}

static bool parse_mac(const char *s, uint8_t ret[6])
{
	int used = 0;

	return sscanf(s, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &ret[0], &ret[1], &ret[2],
		      &ret[3], &ret[4], &ret[5], &used) == 6 &&
	       used == 17 && !s[17];
}

static int add_mac(struct json_object *nic, const char *mac, struct reason *why)
{
	uint8_t b[6];
	char text[18];

	if (!mac) {
		b[0] = 0x52;
		b[1] = 0x54;
		b[2] = 0x00;
		if (getrandom(b + 3, 3, 0) != 3)
			return reason_set(why, EIO, "no random numbers");
	} else if (!parse_mac(mac, b) || b[0] & 1) {
		return reason_set(why, EINVAL,
				  "vif: mac=%.40s, expected a unicast address such "
				  "as 52:54:00:77:01:00",
				  mac);
	}
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
		 b[5]);
	json_add_string(nic, "mac", text);
	return 0;
}

/* One key=value of a vif; blanks around it are of no meaning. */
static int take_vif_word(char *word, const char **ret_mac, const char **ret_bridge,
			 struct reason *why)
{
	char *value;

	word += strspn(word, " \t");
	word[strcspn(word, " \t")] = '\0';
	if (!*word)
		return 0;
	value = strchr(word, '=');
	if (!value)
		return reason_set(why, EINVAL, "vif: \"%.60s\", expected key=value", word);
	*value++ = '\0';
	if (!strcmp(word, "mac"))
		*ret_mac = value;
	else if (!strcmp(word, "bridge"))
		*ret_bridge = value;
	else if (strcmp(word, "model") && strcmp(word, "type"))
		return reason_set(why, EINVAL, "vif: unknown key \"%.60s\", expected mac or bridge",
				  word);
	return 0;
}

static int take_vif(const char *spec, struct json_object *nics, struct reason *why)
{
	cleanup_free char *copy = strdup(spec);
	cleanup_json struct json_object *nic = json_object_new_object();
	const char *mac = NULL, *bridge = NULL;
	char *rest = copy;
	int r = 0;

	while (!r && rest)
		r = take_vif_word(strsep(&rest, ","), &mac, &bridge, why);
	if (!r)
		r = add_mac(nic, mac, why);
	if (!r && bridge && (!*bridge || strlen(bridge) > 15 || strchr(bridge, '/')))
		r = reason_set(why, EINVAL,
			       "vif: bridge=%.40s, expected a name of 1 to 15 "
			       "characters",
			       bridge);
	if (r < 0)
		return r;
	if (bridge)
		json_add_string(nic, "bridge", bridge);
	json_object_array_add(nics, nic);
	nic = NULL;
	return 0;
}

static int check_macs(struct json_object *nics, struct reason *why)
{
	for (size_t i = 0; i < json_object_array_length(nics); i++) {
		const char *a = json_text(json_object_array_get_idx(nics, i), "mac", "");

		for (size_t j = 0; j < i; j++)
			if (!strcmp(a, json_text(json_object_array_get_idx(nics, j), "mac", "")))
				return reason_set(why, EINVAL, "vif: mac %s is given twice", a);
	}
	return 0;
}

int vmfile_take_nics(XLU_Config *cfg, struct json_object *o, struct reason *why)
{
	struct json_object *nics = json_object_new_array();
	XLU_ConfigList *list = NULL;
	int n, r = get_list(cfg, "vif", VMFILE_MAX_NICS, &list, &n, why);

	json_add(o, "nics", nics);
	for (int i = 0; !r && i < n; i++) {
		const char *spec = xlu_cfg_get_listitem(list, i);

		r = spec ? take_vif(spec, nics, why)
			 : reason_set(why, EINVAL, "\"vif\": entry %d is no text", i + 1);
	}
	return r ?: check_macs(nics, why);
}
