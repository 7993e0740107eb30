/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/stats.h"

#include <json-c/json.h>

#include "ha/capture.h"
#include "ha/role.h"
#include "ha/settings.h"
#include "ha/verify_report.h"

void stats_pause(struct stats *s, const struct capture_steps *steps)
{
	hist_add(&s->pause, steps->pause);
	hist_add(&s->stop, steps->stop);
	hist_add(&s->dirty, steps->dirty);
	hist_add(&s->state, steps->state);
	hist_add(&s->copy, steps->copy);
	hist_add(&s->resume, steps->resume);
	hist_add(&s->pages, steps->nr_dirty);
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_text(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, json_object_new_string(v));
}

/* Percentiles, or null while there is nothing to tell. */
static void add_hist(struct json_object *o, const char *key, const struct hist *h)
{
	struct json_object *v = NULL;

	if (h->count) {
		v = json_object_new_object();
		add_u64(v, "p50", hist_percentile(h, 500));
		add_u64(v, "p99", hist_percentile(h, 990));
		add_u64(v, "max", h->max);
	}
	json_object_object_add(o, key, v);
}

static void add_lag(struct json_object *o, const struct stats *s, const struct role_word *word)
{
	struct json_object *v = NULL;

	if (s->lag.count || word->age_ns != UINT64_MAX) {
		v = json_object_new_object();
		json_object_object_add(
			v, "now",
			word->age_ns == UINT64_MAX ? NULL : json_object_new_uint64(word->age_ns));
		add_u64(v, "p50", hist_percentile(&s->lag, 500));
		add_u64(v, "p99", hist_percentile(&s->lag, 990));
		add_u64(v, "max", s->lag.max);
	}
	json_object_object_add(o, "lag_ns", v);
	add_u64(o, "lag_bytes", s->lag_bytes);
	add_u64(o, "lag_epochs", s->lag_epochs);
}

static void add_steps(struct json_object *o, const struct stats *s)
{
	struct json_object *v = NULL;

	if (s->pause.count) {
		v = json_object_new_object();
		add_u64(v, "stop", hist_percentile(&s->stop, 500));
		add_u64(v, "dirty", hist_percentile(&s->dirty, 500));
		add_u64(v, "state", hist_percentile(&s->state, 500));
		add_u64(v, "copy", hist_percentile(&s->copy, 500));
		add_u64(v, "resume", hist_percentile(&s->resume, 500));
	}
	json_object_object_add(o, "steps_ns", v);
}

static void add_pair(struct json_object *o, const char *key, bool known, const char *const name[2],
		     const uint64_t value[2])
{
	struct json_object *v = NULL;

	if (known) {
		v = json_object_new_object();
		add_u64(v, name[0], value[0]);
		add_u64(v, name[1], value[1]);
	}
	json_object_object_add(o, key, v);
}

static void add_netbuf(struct json_object *o, const struct stats *s)
{
	struct json_object *v = NULL;

	if (s->netbuf) {
		v = json_object_new_object();
		add_text(v, "kind", s->netbuf);
		add_u64(v, "held_bytes", s->held_bytes);
		add_u64(v, "limit_bytes", s->held_limit_bytes);
		add_u64(v, "dropped_frames", s->dropped_frames);
	}
	json_object_object_add(o, "netbuf", v);
}

static void add_resync(struct json_object *o, const struct stats_resync *r)
{
	struct json_object *v = NULL;

	if (r->known) {
		v = json_object_new_object();
		add_text(v, "kind", r->partial ? "partial" : "full");
		add_u64(v, "bytes", r->bytes);
		add_u64(v, "total_bytes", r->total_bytes);
		json_object_object_add(v, "reason",
				       r->partial ? NULL : json_object_new_string(r->reason));
	}
	json_object_object_add(o, "resync", v);
}

