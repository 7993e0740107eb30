/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about protection: protect, unprotect, reprotect, failover, switchover, verify, status. */
#include <stdio.h>

#include "base/clock.h"
#include "ha/record.h"
#include "netbuf/plug.h"
#include "tools/common/json.h"
#include "tools/common/version.h"
#include "tools/daemon/events.h"
#include "tools/daemon/guard.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/reprotect.h"
#include "tools/daemon/status.h"
#include "tools/daemon/verbs.h"
#include "tools/daemon/verbs_find.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/vm_drbd.h"
#include "tools/daemon/vm_platform.h"

#define ORDER_NS	(30 * NS_PER_S)
#define END_NS		(10 * NS_PER_S)
#define OUTCOME_NS	(4 * NS_PER_S) /* more than pollux-ha waits before it asks again */
#define OUTCOME_POLL_NS (50 * NS_PER_MS)
#define SWITCH_NS	(5 * NS_PER_S) /* unless the operator says otherwise */
#define SWITCH_MIN_NS	(100 * NS_PER_MS)
#define SWITCH_MAX_NS	(60 * NS_PER_S)
#define SWITCH_POLL_NS	(10 * NS_PER_MS)

static void list_peers(const struct conf *conf, char *ret, size_t room)
{
	size_t len = 0;

	ret[0] = '\0';
	for (unsigned int i = 0; i < conf->nr_peers && len < room; i++)
		len += (size_t)snprintf(ret + len, room - len, "%s%s", i ? ", " : "",
					conf->peer[i].name);
}

static const struct conf_peer *find_host(struct daemon *d, struct json_object *request,
					 struct verb_reply *reply)
{
	const char *host = json_text(request, "host", "");
	const struct conf_peer *peer = conf_find_peer(&d->conf, host);
	char known[200];

	if (peer)
		return peer;
	list_peers(&d->conf, known, sizeof(known));
	if (!strcmp(host, d->conf.name))
		verb_refuse(reply, "unknown-host", "%s is this host itself; known peers: %s", host,
			    known[0] ? known : "none");
	else
		verb_refuse(reply, "unknown-host",
			    "host \"%.64s\" is not in pollux.conf; known peers: %s. Add a section "
			    "[peer %.64s] with its address",
			    host, known[0] ? known : "none", host);
	return NULL;
}

static bool may_protect(struct daemon *d, struct vm *vm, struct verb_reply *reply)
{
	struct record rec;
	struct reason why;
	int r;

	if (vm->standby)
		verb_refuse(reply, "standby", "VM %s is the standby of %s: it is protected there",
			    vm->name, vm->guard.peer);
	else if (vm->guard.wanted && vm->guard.primary)
		verb_refuse(reply, "already-protected",
			    "VM %s is already protected to %s; pollux unprotect %s ends that",
			    vm->name, vm->guard.peer, vm->name);
	else if (vm->state == CONTROL_STOPPED)
		verb_refuse(reply, "stopped", "VM %s has stopped; destroy and create it first",
			    vm->name);
	if (reply->code)
		return false;
	r = record_read(path_state_dir(&d->conf, vm->name).text, &rec, &why);
	if (r < 0 && r != -ENOENT)
		verb_refuse(reply, "refused", "%s", why.text);
	return !reply->code;
}

/* Whether the backup still refuses: what is only busy at first gets a second chance. Or the
 * engine has ended, with a reason that it found here. */
static bool is_refused(struct daemon *d, struct vm *vm, char *ret, size_t room)
{
	uint64_t deadline = clock_now_ns() + OUTCOME_NS;
	bool begun = false;
	char text[220];

	do {
		nanosleep(&(struct timespec){ .tv_nsec = OUTCOME_POLL_NS }, NULL);
		daemon_lock(d);
		begun = vm->guard.status && !vm->guard.refusal[0] &&
			strcmp(json_text(vm->guard.status, "state", "starting"), "starting") &&
			strcmp(json_text(vm->guard.status, "state", ""), "solo");
		snprintf(text, sizeof(text), "%s", vm->guard.refusal);
		daemon_unlock(d);
		if (!process_alive(&vm->guard.process)) {
			guard_last_words(d, vm, ret, room);
			return true;
		}
	} while (!begun && clock_now_ns() < deadline);
	snprintf(ret, room, "%s cannot be the backup: %s", vm->guard.peer, text);
	return !begun && text[0];
}

