/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/guard_poll.h"

#include <stdio.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/ipc.h"
#include "tools/common/json.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/watch.h"

#define RETRY_NS NS_PER_S

static void drop_poll(struct guard *g)
{
	g->poll_source = sd_event_source_disable_unref(g->poll_source);
	ipc_close(g->poll);
	g->poll = NULL;
	g->asked_at_ns = 0;
}

static void drop_stream(struct guard *g)
{
	g->stream_source = sd_event_source_disable_unref(g->stream_source);
	ipc_close(g->stream);
	g->stream = NULL;
}

void guard_poll_stop(struct vm *vm)
{
	drop_poll(&vm->guard);
	drop_stream(&vm->guard);
}

/* A primary that looks for its backup. */
static bool is_alone(struct json_object *status)
{
	const char *state = json_text(status, "state", "");

	return !strcmp(state, "solo") || !strcmp(state, "starting");
}

static void take_status(struct vm *vm, const char *text)
{
	struct json_object *o, *status;
	struct guard *g = &vm->guard;

	if (json_parse(text, "status", &o, NULL) < 0)
		return;
	if (json_flag(o, "ok") && !json_get_object(o, "status", &status, NULL)) {
		daemon_lock(vm->daemon);
		json_object_put(g->status);
		g->status = json_object_get(status);
		g->status_at_ns = clock_now_ns();
		g->trouble[0] = '\0';
		if (!is_alone(status))
			g->refusal[0] = '\0';
		if (json_flag(status, "protected"))
			g->restarts = 0;
		daemon_unlock(vm->daemon);
	}
	json_object_put(o);
}

static int on_status(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct vm *vm = user;
	struct guard *g = &vm->guard;
	const char *text;
	int r;

	(void)source, (void)fd, (void)revents;
	while (!(r = ipc_receive(g->poll, &text))) {
		g->asked_at_ns = 0;
		take_status(vm, text);
	}
	if (r != -EAGAIN) {
		/* What it said last protects nobody from here on (P5). */
		daemon_lock(vm->daemon);
		if (g->wanted && !g->trouble[0])
			snprintf(g->trouble, sizeof(g->trouble), "pollux-ha has hung up");
		daemon_unlock(vm->daemon);
		drop_poll(g);
	}
	return 0;
}

/* Why there is no backup belongs into the one word, not into the log alone. */
static void take_event(struct vm *vm, struct json_object *event)
{
	if (!strcmp(json_text(event, "kind", ""), "no-backup")) {
		daemon_lock(vm->daemon);
		snprintf(vm->guard.refusal, sizeof(vm->guard.refusal), "%s",
			 json_text(event, "text", ""));
		daemon_unlock(vm->daemon);
	}
	events_take(vm->daemon, vm->name, event);
}

static int on_event(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct vm *vm = user;
	struct json_object *o, *event;
	const char *text;
	int r;

	(void)source, (void)fd, (void)revents;
	while (!(r = ipc_receive(vm->guard.stream, &text))) {
		if (json_parse(text, "event", &o, NULL) < 0)
			continue;
		if (!json_get_object(o, "event", &event, NULL))
			take_event(vm, event);
		json_object_put(o);
	}
	if (r != -EAGAIN)
		drop_stream(&vm->guard);
	return 0;
}

static int open_one(struct daemon *d, struct vm *vm, sd_event_io_handler_t fn, struct ipc **ret,
		    sd_event_source **ret_source)
{
	struct path sock = path_ha(&d->conf, vm->name, "sock");
	/* The backlog of a process that hangs may be full: never wait for it here. */
	int r = ipc_connect(sock.text, clock_now_ns() + NS_PER_MS, ret);

	if (r < 0)
		return r;
	r = sd_event_add_io(d->loop, ret_source, ipc_fd(*ret), EPOLLIN, fn, vm);
	if (r < 0) {
		ipc_close(*ret);
		*ret = NULL;
	}
	return r;
}

static void open_both(struct daemon *d, struct vm *vm)
{
	struct guard *g = &vm->guard;
	uint64_t now = clock_now_ns();

	if ((g->poll && g->stream) || now < g->connect_at_ns)
		return;
	g->connect_at_ns = now + RETRY_NS;
	if (!g->poll)
		open_one(d, vm, on_status, &g->poll, &g->poll_source);
	if (!g->stream && !open_one(d, vm, on_event, &g->stream, &g->stream_source) &&
	    ipc_send(g->stream, "{\"verb\":\"events\"}") < 0)
		drop_stream(g);
}

void guard_poll(struct daemon *d, struct vm *vm, bool wanted)
{
	struct guard *g = &vm->guard;
	uint64_t now = clock_now_ns(), heard;

	if (!wanted) {
		guard_poll_stop(vm);
		return;
	}
	open_both(d, vm);
	if (!g->poll)
		return;
	if (g->asked_at_ns && now - g->asked_at_ns > WATCH_FRESH_NS) {
		drop_poll(g);
		return;
	}
	daemon_lock(d);
	heard = g->status_at_ns;
	daemon_unlock(d);
	if (g->asked_at_ns || now - heard < WATCH_EVERY_NS / 2)
		return;
	g->asked_at_ns = now;
	if (ipc_send(g->poll, "{\"verb\":\"status\"}") < 0)
		drop_poll(g);
}
