/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/resync.h"

#include <json-c/json.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/bitmap.h"
#include "base/fault.h"
#include "disk-replica/regions.h"
#include "disk-replica/sources.h"

/* --- pollux-vmm ----------------------------------------------------------------------- */

/* `into`: of the disk's words, or NULL when only the token is wanted. */
static int read_disk(struct control *control, unsigned int disk, uint64_t bytes, uint64_t *into,
		     uint8_t ret_token[REGION_TOKEN_BYTES])
{
	uint8_t request[2];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = { .op = CONTROL_TRACK_READ,
				     .request = request,
				     .request_len = sizeof(request) };
	struct cursor reply;
	uint64_t of, words;
	int err;

	cursor_put_u16(&put, (uint16_t)disk);
	err = control_call(control, &call, &reply);
	if (err)
		return err;
	cursor_get_bytes(&reply, ret_token, REGION_TOKEN_BYTES);
	of = cursor_get_u64(&reply);
	words = cursor_get_u64(&reply);
	if (!cursor_ok(&reply) || of != bytes || words != bitmap_words(region_count(bytes)))
		return -EPROTO;
	for (uint64_t i = 0; i < words; i++) {
		uint64_t word = cursor_get_u64(&reply);

		if (into)
			into[i] = word;
	}
	return cursor_done(&reply) ? 0 : -EPROTO;
}

int resync_read_sets(struct control *control, const struct disk_info *disks, unsigned int nr_disks,
		     struct region_sets *ret)
{
	uint8_t token[REGION_TOKEN_BYTES];
	uint64_t bytes[DISK_MAX] = { 0 };
	struct region_sets s;
	int err;

	for (unsigned int i = 0; i < nr_disks; i++)
		bytes[i] = disks[i].bytes;
	err = region_sets_open(&s, bytes, nr_disks);
	for (unsigned int i = 0; i < nr_disks && !err; i++)
		err = read_disk(control, i, bytes[i], s.bits[i], token);
	if (err) {
		region_sets_close(&s);
		return err;
	}
	*ret = s;
	return 0;
}

int resync_mark(struct control *control, const struct region_sets *s, unsigned int disk,
		struct reason *why)
{
	size_t words = bitmap_words(region_count(s->disk_bytes[disk]));
	size_t len = 2 + 8 + words * sizeof(uint64_t);
	cleanup_free uint8_t *request = malloc(len);
	struct cursor put = cursor_over(request, len);
	struct control_call call = {
		.op = CONTROL_TRACK_MARK, .request = request, .request_len = len, .why = why
	};

	if (!request)
		return -ENOMEM;
	cursor_put_u16(&put, (uint16_t)disk);
	cursor_put_u64(&put, words);
	for (size_t i = 0; i < words; i++)
		cursor_put_u64(&put, s->bits[disk][i]);
	assert(cursor_done(&put));
	return control_call(control, &call, NULL);
}

/* fd -1: off. */
static int set_track(struct control *control, int fd, struct reason *why)
{
	uint8_t on = fd >= 0;
	struct control_call call = { .op = CONTROL_DISK_TRACK,
				     .request = &on,
				     .request_len = 1,
				     .request_fds = &fd,
				     .nr_request_fds = on,
				     .why = why };

	return control_call(control, &call, NULL);
}

int resync_count_here(struct control *control, const char *state_dir, struct reason *why)
{
	int fd = regions_open_fd(state_dir);
	int err = fd < 0 ? reason_set(why, -fd, "no region file: %s", strerror(-fd))
			 : set_track(control, fd, why);

	if (fd >= 0)
		close(fd);
	if (err)
		(void)regions_remove(state_dir);
	return err;
}

/* --- the offer ------------------------------------------------------------------------ */

static bool any_served(const struct resync_config *config)
{
	for (unsigned int i = 0; i < config->nr_disks; i++)
		if (sources_is_served(config->disks[i].path))
			return true;
	return false;
}

