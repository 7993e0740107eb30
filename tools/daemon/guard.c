/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/guard.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/ipc.h"
#include "ha/record.h"
#include "tools/common/json.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_platform.h"

#define START_NS       (10 * NS_PER_S) /* until pollux-ha answers */
#define POLL_NS	       (20 * NS_PER_MS)
#define BACKOFF_MAX_NS (30 * NS_PER_S)

static void put_tls(const struct conf *conf, struct json_object *o)
{
	struct json_object *tls = conf->encryption ? json_object_new_object() : NULL;

	if (tls) {
		json_add_string(tls, "ca", conf->ca);
		json_add_string(tls, "cert", conf->cert);
		json_add_string(tls, "key", conf->key);
	}
	json_add(o, "tls", tls);
}

static void put_protection(const struct conf_protection *p, struct json_object *o)
{
	json_add_string(o, "mode", p->mode);
	json_add_u64(o, "interval_ns", p->interval_ns);
	json_add_u64(o, "min_interval_ns", p->min_interval_ns);
	json_add_u64(o, "timeout_ns", p->timeout_ns);
	json_add_string(o, "codec", p->codec);
	json_add_string(o, "netbuf", p->netbuf);
	json_add_u64(o, "delta_cache_bytes", p->delta_cache_bytes);
	json_add_u64(o, "stage_bytes", p->stage_bytes);
	json_add_u64(o, "max_in_flight", p->max_in_flight);
	json_add_u64(o, "hold_limit_bytes", p->hold_limit_bytes);
	json_add_u64(o, "disk_ring_bytes", p->disk_ring_bytes);
	json_add_bool(o, "stall_alone", !strcmp(p->on_peer_loss, "stall"));
	json_add_u64(o, "resync_cap", p->resync_cap_bytes);
	json_add_string(o, "commit", p->commit_disk ? "disk" : "memory");
	json_add_bool(o, "oracle", p->oracle);
}

static struct json_object *make_settings(struct daemon *d, const struct vm *vm,
					 const struct guard_start *s)
{
	struct json_object *o = json_object_new_object(), *peer = json_object_new_object();

	json_add_string(o, "role", s->primary ? "primary" : "backup");
	json_add_string(o, "vm", vm->name);
	json_add_string(o, "uuid", vm->uuid);
	json_add_u64(o, "domid", vm->domid);
	json_add_string(o, "host", d->conf.name);
	json_add_string(peer, "name", s->peer);
	if (s->peer_address)
		json_add_string(peer, "address", s->peer_address);
	json_add(o, "peer", peer);
	put_tls(&d->conf, o);
	put_protection(s->protection, o);
	json_add_bool(o, "memory_kept", s->memory_kept);
	json_add_u64(o, "backlog_bytes", d->conf.backlog_bytes);
	json_add_string(o, "record", path_state_dir(&d->conf, vm->name).text);
	json_add_string(o, "socket", path_ha(&d->conf, vm->name, "sock").text);
	json_add_string(o, "run_dir", path_vm_dir(&d->conf, vm->number).text);
	json_add(o, "config", json_copy(vm->config));
	if (s->options)
		json_add(o, "options", json_copy(s->options));
	if (s->disk_token)
		json_add_string(o, "disk_token", s->disk_token);
	if (s->listen_fd >= 0)
		json_add_u64(o, "listen_fd", 3);
	return o;
}

static int save(struct daemon *d, const struct vm *vm)
{
	cleanup_json struct json_object *o = json_object_new_object();

	json_add_bool(o, "primary", vm->guard.primary);
	json_add_string(o, "peer", vm->guard.peer);
	process_put(&vm->guard.process, o);
	return json_write_file(path_ha(&d->conf, vm->name, "run").text, o, 0600);
}

void guard_last_words(struct daemon *d, const struct vm *vm, char *ret, size_t room)
{
	struct path log = path_under(d->conf.log_dir, "%s-ha.log", vm->name);
	char words[180];

	process_last_words(log.text, words, sizeof(words));
	snprintf(ret, room, "%s: %s", vm->platform->engine,
		 words[0] ? words : "ended at once, without a word");
}

