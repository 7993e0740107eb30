/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/engine.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/urgent.h"
#include "ha/local.h"
#include "ha/record.h"
#include "ha/tls.h"

void engine_event(struct engine *e, const char *kind, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	local_event(e->local, kind, text);
}

void engine_finish(struct engine *e)
{
	sd_event_exit(e->loop, 0);
}

/* --- role --------------------------------------------------------------------------- */

static void be_loud(struct engine *e)
{
	struct role_word word;

	role_word(&e->role, clock_now_ns(), &word);
	engine_event(e, role_state_name(e->role.state), "%s (generation %llu)", word.text,
		     (unsigned long long)e->role.own.generation);
}

static void persist(struct engine *e, const struct record *record)
{
	struct reason why = { 0 };
	struct role_event ev = { .record = *record };
	int r = record_write(e->settings.record_dir, record, &why);

	ev.kind = r ? ROLE_EV_PERSIST_FAILED : ROLE_EV_PERSISTED;
	if (r)
		engine_event(e, "record-failed", "%s", why.text[0] ? why.text : strerror(-r));
	engine_feed(e, &ev);
}

int engine_feed(struct engine *e, const struct role_event *ev)
{
	struct role_actions a;
	int r = role_step(&e->role, ev, clock_now_ns(), &a);

	e->role_next_ns = a.next_ns;
	for (uint32_t left = a.set; left; left &= left - 1) {
		enum role_action action = left & -left;

		blackbox_record("act", action, a.epoch);

		if (action == ROLE_DO_LOUD)
			be_loud(e);
		else if (action != ROLE_DO_PERSIST)
			e->ops->act(e, action, &a);
	}
	/* What waits for the disk comes out of the step that is told that it is there. An action
	 * that failed has fed the role meanwhile: the newest record must be the last written. */
	if (a.set & ROLE_DO_PERSIST && a.record.role == e->role.own.role &&
	    a.record.generation == e->role.own.generation)
		persist(e, &a.record);
	return r;
}

/* --- the loop ----------------------------------------------------------------------- */

/* As many as there can be: a peer that never stops talking does not stop time. The rest
 * keeps the mailbox readable. */
static void read_letters(struct engine *e)
{
	struct letter l;

	for (unsigned int n = 0; n < MAILBOX_LETTERS && mailbox_take(e->mailbox, &l); n++)
		e->ops->letter(e, &l);
}

static void arm_timer(struct engine *e)
{
	uint64_t next = MIN(e->role_next_ns, e->side_next_ns);

	sd_event_source_set_time(e->timer, next == UINT64_MAX ? UINT64_MAX : next / NS_PER_US);
	sd_event_source_set_enabled(e->timer, SD_EVENT_ONESHOT);
}

void engine_wake_at(struct engine *e, uint64_t ns)
{
	e->side_next_ns = MIN(e->side_next_ns, ns);
	arm_timer(e);
}

/* Letters first: a tick looks for silence, and what was said is none. */
static void tick(struct engine *e)
{
	struct role_event ev = { .kind = ROLE_EV_TICK };

	read_letters(e);
	if (clock_now_ns() >= e->role_next_ns)
		engine_feed(e, &ev);
	e->side_next_ns = UINT64_MAX;
	e->side_next_ns = MIN(e->side_next_ns, e->ops->tick(e, clock_now_ns()));
	arm_timer(e);
}

static int timer_ready(sd_event_source *source, uint64_t usec, void *opaque)
{
	(void)source;
	(void)usec;
	tick(opaque);
	return 0;
}

static int mail_ready(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	(void)source;
	(void)fd;
	(void)revents;
	tick(opaque);
	return 0;
}

static struct json_object *status(struct engine *e)
{
	struct json_object *reply = local_ok();
	struct stats_view view = { .settings = &e->settings,
				   .role = &e->role,
				   .stats = &e->stats,
				   .now_ns = clock_now_ns(),
				   .encrypted = e->settings.encryption };

	e->ops->count(e);
	json_object_object_add(reply, "status", stats_json(&view));
	return reply;
}

#define TRACE_ENTRIES 2000u

/* The flight recorder's newest entries, for people and tests that ask what took how long. */
static struct json_object *trace(void)
{
	struct json_object *reply = local_ok(), *list = json_object_new_array();
	cleanup_free struct blackbox_entry *entry = calloc(TRACE_ENTRIES, sizeof(*entry));
	size_t n = entry ? blackbox_read(entry, TRACE_ENTRIES) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "ns", json_object_new_uint64(entry[i].ns));
		json_object_object_add(
			o, "what",
			json_object_new_string_len(entry[i].name, (int)strnlen(entry[i].name, 8)));
		json_object_object_add(o, "a", json_object_new_uint64(entry[i].a));
		json_object_object_add(o, "b", json_object_new_uint64(entry[i].b));
		json_object_array_add(list, o);
	}
	json_object_object_add(reply, "trace", list);
	return reply;
}