void resync_offer(const struct resync_config *config, struct resync_offer *ret)
{
	struct resync_offer o = { .served = any_served(config) };
	struct control *control = NULL;
	int err = config->nr_disks ? control_connect(config->run_dir, &control) : -ENODATA;

	if (!err && o.served)
		err = -ENOTSUP;
	if (!err)
		err = read_disk(control, 0, config->disks[0].bytes, NULL, o.token);
	o.related = !err;
	if (err == -EIO)
		snprintf(o.reason, sizeof(o.reason), "the region file cannot be written");
	else if (o.served)
		snprintf(o.reason, sizeof(o.reason),
			 "a disk is served over NBD, and nobody keeps count of its writes");
	else if (err)
		snprintf(o.reason, sizeof(o.reason),
			 "no token: nobody has kept count of what was written here");
	if (getrandom(o.fresh, sizeof(o.fresh), 0) != sizeof(o.fresh))
		memset(o.fresh, 0, sizeof(o.fresh));
	control_close(control);
	*ret = o;
}

void resync_put_offer(const struct resync_offer *offer, struct json_object *request)
{
	char token[REGION_TOKEN_TEXT], fresh[REGION_TOKEN_TEXT];

	region_token_to_text(offer->token, token);
	region_token_to_text(offer->fresh, fresh);
	json_object_object_add(request, "disk_token",
			       offer->related ? json_object_new_string(token) : NULL);
	json_object_object_add(request, "disk_token_new", json_object_new_string(fresh));
}

/* --- the answer ----------------------------------------------------------------------- */

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : NULL;
}

/* What the other host has written: ours, too, before anything is copied. */
static int merge(struct control *control, const struct resync_config *config, const char *text,
		 struct reason *why)
{
	struct region_sets theirs;
	int err = resync_read_sets(control, config->disks, config->nr_disks, &theirs);

	if (err)
		return reason_set(why, -err, "the regions cannot be read: %s", strerror(-err));
	err = region_sets_from_text(&theirs, text, why);
	for (unsigned int i = 0; i < config->nr_disks && !err; i++)
		err = resync_mark(control, &theirs, i, why);
	region_sets_close(&theirs);
	if (!err && fault_at("resync.marked"))
		err = reason_set(why, EIO, "fault point resync.marked");
	return err;
}

/* All may differ, and the token is new. */
static int begin_anew(struct control *control, const struct resync_config *config,
		      const struct resync_offer *offer, struct reason *why)
{
	struct region_header like = { .generation = config->generation };
	int fd, err;

	memcpy(like.token, offer->fresh, sizeof(like.token));
	snprintf(like.peer, sizeof(like.peer), "%s", config->peer);
	err = regions_create(config->state_dir, &like, config->disks, config->nr_disks, true);
	if (err) {
		(void)regions_remove(config->state_dir);
		set_track(control, -1, NULL);
		return reason_set(why, -err, "the region file cannot be made: %s", strerror(-err));
	}
	fd = regions_open_fd(config->state_dir);
	if (fd < 0)
		return reason_set(why, -fd, "the region file: %s", strerror(-fd));
	err = set_track(control, fd, why);
	close(fd);
	if (!err && fault_at("resync.marked"))
		err = reason_set(why, EIO, "fault point resync.marked");
	if (err) {
		(void)regions_remove(config->state_dir);
		set_track(control, -1, NULL);
	}
	return err;
}

void resync_settle(const struct resync_config *config, const struct resync_offer *offer,
		   struct json_object *reply, struct resync *ret)
{
	struct resync r = { 0 };
	struct control *control = NULL;
	struct json_object *answer = NULL, *v;
	struct reason why = { 0 };
	const char *text;
	int err;

	snprintf(r.reason, sizeof(r.reason), "%s", offer->reason);
	*ret = r;
	if (!config->nr_disks || offer->served)
		return;
	json_object_object_get_ex(reply, "resync", &answer);
	text = text_of(answer, "reason");
	snprintf(r.reason, sizeof(r.reason), "%s",
		 !offer->related ? offer->reason
		 : text		 ? text
				 : "the other host does not say");
	r.partial = offer->related && answer && json_object_object_get_ex(answer, "same", &v) &&
		    json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
	text = text_of(answer, "regions");
	err = fault_at("resync.settle") ? -EIO : control_connect(config->run_dir, &control);
	if (!err && r.partial)
		err = text ? merge(control, config, text, &why) : -EPROTO;
	else if (!err)
		err = begin_anew(control, config, offer, &why);
	r.tracked = !err;
	if (err) {
		r.partial = false;
		snprintf(r.reason, sizeof(r.reason), "%.199s",
			 why.text[0] ? why.text : strerror(-err));
	}
	control_close(control);
	*ret = r;
}
