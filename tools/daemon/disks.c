/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/disks.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "disk-replica/drbd.h"
#include "disk-replica/marker.h"
#include "disk-replica/regions.h"
#include "disk-replica/sources.h"
#include "tools/common/json.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"

struct disks {
	struct disk_info info[DISK_MAX];
	unsigned int nr;
};

static int size_of(const char *path, uint64_t *ret)
{
	const char *resource = drbd_resource(path);
	cleanup_close int fd = resource ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (resource)
		return drbd_bytes(resource, ret, NULL);
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret) ? -errno : 0;
	*ret = (uint64_t)st.st_size;
	return 0;
}

static int look_up(const char *path, struct disk_info *ret, struct reason *why)
{
	int err;

	if (sources_is_served(path))
		return sources_look_up(path, ret, why);
	snprintf(ret->path, sizeof(ret->path), "%s", path);
	err = size_of(path, &ret->bytes);
	return err ? reason_set(why, -err, "disk %s: %s", path, strerror(-err)) : 0;
}

static int list_disks(struct json_object *config, struct disks *ret, struct reason *why)
{
	struct json_object *list = json_member(config, "disks");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	ret->nr = 0;
	if (n > DISK_MAX)
		return reason_set(why, EINVAL, "%zu disks, at most %u", n, DISK_MAX);
	for (size_t i = 0; i < n; i++) {
		struct disk_info *disk = &ret->info[i];
		const char *path = json_text(json_object_array_get_idx(list, i), "path", "");
		int err;

		err = look_up(path, disk, why);
		if (err)
			return err;
		ret->nr++;
	}
	return 0;
}

static int check_sizes(const struct region_header *h, const struct disks *disks, struct reason *why)
{
	if (h->nr_disks != disks->nr)
		return reason_set(why, ESTALE, "there are %u disks now, there were %u", disks->nr,
				  h->nr_disks);
	for (unsigned int i = 0; i < disks->nr; i++)
		if (h->disk_bytes[i] != disks->info[i].bytes)
			return reason_set(why, ESTALE, "disk %s has %llu bytes, it had %llu",
					  disks->info[i].path,
					  (unsigned long long)disks->info[i].bytes,
					  (unsigned long long)h->disk_bytes[i]);
	return 0;
}

/* The disks are a standby's: the marker must go by that token, too, and know them. */
static int check_marker(const struct apply_marker *m, const struct disks *disks,
			const uint8_t token[REGION_TOKEN_BYTES], struct reason *why)
{
	if (memcmp(m->token, token, REGION_TOKEN_BYTES))
		return reason_set(why, ESTALE, "the disks were made a copy of something else");
	/* Space that ran out loses nothing that was there; any other error may have. */
	if (m->state == APPLY_FAILED && m->error != ENOSPC)
		return reason_set(why, ESTALE, "a disk has failed: %s", strerrordesc_np(m->error));
	return regions_check_disks(&m->stamp, disks->info, disks->nr, why);
}

/* 0: what lies in `dir` is, together with `ret`, a copy that goes by the token. */
static int believe(const char *dir, const struct disks *disks,
		   const uint8_t token[REGION_TOKEN_BYTES], struct regions *ret, struct reason *why)
{
	struct apply_marker marker;
	struct regions own;
	int found = apply_marker_read(dir, &marker), err;

	if (found && found != -ENOENT)
		return reason_set(why, ESTALE, "the marker of the standby's disks is unreadable");
	err = regions_read(dir, disks->info, disks->nr, &own, why);
	if (err)
		return err;
	if (memcmp(own.header.token, token, REGION_TOKEN_BYTES))
		err = reason_set(why, ESTALE, "another token: the disks were last a copy of %s",
				 own.header.peer[0] ? own.header.peer : "something else");
	else
		err = check_sizes(&own.header, disks, why);
	if (!err)
		err = found ? regions_check(&own, disks->info, disks->nr, why)
			    : check_marker(&marker, disks, token, why);
	if (err)
		regions_close(&own);
	else
		*ret = own;
	return err;
}

/* --- being asked ---------------------------------------------------------------------- */

