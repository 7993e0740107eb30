/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/status.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "ha/record.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"
#include "tools/daemon/watch.h"

/* What pollux-ha says and is passed on as it is; null where it says nothing. */
static const char *const passed_on[] = {
	"generation",
	"epoch",
	"epochs_committed",
	"interval_ns",
	"encryption",
	"mode",
	"codec",
	"lag_ns",
	"lag_bytes",
	"lag_epochs",
	"pause_ns",
	"hold_ns",
	"hold_bytes",
	"dirty_pages",
	"bytes_raw",
	"bytes_wire",
	"steps_ns",
	"copy",
	"takeover",
	"switchover",
	"timeout_ns",
	"oracle",
	"live_rounds",
	"memory_kept",
	"netbuf",
	"resync",
	"verify",
	"epochs_too_large",
};

/* How the VM came here: kept beyond the pollux-ha that brought it. */
static const char *const arrivals[] = { "takeover", "switchover" };

static const char *state_word(const struct vm *vm)
{
	if (vm->standby)
		return "standby";
	switch (vm->state) {
	case CONTROL_RUNNING:
		return "running";
	case CONTROL_PAUSED:
		return "paused";
	case CONTROL_STOPPED:
		return "stopped";
	}
	return "unknown";
}

/* Why the VM is not protected although it has, or had, a pollux-ha. */
static void describe_silence(const struct guard *g, uint64_t now, char *ret, size_t room)
{
	const char *role = json_text(g->status, "role", "");

	if (g->trouble[0])
		snprintf(ret, room, "%s", g->trouble);
	else if (!g->wanted && !strcmp(role, "active"))
		snprintf(ret, room, "took over: no backup");
	else if (!g->wanted)
		snprintf(ret, room, "never asked for");
	else if (!g->status || !g->status_at_ns)
		snprintf(ret, room, "starting");
	else
		snprintf(ret, room, "no answer from pollux-ha for %" PRIu64 " s",
			 (now - g->status_at_ns) / NS_PER_S);
}

static const char *short_reason(struct json_object *status, const char *word)
{
	static const char prefix[] = "not protected: ";
	const char *reason = json_text(status, "reason", NULL);

	if (reason && *reason)
		return reason;
	return strncmp(word, prefix, sizeof(prefix) - 1) ? word : word + sizeof(prefix) - 1;
}

static void put_word(struct json_object *o, const struct vm *vm, bool fresh, uint64_t now)
{
	const struct guard *g = &vm->guard;
	bool protected = fresh && json_flag(g->status, "protected");
	char reason[360], word[400];

	if (protected) {
		json_add_string(o, "word", "protected");
		json_add_bool(o, "protected", true);
		json_add_null(o, "reason");
		return;
	}
	if (fresh)
		snprintf(reason, sizeof(reason), "%s",
			 short_reason(g->status, json_text(g->status, "word", "unknown")));
	else
		describe_silence(g, now, reason, sizeof(reason));
	/* It has moved, and the host it came from is not its backup yet. */
	if (vm->arrival && !strcmp(reason, "no backup"))
		snprintf(reason, sizeof(reason), "took over: no backup");
	if (fresh && g->refusal[0]) {
		size_t len = strlen(reason);

		snprintf(reason + len, sizeof(reason) - len, ": %s", g->refusal);
	}
	snprintf(word, sizeof(word), "not protected: %s", reason);
	json_add_string(o, "word", word);
	json_add_bool(o, "protected", false);
	json_add_string(o, "reason", reason);
}

/* The age of the last commit goes on growing after pollux-ha measured it. */
static void age_lag(struct json_object *o, uint64_t age)
{
	struct json_object *lag = json_member(o, "lag_ns");
	uint64_t now;

	if (!lag || json_get_u64(lag, "now", &now, NULL) < 0)
		return;
	/* Nobody lags behind a VM that has no backup. */
	if (!strcmp(json_text(o, "role", ""), "active") ||
	    !strcmp(json_text(o, "role", ""), "stopped"))
		json_add_null(lag, "now");
	else
		json_add_u64(lag, "now", now + age);
}

/* Under the lock. */
static struct json_object *make_one(const struct vm *vm, uint64_t now)
{
	const struct guard *g = &vm->guard;
	uint64_t age = now - g->status_at_ns;
	bool fresh = g->wanted && g->status && !g->trouble[0] && age <= WATCH_FRESH_NS;
	struct json_object *o = json_object_new_object();

	json_add_string(o, "name", vm->name);
	json_add_string(o, "uuid", vm->uuid);
	json_add_u64(o, "domid", vm->domid);
	json_add_string(o, "platform", vm->platform->name);
	json_add_string(o, "vm_state", state_word(vm));
	json_add_u64(o, "memory_bytes", vm_memory_bytes(vm));
	json_add_u64(o, "vcpus", json_number(vm->config, "vcpus", 1));
	put_word(o, vm, fresh, now);
	json_add_string(o, "role",
			json_text(g->status, "role",
				  g->wanted ? (g->primary ? "primary" : "backup") : NULL));
	json_add_string(o, "state", json_text(fresh ? g->status : NULL, "state", NULL));
	json_add_string(o, "peer", g->wanted ? json_text(g->status, "peer", g->peer) : NULL);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		json_add_copy(o, passed_on[i], g->status);
	for (size_t i = 0; i < ARRAY_SIZE(arrivals); i++)
		if (!json_member(o, arrivals[i]))
			json_add_copy(o, arrivals[i], vm->arrival);
	age_lag(o, g->status_at_ns ? age : 0);
	if (g->status && g->status_at_ns)
		json_add_u64(o, "status_age_ns", age);
	else
		json_add_null(o, "status_age_ns");
	return o;
}

