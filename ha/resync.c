/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/resync.h"

#include <json-c/json.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/bitmap.h"
#include "base/fault.h"
#include "disk-replica/regions.h"
#include "disk-replica/sources.h"
#include "hypervisor/control/control.h"

/* --- who counts ----------------------------------------------------------------------- */

/* `into`: of the disk's words, or NULL when only the token is wanted. */
static int read_disk(const struct sources *s, unsigned int disk, uint64_t *into,
		     uint8_t ret_token[REGION_TOKEN_BYTES])
{
	uint8_t request[2];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = { .op = CONTROL_TRACK_READ,
				     .request = request,
				     .request_len = sizeof(request) };
	struct cursor reply;
	uint64_t bytes = s->named[disk].bytes, of, words;
	int err;

	cursor_put_u16(&put, s->local[disk]);
	err = control_call(s->control[s->source[disk]], &call, &reply);
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

/* That of pollux-vmm; if every disk is served, that of whoever counts: a server that was started
 * anew does not. */
static int read_token(const struct sources *s, uint8_t ret[REGION_TOKEN_BYTES])
{
	bool own = sources_has_disk(s, 0);
	int err = -ENODATA;

	for (unsigned int i = 0; i < s->nr_disks && err; i++)
		if (!own || !s->named[i].served)
			err = read_disk(s, i, NULL, ret);
	return err;
}

/* False: its server does not count, or by another token, so that all of it may differ. */
static bool is_counted(const struct sources *s, unsigned int disk,
		       const uint8_t token[REGION_TOKEN_BYTES])
{
	uint8_t own[REGION_TOKEN_BYTES];

	return !s->named[disk].served ||
	       (!read_disk(s, disk, NULL, own) && !memcmp(own, token, sizeof(own)));
}

int resync_read_sets(const struct sources *s, struct region_sets *ret)
{
	uint8_t token[REGION_TOKEN_BYTES], own[REGION_TOKEN_BYTES];
	uint64_t bytes[DISK_MAX] = { 0 };
	struct region_sets sets;
	int err = read_token(s, token);

	if (err)
		return err;
	for (unsigned int i = 0; i < s->nr_disks; i++)
		bytes[i] = s->named[i].bytes;
	err = region_sets_open(&sets, bytes, s->nr_disks);
	if (err)
		return err;
	for (unsigned int i = 0; i < s->nr_disks && !err; i++) {
		if (is_counted(s, i, token))
			err = read_disk(s, i, sets.bits[i], own);
		else
			region_sets_fill_disk(&sets, i);
	}
	if (err)
		region_sets_close(&sets);
	else
		*ret = sets;
	return err;
}

int resync_mark(const struct sources *s, const struct region_sets *sets, unsigned int disk,
		struct reason *why)
{
	size_t words = bitmap_words(region_count(sets->disk_bytes[disk]));
	size_t len = 2 + 8 + words * sizeof(uint64_t);
	cleanup_free uint8_t *request = malloc(len);
	struct cursor put = cursor_over(request, len);
	struct control_call call = {
		.op = CONTROL_TRACK_MARK, .request = request, .request_len = len, .why = why
	};

	if (!request)
		return -ENOMEM;
	cursor_put_u16(&put, s->local[disk]);
	cursor_put_u64(&put, words);
	for (size_t i = 0; i < words; i++)
		cursor_put_u64(&put, sets->bits[disk][i]);
	assert(cursor_done(&put));
	return control_call(s->control[s->source[disk]], &call, NULL);
}

void resync_rotate(const struct sources *s)
{
	for (unsigned int i = 0; i < s->nr; i++)
		if (sources_has_disk(s, i))
			control_simple(s->control[i], CONTROL_TRACK_ROTATE);
}

/* `disk`: a served one, or REGIONS_OWN. */
static int count(struct control *control, const char *state_dir, int disk, struct reason *why)
{
	cleanup_close int fd = regions_open_fd(state_dir, disk);

	return fd < 0 ? reason_set(why, -fd, "no region file: %s", strerror(-fd))
		      : sources_count(control, fd, why);
}

static int count_served(const struct sources *s, const char *state_dir, struct reason *why)
{
	int err = 0;

	for (unsigned int i = 0; i < s->nr_disks && !err; i++)
		if (s->named[i].served)
			err = count(s->control[s->source[i]], state_dir, (int)i, why);
	return err;
}

static void count_no_more(const struct sources *s, const char *state_dir)
{
	(void)regions_remove(state_dir);
	for (unsigned int i = 0; i < s->nr; i++)
		if (sources_has_disk(s, i))
			(void)sources_count(s->control[i], -1, NULL);
}

int resync_count_here(struct control *control, const char *state_dir, struct reason *why)
{
	cleanup_free struct sources *s = calloc(1, sizeof(*s));
	int err = s ? sources_open(control, s, why) : -ENOMEM;

	if (err)
		return err;
	if (sources_has_disk(s, 0))
		err = count(control, state_dir, REGIONS_OWN, why);
	if (!err)
		err = count_served(s, state_dir, why);
	if (err)
		count_no_more(s, state_dir);
	sources_close(s);
	return err;
}

/* --- the offer ------------------------------------------------------------------------ */

/* A server goes on counting whatever becomes of its VM, which may be another by now. */
static int confirm(const struct resync_config *config, const uint8_t token[REGION_TOKEN_BYTES])
{
	struct regions own;
	int err = regions_read(config->state_dir, NULL, 0, &own, NULL);

	if (err)
		return -ENODATA;
	err = memcmp(own.header.token, token, REGION_TOKEN_BYTES) ? -ENODATA : 0;
	regions_close(&own);
	return err;
}

void resync_offer(const struct resync_config *config, struct resync_offer *ret)
{
	cleanup_free struct sources *s = calloc(1, sizeof(*s));
	struct resync_offer o = { 0 };
	struct reason why = { "" };
	int err = !config->nr_disks ? -ENODATA
		  : !s		    ? -ENOMEM
				    : sources_connect(config->run_dir, s, &why);

	if (!err) {
		err = read_token(s, o.token);
		if (!err && !sources_has_disk(s, 0))
			err = confirm(config, o.token);
		sources_close(s);
	}
	o.related = !err;
	if (err == -EIO)
		snprintf(o.reason, sizeof(o.reason), "the region file cannot be written");
	else if (why.text[0])
		snprintf(o.reason, sizeof(o.reason), "%.199s", why.text);
	else if (err)
		snprintf(o.reason, sizeof(o.reason),
			 "no token: nobody has kept count of what was written here");
	if (getrandom(o.fresh, sizeof(o.fresh), 0) != sizeof(o.fresh))
		memset(o.fresh, 0, sizeof(o.fresh));
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

/* One that its server does not count is counted from here on, and all of it may differ. */
static int begin_one(const struct sources *s, const struct resync_config *config,
		     const uint8_t token[REGION_TOKEN_BYTES], unsigned int disk, struct reason *why)
{
	struct region_header like = { .generation = config->generation };
	int err;

	memcpy(like.token, token, sizeof(like.token));
	snprintf(like.peer, sizeof(like.peer), "%s", config->peer);
	err = regions_create_served(config->state_dir, &like, &s->named[disk], (int)disk);
	if (err)
		return reason_set(why, -err, "the region file cannot be made: %s", strerror(-err));
	return count(s->control[s->source[disk]], config->state_dir, (int)disk, why);
}

/* What the other host has written: ours, too, before anything is copied. */
static int merge(const struct sources *s, const struct resync_config *config,
		 const struct resync_offer *offer, const char *text, struct reason *why)
{
	struct region_sets theirs;
	int err = resync_read_sets(s, &theirs);

	if (err)
		return reason_set(why, -err, "the regions cannot be read: %s", strerror(-err));
	err = region_sets_from_text(&theirs, text, why);
	for (unsigned int i = 0; i < s->nr_disks && !err; i++)
		err = is_counted(s, i, offer->token) ? resync_mark(s, &theirs, i, why)
						     : begin_one(s, config, offer->token, i, why);
	region_sets_close(&theirs);
	if (!err && fault_at("resync.marked"))
		err = reason_set(why, EIO, "fault point resync.marked");
	return err;
}

/* All may differ, and the token is new. */
static int begin_anew(const struct sources *s, const struct resync_config *config,
		      const struct resync_offer *offer, struct reason *why)
{
	struct region_header like = { .generation = config->generation };
	int err;

	memcpy(like.token, offer->fresh, sizeof(like.token));
	snprintf(like.peer, sizeof(like.peer), "%s", config->peer);
	err = regions_create(config->state_dir, &like, s->named, s->nr_disks, true);
	if (err)
		reason_set(why, -err, "the region file cannot be made: %s", strerror(-err));
	if (!err && sources_has_disk(s, 0))
		err = count(s->control[0], config->state_dir, REGIONS_OWN, why);
	if (!err)
		err = count_served(s, config->state_dir, why);
	if (!err && fault_at("resync.marked"))
		err = reason_set(why, EIO, "fault point resync.marked");
	if (err)
		count_no_more(s, config->state_dir);
	return err;
}

static bool is_same(struct json_object *answer)
{
	struct json_object *v;

	return answer && json_object_object_get_ex(answer, "same", &v) &&
	       json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

void resync_settle(const struct resync_config *config, const struct resync_offer *offer,
		   struct json_object *reply, struct resync *ret)
{
	cleanup_free struct sources *s = calloc(1, sizeof(*s));
	struct resync r = { 0 };
	struct json_object *answer = NULL;
	struct reason why = { 0 };
	const char *text;
	int err;

	*ret = r;
	if (!config->nr_disks)
		return;
	json_object_object_get_ex(reply, "resync", &answer);
	text = text_of(answer, "reason");
	snprintf(r.reason, sizeof(r.reason), "%s",
		 !offer->related ? offer->reason
		 : text		 ? text
				 : "the other host does not say");
	r.partial = offer->related && is_same(answer);
	text = text_of(answer, "regions");
	err = s ? 0 : -ENOMEM;
	if (!err)
		err = fault_at("resync.settle") ? -EIO : sources_connect(config->run_dir, s, &why);
	if (!err && r.partial)
		err = text ? merge(s, config, offer, text, &why) : -EPROTO;
	else if (!err)
		err = begin_anew(s, config, offer, &why);
	r.tracked = !err;
	if (err) {
		r.partial = false;
		snprintf(r.reason, sizeof(r.reason), "%.199s",
			 why.text[0] ? why.text : strerror(-err));
	}
	if (s)
		sources_close(s);
	*ret = r;
}
