/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/verbs.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "tools/common/json.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/watch.h"
#include "tools/daemon/worker.h"

#define NAME_WAIT_NS (30 * NS_PER_S)

static const struct verb verbs[] = {
	{ "vm.create", true, verb_vm_create },	   { "vm.list", false, verb_vm_list },
	{ "vm.shutdown", true, verb_vm_shutdown }, { "vm.destroy", true, verb_vm_destroy },
	{ "vm.console", true, verb_vm_console },   { "protect", true, verb_protect },
	{ "unprotect", true, verb_unprotect },	   { "failover", true, verb_failover },
	{ "switchover", true, verb_switchover },   { "reprotect", true, verb_reprotect },
	{ "verify", true, verb_verify },	   { "status", false, verb_status },
	{ "version", false, verb_version },
};

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

void verb_refuse(struct verb_reply *reply, const char *code, const char *fmt, ...)
{
	va_list ap;

	reply->code = code;
	va_start(ap, fmt);
	vsnprintf(reply->error, sizeof(reply->error), fmt, ap);
	va_end(ap);
}

/* vm.create names its VM inside the configuration. */
static const char *name_in(struct json_object *request)
{
	struct json_object *config = json_member(request, "config");

	return config ? json_text(config, "name", NULL) : json_text(request, "vm", NULL);
}

/* Whoever read in the status that a VM arrived here may give orders by it at once. */
static void see_arrival(struct daemon *d, const char *name)
{
	struct vm *vm;

	daemon_lock(d);
	vm = vm_find(d, name);
	daemon_unlock(d);
	if (vm)
		watch_arrival(d, vm);
}

void verb_run(struct daemon *d, const struct verb *verb, struct json_object *request,
	      struct verb_reply *reply)
{
	const char *name = name_in(request);
	struct reason why;
	int r;

	if (!verb->changes) {
		verb->run(d, request, reply);
		return;
	}
	if (!name || text_check_name("vm", name, &why) < 0) {
		verb_refuse(reply, "bad-request", "%s",
			    name ? why.text : "the request names no VM");
		return;
	}
	r = worker_take_name(d, name, clock_now_ns() + NAME_WAIT_NS);
	if (r < 0) {
		verb_refuse(reply, "busy",
			    "something else is done with VM %s since 30 s; try again", name);
		return;
	}
	see_arrival(d, name);
	verb->run(d, request, reply);
	worker_drop_name(d, name);
}

char *verb_reply_text(struct verb_reply *reply)
{
	struct json_object *o = reply->o ? reply->o : json_object_new_object();
	char *text;

	json_add_bool(o, "ok", !reply->code);
	if (reply->code) {
		json_add_string(o, "code", reply->code);
		json_add_string(o, "error", reply->error);
	}
	text = strdup(json_line(o));
	json_object_put(o);
	reply->o = NULL;
	return text;
}