/* A VM that this host has a record of and no process: it ran here, and by what the record says
 * it now runs, or may run, elsewhere. Who looks for it finds out where. */
static struct json_object *make_former(const char *name, const struct record *rec)
{
	struct json_object *o = json_object_new_object();
	bool stopped = rec->role == RECORD_STOPPED;
	char reason[160], word[200];

	if (stopped)
		snprintf(reason, sizeof(reason), "stopped: generation %" PRIu64 " runs elsewhere",
			 rec->generation);
	else
		snprintf(reason, sizeof(reason),
			 "stopped: it was protected to %s, which may run it", rec->peer);
	snprintf(word, sizeof(word), "not protected: %s", reason);
	json_add_string(o, "name", name);
	json_add_null(o, "uuid");
	json_add_null(o, "domid");
	json_add_null(o, "platform");
	json_add_string(o, "vm_state", "stopped");
	json_add_null(o, "memory_bytes");
	json_add_null(o, "vcpus");
	json_add_string(o, "word", word);
	json_add_bool(o, "protected", false);
	json_add_string(o, "reason", reason);
	json_add_string(o, "role", "stopped");
	json_add_null(o, "state");
	json_add_string(o, "peer", rec->peer[0] ? rec->peer : NULL);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		json_add_null(o, passed_on[i]);
	json_add_u64(o, "generation", rec->generation);
	json_add_null(o, "status_age_ns");
	return o;
}

/* All of them, or that of one name; not those that are in the table. */
static bool add_former(struct daemon *d, const char *name, struct json_object *vms)
{
	DIR *list = opendir(d->conf.state_dir);
	bool found = false, present;
	struct dirent *e;
	struct record rec;

	while (list && (e = readdir(list))) {
		if (text_check_name("vm", e->d_name, NULL) < 0 ||
		    (name && strcmp(name, e->d_name)) ||
		    record_read(path_state_dir(&d->conf, e->d_name).text, &rec, NULL) < 0 ||
		    (rec.role != RECORD_STOPPED && rec.role != RECORD_PRIMARY))
			continue;
		daemon_lock(d);
		present = vm_find(d, e->d_name);
		daemon_unlock(d);
		if (present)
			continue;
		json_object_array_add(vms, make_former(e->d_name, &rec));
		found = true;
	}
	if (list)
		closedir(list);
	return found;
}

static struct json_object *make_top(struct daemon *d)
{
	struct json_object *o = json_object_new_object();
	uint64_t wall = clock_wall_ns();
	char time[40];

	json_add_u64(o, "schema_version", STATUS_SCHEMA_VERSION);
	json_add_string(o, "host", d->conf.name);
	json_add_string(o, "time", text_time(wall, time, sizeof(time)));
	json_add_u64(o, "time_ns", wall);
	json_add_string(
		o, "certificate_expires",
		d->certificate_expires
			? text_time((uint64_t)d->certificate_expires * NS_PER_S, time, sizeof(time))
			: NULL);
	if (d->certificate_expires)
		json_add_u64(o, "certificate_expires_ns",
			     (uint64_t)d->certificate_expires * NS_PER_S);
	else
		json_add_null(o, "certificate_expires_ns");
	return o;
}

struct json_object *status_make(struct daemon *d, const char *name)
{
	struct json_object *top = make_top(d), *vms = json_object_new_array();
	uint64_t now = clock_now_ns();
	bool found = !name;

	daemon_lock(d);
	for (struct vm *vm = d->vms; vm; vm = vm->next) {
		if (vm->gone || (name && strcmp(vm->name, name)))
			continue;
		json_object_array_add(vms, make_one(vm, now));
		found = true;
	}
	daemon_unlock(d);
	if (!name || !found)
		found |= add_former(d, name, vms);
	json_add(top, "vms", vms);
	if (found)
		return top;
	json_object_put(top);
	return NULL;
}

struct json_object *status_list(struct daemon *d)
{
	static const char *const keys[] = { "name",	"uuid",		"domid", "platform",
					    "vm_state", "memory_bytes", "vcpus", "word" };
	struct json_object *all = status_make(d, NULL), *top = make_top(d);
	struct json_object *vms = json_object_new_array(), *from = json_member(all, "vms");

	for (size_t i = 0; i < json_object_array_length(from); i++) {
		struct json_object *o = json_object_new_object();

		for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
			json_add_copy(o, keys[k], json_object_array_get_idx(from, i));
		json_object_array_add(vms, o);
	}
	json_object_put(all);
	json_add(top, "vms", vms);
	return top;
}