static void give_up(struct daemon *d, struct vm *vm)
{
	cleanup_json struct json_object *o = json_object_new_object(), *answer = NULL;

	reprotect_remember(d, vm, NULL, NULL);
	json_add_string(o, "verb", "unprotect");
	json_add_bool(o, "force", false);
	json_add_string(o, "reason", "refused by the backup");
	if (!guard_call(d, vm->name, o, ORDER_NS, &answer, NULL) && json_flag(answer, "ok"))
		process_wait(&vm->guard.process, clock_now_ns() + END_NS);
	guard_end(d, vm);
}

/* What can be told before there is an engine, which looks further. */
static int check_here(struct daemon *d, struct vm *vm, const struct conf_protection *p,
		      struct reason *why)
{
	int r = 0;

	if (!strcmp(p->netbuf, "plug"))
		r = plug_check(why);
	if (!r)
		r = vm_drbd_check(vm->config, true, why);
	return r ?: vm_describe(d, vm, why);
}

static void protect(struct daemon *d, struct vm *vm, struct json_object *request,
		    struct verb_reply *reply)
{
	const struct conf_peer *peer = find_host(d, request, reply);
	struct conf_protection protection;
	struct guard_start s = { .primary = true, .protection = &protection, .listen_fd = -1 };
	char refusal[320];
	struct reason why;
	int r;

	if (!peer || !may_protect(d, vm, reply))
		return;
	s.options = json_member(request, "options");
	if (reprotect_options(d, s.options, &protection, &why) < 0) {
		verb_refuse(reply, "bad-request", "%s", why.text);
		return;
	}
	if (check_here(d, vm, &protection, &why) < 0) {
		verb_refuse(reply, "refused", "%s", why.text);
		return;
	}
	/* The pollux-ha of a takeover that is over: it has nothing left to do. */
	if (vm->guard.wanted)
		guard_end(d, vm);
	s.peer = peer->name;
	s.peer_address = peer->address;
	r = guard_start(d, vm, &s, &why);
	if (r < 0) {
		/* An engine that ended at once has found something missing. */
		verb_refuse(reply, r == -ECHILD ? "refused" : "failed", "%s", why.text);
		return;
	}
	reprotect_remember(d, vm, peer->name, s.options);
	events_add(d, vm->name, "protect", "protection to %s asked for", peer->name);
	if (!is_refused(d, vm, refusal, sizeof(refusal)))
		return;
	give_up(d, vm);
	verb_refuse(reply, "refused", "%s", refusal);
	events_add(d, vm->name, "protect.refused", "%s", refusal);
}

/* A domain that somebody else has made: from now on it is one of ours. */
static struct vm *adopt_domain(struct daemon *d, struct json_object *request,
			       struct verb_reply *reply)
{
	struct vm_start s = { .adopt = json_text(request, "vm", "") };
	struct reason why;
	struct vm *vm;

	if (vm_start(d, &s, &vm, &why) < 0) {
		verb_refuse(reply, "refused",
			    "VM %s is none of Pollux's here, and as a domain of "
			    "Xen: %s",
			    s.adopt, why.text);
		return NULL;
	}
	events_add(d, vm->name, "vm.adopted", "found running as domain %u", vm->domid);
	return vm;
}

void verb_protect(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm;
	bool adopted;

	daemon_lock(d);
	vm = vm_find(d, json_text(request, "vm", ""));
	daemon_unlock(d);
	adopted = !vm && vm_platform_of_host()->lives_on;
	vm = adopted ? adopt_domain(d, request, reply) : verb_find_vm(d, request, reply);
	if (!vm)
		return;
	protect(d, vm, request, reply);
	/* Refused, it is none of ours. */
	if (adopted && reply->code)
		vm_let_go(d, vm);
}

static bool is_guarded(struct vm *vm, struct verb_reply *reply)
{
	if (vm->guard.wanted)
		return true;
	verb_refuse(reply, "not-protected", "VM %s is not protected; pollux protect %s HOST begins",
		    vm->name, vm->name);
	return false;
}

