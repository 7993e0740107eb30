/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/salvage.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "disk-replica/log_file.h"
#include "disk-replica/marker.h"
#include "disk-replica/recover.h"
#include "tools/common/json.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"

/* vm_check_config() has passed it. */
static void read_uuid(const char *text, uint8_t ret[16])
{
	unsigned int n = 0;

	memset(ret, 0, 16);
	for (; *text && n < 32; text++) {
		const char *digits = "0123456789abcdef", *at = strchr(digits, *text | 0x20);

		if (*text == '-' || !at)
			continue;
		ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | (at - digits));
		n++;
	}
}

static unsigned int list_disks(struct json_object *config, struct disk_info ret[DISK_MAX])
{
	struct json_object *list = json_member(config, "disks");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	n = MIN(n, (size_t)DISK_MAX);
	for (size_t i = 0; i < n; i++)
		snprintf(ret[i].path, sizeof(ret[i].path), "%s",
			 json_text(json_object_array_get_idx(list, i), "path", ""));
	return (unsigned int)n;
}

static int recover(struct daemon *d, struct json_object *config, struct recovered *ret,
		   struct reason *why)
{
	const char *name = json_text(config, "name", "");
	struct disk_info disks[DISK_MAX] = { 0 };
	struct path dir = path_state_dir(&d->conf, name);
	struct recover_config c = { .state_dir = dir.text, .disks = disks };
	int r;

	c.nr_disks = list_disks(config, disks);
	read_uuid(json_text(config, "uuid", ""), c.uuid);
	r = recover_disks(&c, ret, why);
	if (r < 0)
		events_add(d, name, "disks.not-recovered", "%s", why->text);
	else if (ret->epochs)
		events_add(d, name, "disks.recovered",
			   "%llu epochs with %llu changes applied from the log, up to epoch %llu",
			   (unsigned long long)ret->epochs, (unsigned long long)ret->changes,
			   (unsigned long long)ret->epoch);
	return r;
}

bool salvage_disks(struct daemon *d, struct json_object *config, char *ret, size_t room)
{
	const char *name = json_text(config, "name", "");
	struct apply_marker marker;
	struct recovered done;
	struct reason why = { "" };
	char when[32];
	time_t seconds;
	struct tm tm;
	int r;

	if (apply_marker_read(path_state_dir(&d->conf, name).text, &marker) == -ENOENT)
		return false;
	r = recover(d, config, &done, &why);
	if (!r && done.consistent) {
		seconds = (time_t)(done.wall_ns / NS_PER_S);
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &tm));
		snprintf(ret, room,
			 "The disks here are a standby's, exactly as they were at the end of epoch "
			 "%llu, generation %llu (recovered %s); what came after is not in them",
			 (unsigned long long)done.epoch, (unsigned long long)done.generation, when);
	} else {
		snprintf(ret, room,
			 "The disks here are a standby's, behind the VM's own or between two epochs"
			 "%s%.150s: check the filesystems",
			 r ? "; " : "", r ? why.text : "");
	}
	return true;
}

void salvage_forget(struct daemon *d, const char *vm)
{
	struct path dir = path_state_dir(&d->conf, vm);
	struct log_file *f;
	int r = log_file_open(dir.text, &f, NULL);

	if (r == -EBUSY)
		return;
	log_file_remove(dir.text);
	if (!r)
		log_file_close(f);
}
