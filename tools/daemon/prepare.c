/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/prepare.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "ha/record.h"
#include "ha/role.h"
#include "ha/socket.h"
#include "tools/common/json.h"
#include "tools/daemon/disks.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/prepare_room.h"
#include "tools/daemon/process.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"
#include "tools/daemon/worker.h"

#define NAME_WAIT_NS (10 * NS_PER_S)
#define REJOIN_NS    (10 * NS_PER_S)

struct ask {
	const char *vm, *uuid, *from;
	uint64_t generation;
	struct json_object *config;
};

void prepare_refuse(struct json_object *reply, const char *code, uint64_t generation,
		    const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_add_bool(reply, "ok", false);
	json_add_string(reply, "code", code);
	json_add_string(reply, "error", text);
	if (generation)
		json_add_u64(reply, "generation", generation);
}

static int read_ask(struct json_object *request, struct ask *ret, struct reason *why)
{
	const struct vm_platform *platform;
	uint64_t memory = 0;
	int r = json_get_string(request, "vm", &ret->vm, why);

	if (!r)
		r = json_get_string(request, "uuid", &ret->uuid, why);
	if (!r)
		r = json_get_string(request, "from", &ret->from, why);
	if (!r)
		r = json_get_u64(request, "generation", &ret->generation, why);
	if (!r)
		r = json_get_object(request, "config", &ret->config, why);
	if (!r)
		r = json_get_u64(request, "memory_bytes", &memory, why);
	if (!r)
		r = vm_check_config(ret->config, why);
	if (r < 0)
		return r;
	if (strcmp(ret->vm, json_text(ret->config, "name", "")) ||
	    strcasecmp(ret->uuid, json_text(ret->config, "uuid", "")))
		return reason_set(why, EINVAL, "vm and uuid are not those of the configuration");
	platform = vm_platform_of(ret->config);
	if (!platform)
		return reason_set(why, EINVAL, "platform \"%.40s\" is neither kvm nor xen",
				  json_text(ret->config, "platform", ""));
	/* The other one's memory is what its domain has, which is known once there is one. */
	if (platform->memory_here && memory != json_number(ret->config, "memory_mib", 0) << 20)
		return reason_set(why, EINVAL, "memory_bytes %llu is not the configuration's",
				  (unsigned long long)memory);
	if (!ret->generation || ret->generation > UINT64_MAX / 2)
		return reason_set(why, EINVAL, "generation %llu is out of range",
				  (unsigned long long)ret->generation);
	return 0;
}

/* A standby that lives must let go first: it may be taking over this very moment, and
 * then it refuses (P3). One that does not answer is not overruled. */
static bool let_go(struct daemon *d, struct vm *vm, const struct ask *ask,
		   struct json_object *reply)
{
	cleanup_json struct json_object *o = json_object_new_object(), *answer = NULL;
	struct reason why;

	if (!process_alive(&vm->guard.process))
		return true; /* its record decides */
	json_add_string(o, "verb", "rejoin");
	json_add_u64(o, "generation", ask->generation);
	if (guard_call(d, vm->name, o, REJOIN_NS, &answer, &why) < 0) {
		if (!process_alive(&vm->guard.process))
			return true;
		prepare_refuse(reply, "busy", 0, "the old standby does not answer: %s", why.text);
		return false;
	}
	if (json_flag(answer, "ok"))
		return true;
	prepare_refuse(reply, !strcmp(json_text(answer, "code", ""), "active") ? "active" : "busy",
		       json_number(answer, "generation", 0), "the old standby on %s: %s",
		       d->conf.name, json_text(answer, "error", "refuses"));
	return false;
}

static bool check_present(struct daemon *d, const struct ask *ask, struct vm *vm,
			  struct json_object *reply)
{
	if (strcasecmp(vm->uuid, ask->uuid)) {
		prepare_refuse(reply, "exists", 0,
			       "another VM %s exists on %s, uuid %s; destroy or rename one of them",
			       vm->name, d->conf.name, vm->uuid);
		return false;
	}
	return !vm->standby || let_go(d, vm, ask, reply);
}

static int read_own(struct daemon *d, const char *vm, struct record *ret, bool *ret_has,
		    struct reason *why)
{
	int r = record_read(path_state_dir(&d->conf, vm).text, ret, why);

	*ret_has = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* Whether the caller may have this host as its backup, and the record that says so. */
static bool admit(struct daemon *d, const struct ask *ask, struct vm *vm, struct record *ret,
		  struct json_object *reply)
{
	struct record own;
	struct reason why;
	bool has;

	if (read_own(d, ask->vm, &own, &has, &why) < 0) {
		prepare_refuse(reply, "failed", 0, "%s: %s", d->conf.name, why.text);
		return false;
	}
	switch (role_admit(has ? &own : NULL, ask->generation, ask->from, ret)) {
	case ROLE_REFUSE:
		prepare_refuse(reply, "active", ret->generation,
			       "VM %s is %s on %s at generation %llu, asked for %llu", ask->vm,
			       record_role_name(ret->role), d->conf.name,
			       (unsigned long long)ret->generation,
			       (unsigned long long)ask->generation);
		return false;
	case ROLE_STOP_FIRST:
		return true;
	case ROLE_ADMIT:
		if (vm && !vm->standby && own.role != RECORD_STOPPED) {
			prepare_refuse(reply, "exists", 0,
				       "VM %s runs on %s and was never protected from there; "
				       "destroy it first",
				       vm->name, d->conf.name);
			return false;
		}
		return true;
	}
	return false;
}

static void take_settings(struct daemon *d, struct json_object *request,
			  struct conf_protection *ret)
{
	struct json_object *from = json_member(request, "settings");