static int await_answer(struct daemon *d, struct vm *vm, struct reason *why)
{
	struct path sock = path_ha(&d->conf, vm->name, "sock");
	struct path log = path_under(d->conf.log_dir, "%s-ha.log", vm->name);
	uint64_t deadline = clock_now_ns() + START_NS;
	struct ipc *c;
	char words[220];

	while (ipc_connect(sock.text, deadline, &c) < 0) {
		if (!process_alive(&vm->guard.process)) {
			guard_last_words(d, vm, words, sizeof(words));
			return reason_set(why, ECHILD, "%s", words);
		}
		if (clock_now_ns() > deadline)
			return reason_set(why, ETIMEDOUT,
					  "pollux-ha does not answer after 10 s; "
					  "see %.150s",
					  log.text);
		nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
	}
	ipc_close(c);
	return 0;
}

static int launch(struct daemon *d, struct vm *vm, int listen_fd, struct reason *why)
{
	struct path program, settings = path_ha(&d->conf, vm->name, "json");
	struct path log = path_under(d->conf.log_dir, "%s-ha.log", vm->name);
	const char *name = vm->platform->engine;
	char *argv[] = { (char *)(uintptr_t)name, "--settings", settings.text, NULL };
	struct process_launch l = { .argv = argv, .log = log.text, .pass_fd = listen_fd };
	struct process p;
	int r = path_program(&d->conf, name, &program, why);

	if (r < 0)
		return r;
	l.program = program.text;
	unlink(path_ha(&d->conf, vm->name, "sock").text);
	r = process_start(&l, &p, why);
	if (r < 0)
		return r;
	daemon_lock(d);
	vm->guard.process = p;
	vm->guard.status_at_ns = 0;
	daemon_unlock(d);
	r = save(d, vm);
	if (r < 0)
		reason_set(why, -r, "%s/ha cannot be written: %s", d->conf.run_dir, strerror(-r));
	if (!r)
		r = await_answer(d, vm, why);
	if (r < 0)
		process_end(&p, vm->platform->end_ns);
	return r;
}

static void set_wanted(struct daemon *d, struct vm *vm, const struct guard_start *s)
{
	struct guard *g = &vm->guard;

	daemon_lock(d);
	g->wanted = s != NULL;
	g->restarts = 0;
	g->retry_at_ns = 0;
	g->trouble[0] = '\0';
	g->refusal[0] = '\0';
	json_object_put(g->status);
	g->status = NULL;
	g->status_at_ns = 0;
	if (s) {
		g->primary = s->primary;
		snprintf(g->peer, sizeof(g->peer), "%s", s->peer);
	}
	daemon_unlock(d);
	daemon_wake(d);
}

static void forget(struct daemon *d, struct vm *vm)
{
	static const char *const suffixes[] = { "json", "run", "sock" };

	set_wanted(d, vm, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++)
		unlink(path_ha(&d->conf, vm->name, suffixes[i]).text);
}

int guard_start(struct daemon *d, struct vm *vm, const struct guard_start *s, struct reason *why)
{
	cleanup_json struct json_object *o = make_settings(d, vm, s);
	int r;

	if (mkdir(path_state_dir(&d->conf, vm->name).text, 0700) < 0 && errno != EEXIST)
		return reason_set(why, errno, "%s/%s: %s", d->conf.state_dir, vm->name,
				  strerror(errno));
	r = json_write_file(path_ha(&d->conf, vm->name, "json").text, o, 0600);
	if (r < 0)
		return reason_set(why, -r, "%s/ha cannot be written: %s", d->conf.run_dir,
				  strerror(-r));
	daemon_lock(d);
	vm->guard.primary = s->primary;
	snprintf(vm->guard.peer, sizeof(vm->guard.peer), "%s", s->peer);
	daemon_unlock(d);
	r = launch(d, vm, s->listen_fd, why);
	if (r < 0)
		forget(d, vm);
	else
		set_wanted(d, vm, s);
	return r;
}

int guard_restart(struct daemon *d, struct vm *vm, struct reason *why)
{
	int r = launch(d, vm, -1, why);

	daemon_lock(d);
	if (!r)
		vm->guard.trouble[0] = '\0';
	daemon_unlock(d);
	return r;
}