static struct json_object *answer(void *opaque, const char *verb, struct json_object *request)
{
	struct engine *e = opaque;
	struct json_object *reply;

	if (!strcmp(verb, "status"))
		return status(e);
	if (!strcmp(verb, "trace"))
		return trace();
	reply = e->ops->command(e, verb, request);
	arm_timer(e);
	return reply ? reply : local_refusal("bad-request", "this side knows no such verb");
}

/* --- life --------------------------------------------------------------------------- */

static int open_role(struct engine *e, struct reason *why)
{
	const struct settings *s = &e->settings;
	struct role_config config = { .timeout_ns = s->timeout_ns, .margin_ns = s->timeout_ns / 4 };
	struct record own;
	int r = record_read(s->record_dir, &own, why);

	config.heartbeat_ns = MIN(s->timeout_ns / 8, NS_PER_S);
	config.stall_alone = s->stall_alone;
	config.evidence_ns = MAX(4 * s->interval_ns, s->timeout_ns);
	if (r && r != -ENOENT)
		return r;
	r = role_open(&e->role, s->side, &config, r ? NULL : &own, s->peer);
	if (r)
		return reason_set(
			why, -r, "the record in %s does not let this host be the %s of %s",
			s->record_dir, s->side == ROLE_PRIMARY ? "primary" : "backup", s->vm);
	return 0;
}

static int open_loop(struct engine *e)
{
	sigset_t signals;
	int r = sd_event_new(&e->loop);

	if (r < 0)
		return r;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	sd_event_add_signal(e->loop, NULL, SIGTERM, NULL, NULL);
	sd_event_add_signal(e->loop, NULL, SIGINT, NULL, NULL);
	r = sd_event_add_time(e->loop, &e->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, timer_ready, e);
	if (r >= 0)
		r = sd_event_add_io(e->loop, NULL, mailbox_fd(e->mailbox), EPOLLIN, mail_ready, e);
	return MIN(r, 0);
}

/* Beside the socket: SOCKET.blackbox. Going without is no reason to fail. */
static void open_blackbox(const struct engine *e)
{
	char path[SETTINGS_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s.blackbox", e->settings.socket);
	blackbox_open(path);
}

static int open_shared(struct engine *e, struct reason *why)
{
	struct tls_settings tls = { .encryption = e->settings.encryption,
				    .ca = e->settings.ca,
				    .cert = e->settings.cert,
				    .key = e->settings.key };
	struct local_config local = {
		.path = e->settings.socket, .vm = e->settings.vm, .answer = answer, .opaque = e
	};
	struct refusal refusal = { 0 };
	int r = open_role(e, why);

	if (r)
		return r;
	r = tls_context_open(&e->tls, &tls, &refusal);
	if (r) {
		*why = refusal.why;
		return r;
	}
	r = mailbox_open(&e->mailbox);
	if (!r)
		r = open_loop(e);
	if (r)
		return reason_set(why, -r, "the event loop: %s", strerror(-r));
	open_blackbox(e);
	local.loop = e->loop;
	r = local_open(&local, &e->local);
	return r ? reason_set(why, -r, "%s: %s", e->settings.socket, strerror(-r)) : 0;
}

static void close_shared(struct engine *e)
{
	local_close(e->local);
	blackbox_close();
	sd_event_source_unref(e->timer);
	sd_event_unref(e->loop);
	mailbox_close(e->mailbox);
	if (e->tls)
		tls_context_close(e->tls);
}

int engine_run(const struct settings *settings, struct reason *why)
{
	struct engine e = {
		.ops = settings->side == ROLE_PRIMARY ? &primary_ops : &backup_ops,
		.settings = *settings,
		.role_next_ns = UINT64_MAX,
		.side_next_ns = UINT64_MAX,
	};
	struct role_event start = { .kind = ROLE_EV_START };
	int r = open_shared(&e, why);

	if (r)
		goto out;
	r = e.ops->open(&e, why);
	if (r)
		goto out;
	urgent_thread();
	engine_feed(&e, &start);
	tick(&e);
	r = sd_event_loop(e.loop);
	if (r < 0)
		reason_set(why, -r, "the event loop: %s", strerror(-r));
	e.ops->close(&e);
out:
	close_shared(&e);
	return r;
}