static const char *role_text(const struct role *role)
{
	if (role->state == ROLE_FENCED)
		return "stopped";
	if (role->state == ROLE_ACTIVE)
		return "active";
	return role->side == ROLE_PRIMARY ? "primary" : "backup";
}

static void add_who(struct json_object *o, const struct stats_view *v, const struct role_word *word)
{
	const struct settings *set = v->settings;

	add_text(o, "name", set->vm);
	add_text(o, "role", role_text(v->role));
	add_text(o, "state", role_state_name(v->role->state));
	add_text(o, "word", word->text);
	json_object_object_add(o, "protected", json_object_new_boolean(word->protected));
	json_object_object_add(
		o, "reason",
		word->protected ? NULL
				: json_object_new_string(word->text + strlen("not protected: ")));
	add_text(o, "peer", set->peer);
	add_u64(o, "generation", v->role->own.generation);
	json_object_object_add(o, "encryption", json_object_new_boolean(v->encrypted));
	add_text(o, "mode", set->mode == EPOCH_KEMARI ? "kemari" : "remus");
	add_text(o, "codec", codec_name(set->codec));
	add_text(o, "commit", set->commit_disk ? "disk" : "memory");
	add_u64(o, "interval_ns", set->interval_ns);
	add_u64(o, "timeout_ns", set->timeout_ns);
}

struct json_object *stats_json(const struct stats_view *v)
{
	static const char *const copy_names[] = { "done_bytes", "total_bytes" };
	static const char *const kept_names[] = { "pages", "bytes" };
	static const char *const backup_names[] = { "committed_epoch", "age_ns" };
	static const char *const takeover_names[] = { "detect_ns", "takeover_ns" };
	static const char *const switchover_names[] = { "pause_min_ns", "pause_max_ns" };
	static const char *const oracle_names[] = { "checked", "failed" };
	const struct stats *s = v->stats;
	struct json_object *o = json_object_new_object();
	struct role_word word;

	role_word(v->role, v->now_ns, &word);
	add_who(o, v, &word);
	add_u64(o, "epoch", s->epoch);
	add_u64(o, "epochs_committed", s->epochs_committed);
	add_lag(o, s, &word);
	/* P5: what the backup itself says, and how old that is by now. */
	add_pair(
		o, "backup", s->backup_heard_ns != 0, backup_names,
		(uint64_t[]){ s->backup_epoch, s->backup_age_ns + v->now_ns - s->backup_heard_ns });
	add_hist(o, "pause_ns", &s->pause);
	add_hist(o, "hold_ns", &s->hold);
	add_hist(o, "sync_ns", &s->sync);
	add_netbuf(o, s);
	add_hist(o, "dirty_pages", &s->pages);
	add_steps(o, s);
	add_u64(o, "bytes_raw", s->bytes_raw);
	add_u64(o, "bytes_wire", s->bytes_wire);
	add_u64(o, "live_rounds", s->live_rounds);
	add_u64(o, "epochs_too_large", s->too_large);
	add_pair(o, "copy", s->copy_total_bytes > 0, copy_names,
		 (uint64_t[]){ s->copy_done_bytes, s->copy_total_bytes });
	add_pair(o, "memory_kept", s->memory_kept, kept_names,
		 (uint64_t[]){ s->kept_pages, s->kept_pages * PLATFORM_PAGE_BYTES });
	add_resync(o, &s->resync);
	add_pair(o, "takeover", s->taken_over, takeover_names,
		 (uint64_t[]){ s->detect_ns, s->takeover_ns });
	add_pair(o, "switchover", s->pause_max_ns != 0, switchover_names,
		 (uint64_t[]){ s->pause_min_ns, s->pause_max_ns });
	add_pair(o, "oracle", v->settings->oracle, oracle_names,
		 (uint64_t[]){ s->oracle_checked, s->oracle_failed });
	json_object_object_add(o, "verify",
			       s->verified ? verify_report_json(s->verified, v->now_ns) : NULL);
	return o;
}