void guard_end(struct daemon *d, struct vm *vm)
{
	struct process p;

	daemon_lock(d);
	p = vm->guard.process;
	vm->guard.wanted = false;
	vm->guard.process = (struct process){ 0 };
	daemon_unlock(d);
	process_end(&p, vm->platform->end_ns);
	forget(d, vm);
}

bool guard_is_alone(struct daemon *d, const struct vm *vm)
{
	struct record rec;
	int r = record_read(path_state_dir(&d->conf, vm->name).text, &rec, NULL);

	return r == -ENOENT || (!r && rec.role == RECORD_ACTIVE);
}

int guard_call(struct daemon *d, const char *vm, struct json_object *request, uint64_t timeout_ns,
	       struct json_object **ret_reply, struct reason *why)
{
	cleanup_free char *reply = NULL;
	int r = ipc_call(path_ha(&d->conf, vm, "sock").text, json_line(request),
			 clock_now_ns() + timeout_ns, &reply);

	if (r < 0)
		return reason_set(why, -r, "pollux-ha of %s does not answer: %s", vm, strerror(-r));
	return json_parse(reply, "the answer of pollux-ha", ret_reply, why);
}

void guard_adopt(struct daemon *d, struct vm *vm)
{
	cleanup_json struct json_object *o = NULL;

	if (json_read_file(path_ha(&d->conf, vm->name, "run").text, &o, NULL) < 0)
		return;
	vm->guard.wanted = true;
	vm->guard.primary = json_flag(o, "primary");
	snprintf(vm->guard.peer, sizeof(vm->guard.peer), "%s", json_text(o, "peer", ""));
	vm->guard.process = process_get(o);
}

/* A primary's engine is started again, later each time; the VM runs on meanwhile. */
static void restart_later(struct daemon *d, struct vm *vm)
{
	struct guard *g = &vm->guard;
	struct path log = path_under(d->conf.log_dir, "%s-ha.log", vm->name);
	struct reason why;
	uint64_t wait;
	char words[120];

	if (clock_now_ns() < g->retry_at_ns)
		return;
	process_last_words(log.text, words, sizeof(words));
	daemon_lock(d);
	wait = MIN(NS_PER_S << MIN(g->restarts, 5u), BACKOFF_MAX_NS);
	g->restarts++;
	g->retry_at_ns = clock_now_ns() + wait;
	snprintf(g->trouble, sizeof(g->trouble), "pollux-ha has ended and is started again");
	daemon_unlock(d);
	events_add(d, vm->name, "ha.died", "pollux-ha has ended: %s",
		   words[0] ? words : "without a word");
	if (guard_restart(d, vm, &why) < 0) {
		daemon_lock(d);
		snprintf(g->trouble, sizeof(g->trouble), "%.190s", why.text);
		daemon_unlock(d);
		events_add(d, vm->name, "ha.failed", "pollux-ha does not start: %s", why.text);
	}
}

void guard_died(struct daemon *d, struct vm *vm)
{
	struct record rec = { .role = RECORD_NONE };

	if (!vm->guard.wanted || process_alive(&vm->guard.process))
		return;
	record_read(path_state_dir(&d->conf, vm->name).text, &rec, NULL);
	if (vm->standby && rec.role != RECORD_ACTIVE) {
		events_add(d, vm->name, "standby.ended",
			   "the standby's pollux-ha has ended; "
			   "it is made anew when %s asks",
			   vm->guard.peer);
		vm_end_keeping(d, vm);
		return;
	}
	/* What it had in memory went with it; a VM that stands still for ever helps nobody. */
	if (vm->standby && vm_stands_still(d, vm)) {
		events_add(d, vm->name, "takeover.died",
			   "pollux-ha has ended during the takeover, the VM never ran: "
			   "create it anew, from the disks here");
		vm_end(d, vm);
		return;
	}
	if (vm->standby)
		vm_becomes_active(d, vm);
	if (vm->guard.primary && rec.role != RECORD_STOPPED) {
		restart_later(d, vm);
		return;
	}
	events_add(d, vm->name, "ha.ended", "pollux-ha has ended; the VM is %s",
		   record_role_name(rec.role));
	/* Its last status stays: it tells how the takeover went. */
	daemon_lock(d);
	vm->guard.wanted = false;
	vm->guard.process = (struct process){ 0 };
	daemon_unlock(d);
}