/* The text of what this host wrote, or NULL with the reason. */
static char *own_text(const char *dir, struct json_object *request,
		      const uint8_t token[REGION_TOKEN_BYTES], struct reason *why)
{
	struct disks *disks = calloc(1, sizeof(*disks));
	struct regions own;
	char *text = NULL;
	int err = disks ? list_disks(json_member(request, "config"), disks, why) : -ENOMEM;

	if (!err)
		err = believe(dir, disks, token, &own, why);
	if (!err) {
		err = region_sets_to_text(&own.sets, &text);
		regions_close(&own);
	}
	free(disks);
	return err ? NULL : text;
}

void disks_answer(struct daemon *d, struct json_object *request, struct json_object *reply,
		  char ret_token[REGION_TOKEN_TEXT])
{
	const char *asked = json_text(request, "disk_token", "");
	const char *fresh = json_text(request, "disk_token_new", "");
	struct path dir = path_state_dir(&d->conf, json_text(request, "vm", ""));
	struct json_object *o = json_object_new_object();
	struct reason why = { "the other host names no token" };
	uint8_t token[REGION_TOKEN_BYTES];
	cleanup_free char *text = NULL;

	*ret_token = '\0';
	if (region_token_from_text(asked, token))
		text = own_text(dir.text, request, token, &why);
	if (text)
		snprintf(ret_token, REGION_TOKEN_TEXT, "%s", asked);
	else if (region_token_from_text(fresh, token))
		snprintf(ret_token, REGION_TOKEN_TEXT, "%s", fresh);
	json_add_bool(o, "same", text);
	json_add_string(o, "reason", text ? NULL : why.text);
	json_add_string(o, "regions", text);
	json_add(reply, "resync", o);
}

/* --- running -------------------------------------------------------------------------- */

/* Its server is to count from before the VM's first write. Without it the disk is copied whole. */
static void count_served(struct daemon *d, struct json_object *config, const char *dir, int disk)
{
	const char *name = json_text(
		json_object_array_get_idx(json_member(config, "disks"), (size_t)disk), "path", "");
	struct reason why = { "" };

	if (!sources_track(name, regions_open_fd(dir, disk), &why))
		return;
	events_add(d, json_text(config, "name", ""), "regions.dropped",
		   "the next copy of %s is a full one: %s", name, why.text);
	(void)regions_remove_served(dir, disk);
}

static int go_on(struct daemon *d, struct json_object *config, const char *dir,
		 const struct disks *disks, struct reason *why)
{
	struct apply_marker marker;
	struct regions own;
	int err = regions_read(dir, disks->info, disks->nr, &own, why);

	if (err)
		return err;
	if (apply_marker_read(dir, &marker) != -ENOENT)
		err = reason_set(why, ESTALE, "the disks were a standby's");
	if (!err)
		err = check_sizes(&own.header, disks, why);
	if (!err)
		err = regions_check(&own, disks->info, disks->nr, why);
	if (!err)
		err = regions_stamp_open(dir);
	for (unsigned int i = 0; i < disks->nr && !err; i++)
		if (disks->info[i].served)
			count_served(d, config, dir, (int)i);
	regions_close(&own);
	return err;
}

bool disks_go_on(struct daemon *d, struct json_object *config, char *ret_path, size_t room)
{
	const char *vm = json_text(config, "name", "");
	struct path dir = path_state_dir(&d->conf, vm);
	cleanup_free struct disks *disks = calloc(1, sizeof(*disks));
	cleanup_close int fd = regions_open_fd(dir.text, REGIONS_OWN);
	struct reason why = { "" };
	int err;

	if (!disks || fd == -ENOENT)
		return false;
	err = list_disks(config, disks, &why);
	if (!err)
		err = go_on(d, config, dir.text, disks, &why);
	snprintf(ret_path, room, "%s/%s", dir.text, REGIONS_NAME);
	if (!err)
		return true;
	regions_remove(dir.text);
	events_add(d, vm, "regions.dropped", "the next copy of the disks is a full one: %s",
		   why.text);
	return false;
}