	*ret = d->conf.protection;
	ret->timeout_ns = json_number(request, "timeout_ns", ret->timeout_ns);
	ret->interval_ns = json_number(from, "interval_ns", ret->interval_ns);
	ret->min_interval_ns = MIN(ret->min_interval_ns, ret->interval_ns);
	/* The log of one is measured by the ring of the other. */
	ret->disk_ring_bytes = MAX(ret->disk_ring_bytes, json_number(from, "disk_ring_bytes", 0));
	/* The stricter of the two hosts' wishes. */
	ret->commit_disk |= !strcmp(json_text(from, "commit", ""), "disk");
	ret->oracle = json_flag(from, "oracle");
}

static int listen_for_primary(struct daemon *d, int *ret_fd, uint16_t *ret_port, struct reason *why)
{
	struct text_address a;
	struct refusal refusal = { 0 };
	struct socket_address at;
	int fd, r = text_parse_address(d->conf.listen, CONF_PEER_PORT, &a, why);

	if (r < 0)
		return r;
	at = (struct socket_address){ a.host, 0 };
	r = socket_listen(&at, &fd, &refusal);
	if (r < 0)
		return reason_set(why, -r, "%s", refusal.why.text);
	r = socket_port(fd, ret_port);
	if (r < 0) {
		close(fd);
		return reason_set(why, -r, "%s", strerror(-r));
	}
	*ret_fd = fd;
	return 0;
}

static int make_standby(struct daemon *d, const struct ask *ask, struct json_object *request,
			struct json_object *reply, uint16_t *ret_port, struct reason *why)
{
	struct wish back = { .options = json_member(request, "options") };
	struct vm_start v = { .config = ask->config, .standby = true, .wish = &back };
	struct conf_protection protection;
	struct guard_start g = { .peer = ask->from, .protection = &protection, .listen_fd = -1 };
	char token[REGION_TOKEN_TEXT];
	cleanup_close int fd = -1, memory = -1;
	struct vm *vm;
	int r = listen_for_primary(d, &fd, ret_port, why);

	if (r < 0)
		return r;
	/* Whom it will ask once it has taken over; the options are checked when used. */
	snprintf(back.peer, sizeof(back.peer), "%s", ask->from);
	take_settings(d, request, &protection);
	memory = kept_take(d, ask->vm, ask->uuid, json_number(request, "memory_bytes", 0));
	v.memory_fd = memory < 0 ? NULL : &memory;
	g.memory_kept = memory >= 0;
	disks_answer(d, request, reply, token);
	g.disk_token = token;
	r = vm_start(d, &v, &vm, why);
	if (r < 0)
		return r;
	g.listen_fd = fd;
	r = guard_start(d, vm, &g, why);
	if (r < 0)
		vm_end(d, vm);
	return r;
}

static int persist(struct daemon *d, const struct ask *ask, const struct record *rec,
		   struct reason *why)
{
	struct path dir = path_state_dir(&d->conf, ask->vm);

	if (mkdir(dir.text, 0700) < 0 && errno != EEXIST)
		return reason_set(why, errno, "%s: %s", dir.text, strerror(errno));
	return record_write(dir.text, rec, why);
}

static void prepare(struct daemon *d, const struct ask *ask, struct json_object *request,
		    struct json_object *reply)
{
	struct record rec;
	struct reason why = { "" };
	const char *code;
	struct vm *vm;
	uint16_t port = 0;

	daemon_lock(d);
	vm = vm_find(d, ask->vm);
	daemon_unlock(d);
	if (vm && !check_present(d, ask, vm, reply))
		return;
	if (!admit(d, ask, vm, &rec, reply))
		return;
	if (vm) {
		/* The other host may have seen it before our own watch did. */
		if (!process_alive(&vm->server))
			vm_tell_died(d, vm);
		events_add(d, ask->vm, vm->standby ? "standby.renewed" : "vm.superseded",
			   "ended here: generation %llu runs on %s",
			   (unsigned long long)ask->generation, ask->from);
		vm_end_keeping(d, vm);
	}
	code = prepare_check_room(d, request, &why);
	if (code) {
		prepare_refuse(reply, code, 0, "%s: %s", d->conf.name, why.text);
		return;
	}
	if (persist(d, ask, &rec, &why) < 0 ||
	    make_standby(d, ask, request, reply, &port, &why) < 0) {
		prepare_refuse(reply, "failed", 0, "%s: %s", d->conf.name, why.text);
		return;
	}
	json_add_bool(reply, "ok", true);
	json_add_u64(reply, "port", port);
	json_add_u64(reply, "generation", rec.generation);
	events_add(d, ask->vm, "standby.ready", "standby for %s, generation %llu, port %u",
		   ask->from, (unsigned long long)rec.generation, port);
}

void prepare_answer(struct daemon *d, struct json_object *request, struct json_object *reply)
{
	struct ask ask;
	struct reason why;

	if (read_ask(request, &ask, &why) < 0) {
		prepare_refuse(reply, "bad-request", 0, "%s", why.text);
		return;
	}
	if (worker_take_name(d, ask.vm, clock_now_ns() + NAME_WAIT_NS) < 0) {
		prepare_refuse(reply, "busy", 0, "something else is done with VM %s on %s", ask.vm,
			       d->conf.name);
		return;
	}
	prepare(d, &ask, request, reply);
	worker_drop_name(d, ask.vm);
	if (!json_flag(reply, "ok"))
		events_add(d, ask.vm, "prepare.refused", "asked by %s: %s", ask.from,
			   json_text(reply, "error", ""));
}