static bool check_force(struct json_object *request, struct verb_reply *reply)
{
	if (!json_flag(request, "force") || json_text(request, "reason", "")[0])
		return true;
	verb_refuse(reply, "bad-request", "--force needs --reason TEXT: it is logged");
	return false;
}

/* pollux-ha's own refusal, with one of our codes. */
static void pass_refusal(struct json_object *answer, struct verb_reply *reply)
{
	static const char *const known[] = { "unsafe",	"timeout",	 "busy",
					     "refused", "not-protected", "bad-request" };
	const char *code = json_text(answer, "code", "");

	verb_refuse(reply, "failed", "%s", json_text(answer, "error", "pollux-ha refuses"));
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(known[i], code))
			reply->code = known[i];
}

static bool order(struct daemon *d, struct vm *vm, struct json_object *request,
		  struct verb_reply *reply)
{
	cleanup_json struct json_object *o = json_object_new_object(), *answer = NULL;
	struct reason why;

	json_add_copy(o, "verb", request);
	json_add_bool(o, "force", json_flag(request, "force"));
	json_add_string(o, "reason", json_text(request, "reason", ""));
	if (json_member(request, "timeout_ns"))
		json_add_copy(o, "timeout_ns", request);
	if (!process_alive(&vm->guard.process) && vm->guard.primary &&
	    guard_restart(d, vm, &why) < 0)
		verb_refuse(reply, "failed", "%s", why.text);
	else if (guard_call(d, vm->name, o, ORDER_NS, &answer, &why) < 0)
		verb_refuse(reply, "failed", "%s", why.text);
	else if (!json_flag(answer, "ok"))
		pass_refusal(answer, reply);
	return !reply->code;
}

/* An engine that ends whenever it is started cannot be asked, and need not be while nothing has to
 * be agreed with anybody. */
static bool is_over(struct daemon *d, struct vm *vm)
{
	return process_wait(&vm->guard.process, clock_now_ns() + NS_PER_S) >= 0 &&
	       guard_is_alone(d, vm);
}

void verb_unprotect(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	bool asked;

	if (!vm || !is_guarded(vm, reply) || !check_force(request, reply))
		return;
	if (!vm->guard.primary) {
		verb_refuse(reply, "refused",
			    "%s: protection ends on the primary; pollux unprotect %s on %s",
			    vm->standby ? "this is the standby" : "the VM took over here", vm->name,
			    vm->guard.peer);
		return;
	}
	asked = order(d, vm, request, reply);
	if (!asked && !is_over(d, vm))
		return;
	reply->code = NULL;
	process_wait(&vm->guard.process, clock_now_ns() + END_NS);
	reprotect_remember(d, vm, NULL, NULL);
	guard_end(d, vm);
	events_add(d, vm->name, "unprotect", "protection ended%s%s%.200s",
		   asked ? "" : ", pollux-ha could not be asked",
		   json_flag(request, "force") ? " by force: " : "",
		   json_flag(request, "force") ? json_text(request, "reason", "") : "");
}

void verb_reprotect(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	struct reason why;
	int r;

	if (!vm || !may_protect(d, vm, reply))
		return;
	if (!vm->wish.peer[0]) {
		verb_refuse(reply, "refused", "VM %s has not moved here; pollux protect %s HOST",
			    vm->name, vm->name);
		return;
	}
	r = reprotect_start(d, vm, &why);
	if (r < 0)
		verb_refuse(reply, r == -EPERM || r == -ENOENT ? "refused" : "failed", "%s",
			    why.text);
}

void verb_failover(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);

	if (!vm || !is_guarded(vm, reply))
		return;
	if (order(d, vm, request, reply))
		events_add(d, vm->name, "failover", "asked for");
}

/* The record is what counts: once it says "stopped" the VM is the other host's. */
static bool has_yielded(struct daemon *d, struct vm *vm)
{
	struct record rec;

	return !record_read(path_state_dir(&d->conf, vm->name).text, &rec, NULL) &&
	       rec.role == RECORD_STOPPED;
}

/* What the engine says of itself now; "" when it says nothing. */
static void ask_state(struct daemon *d, struct vm *vm, char *ret, size_t room)
{
	cleanup_json struct json_object *o = json_object_new_object(), *answer = NULL;

	*ret = '\0';
	json_add_string(o, "verb", "status");
	if (!guard_call(d, vm->name, o, NS_PER_S, &answer, NULL))
		snprintf(ret, room, "%s", json_text(json_member(answer, "status"), "state", ""));
}

static void await_switchover(struct daemon *d, struct vm *vm, uint64_t timeout_ns,
			     struct verb_reply *reply)
{
	uint64_t deadline = clock_now_ns() + timeout_ns + END_NS;
	char state[32], limit[32];

	do {
		if (has_yielded(d, vm)) {
			events_add(d, vm->name, "switchover",
				   "VM given to %s, which alone may run it", vm->guard.peer);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = SWITCH_POLL_NS }, NULL);
		ask_state(d, vm, state, sizeof(state));
	} while ((!*state || !strcmp(state, "switching") || has_yielded(d, vm)) &&
		 clock_now_ns() < deadline);
	if (!strcmp(state, "protected"))
		verb_refuse(reply, "timeout",
			    "%s did not acknowledge the last epoch within %s; nothing has changed, "
			    "VM %s runs on here",
			    vm->guard.peer, text_duration(timeout_ns, limit, sizeof(limit)),
			    vm->name);
	else
		verb_refuse(reply, "failed",
			    "the switchover was broken off, VM %s is \"%s\" here; see pollux "
			    "status %s",
			    vm->name, state, vm->name);
}

void verb_switchover(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	uint64_t timeout_ns = json_number(request, "timeout_ns", SWITCH_NS);

	if (!vm || !is_guarded(vm, reply))
		return;
	if (!vm->guard.primary) {
		verb_refuse(reply, "refused", "VM %s runs on %s: pollux switchover %s there",
			    vm->name, vm->guard.peer, vm->name);
		return;
	}
	if (timeout_ns < SWITCH_MIN_NS || timeout_ns > SWITCH_MAX_NS) {
		verb_refuse(reply, "bad-request", "timeout: %llu ns is not between 100ms and 60s",
			    (unsigned long long)timeout_ns);
		return;
	}
	json_add_u64(request, "timeout_ns", timeout_ns);
	if (order(d, vm, request, reply))
		await_switchover(d, vm, timeout_ns, reply);
}

/* Begins it; how far it is, and what it finds, is in the status from then on. */
void verb_verify(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	struct vm *vm = verb_find_vm(d, request, reply);
	cleanup_json struct json_object *o = json_object_new_object(), *answer = NULL;
	struct reason why;

	if (!vm || !is_guarded(vm, reply))
		return;
	if (!vm->guard.primary) {
		verb_refuse(reply, "refused", "VM %s runs on %s: pollux verify %s there", vm->name,
			    vm->guard.peer, vm->name);
		return;
	}
	json_add_string(o, "verb", "verify");
	json_add_bool(o, "memory", json_flag(request, "memory"));
	json_add_bool(o, "disks", json_flag(request, "disks"));
	json_add_bool(o, "repair", json_flag(request, "repair"));
	if (guard_call(d, vm->name, o, ORDER_NS, &answer, &why) < 0) {
		verb_refuse(reply, "failed", "%s", why.text);
	} else if (!json_flag(answer, "ok")) {
		pass_refusal(answer, reply);
	} else {
		reply->o = json_object_new_object();
		json_add_copy(reply->o, "number", answer);
	}
}

void verb_status(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	const char *name = json_text(request, "vm", NULL);

	reply->o = status_make(d, name);
	if (!reply->o)
		verb_refuse(reply, "unknown-vm",
			    "VM %s does not exist on %s; pollux vm list shows "
			    "those that do",
			    name, d->conf.name);
}

void verb_version(struct daemon *d, struct json_object *request, struct verb_reply *reply)
{
	(void)request;
	reply->o = json_object_new_object();
	json_add_string(reply->o, "version", POLLUX_VERSION);
	json_add_string(reply->o, "host", d->conf.name);
}
