/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/door.h"

#include <grp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/ipc.h"
#include "base/log.h"
#include "tools/common/json.h"
#include "tools/daemon/audit.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/verbs.h"
#include "tools/daemon/worker.h"

#define MAX_GROUPS 256

struct client {
	struct client *next;
	struct door *door;
	struct ipc *ipc;
	sd_event_source *source;
	bool may_change;
	struct ucred who;
	bool gone;    /* freed once no worker answers it */
	bool working; /* a worker has its question: under the daemon's lock */
	char *answer; /* what the worker found: under the daemon's lock */
	bool follows;
	uint64_t seen; /* the last event sent */
};

struct door {
	struct daemon *d;
	int fd;
	sd_event_source *source;
	struct client *clients;
	unsigned int nr_clients, nr_lookers;
};

/* One question given to a worker. */
struct question {
	struct client *client;
	const struct verb *verb;
	struct json_object *request;
	struct ucred who;
};

/* --- who may -------------------------------------------------------------------------------- */

static bool in_group(int fd, gid_t group, gid_t primary)
{
	gid_t groups[MAX_GROUPS];
	socklen_t len = sizeof(groups);

	if (primary == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == group)
			return true;
	return false;
}

static bool may_change(int fd, const struct ucred *peer)
{
	struct group entry, *found = NULL;
	char buffer[4096];

	if (peer->uid == 0 || peer->uid == geteuid())
		return true;
	if (getgrnam_r(DOOR_GROUP, &entry, buffer, sizeof(buffer), &found) || !found)
		return false;
	return in_group(fd, found->gr_gid, peer->gid);
}

/* --- clients -------------------------------------------------------------------------------- */

static void watch_writes(struct client *c)
{
	sd_event_source_set_io_events(c->source,
				      EPOLLIN | (ipc_wants_write(c->ipc) ? EPOLLOUT : 0));
}

static void drop(struct client *c)
{
	c->gone = true;
	c->source = sd_event_source_disable_unref(c->source);
	ipc_close(c->ipc);
	c->ipc = NULL;
}

static void say(struct client *c, const char *text)
{
	if (c->gone)
		return;
	if (ipc_send(c->ipc, text) < 0)
		drop(c);
	else
		watch_writes(c);
}

static void answer(struct client *c, struct verb_reply *reply)
{
	cleanup_free char *text = verb_reply_text(reply);

	if (text)
		say(c, text);
}

static void refuse(struct client *c, const char *code, const char *text)
{
	struct verb_reply reply = { 0 };

	verb_refuse(&reply, code, "%s", text);
	answer(c, &reply);
}

static void free_gone(struct door *l)
{
	for (struct client **at = &l->clients; *at;) {
		struct client *c = *at;
		bool working;

		daemon_lock(l->d);
		working = c->working;
		daemon_unlock(l->d);
		if (!c->gone || working) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		l->nr_clients--;
		l->nr_lookers -= !c->may_change;
		free(c->answer);
		free(c);
	}
}

/* --- questions ------------------------------------------------------------------------------ */

static void work(struct daemon *d, void *arg)
{
	struct question *q = arg;
	struct verb_reply reply = { 0 };
	uint64_t order;
	char *text;

	order = audit_asked(d, &q->who, q->request);
	verb_run(d, q->verb, q->request, &reply);
	audit_done(d, order, &reply);
	text = verb_reply_text(&reply);
	json_object_put(q->request);
	daemon_lock(d);
	q->client->answer = text;
	q->client->working = false;
	daemon_unlock(d);
	free(q);
	daemon_wake(d);
}

/* Takes the request. */
static void give_to_worker(struct client *c, const struct verb *verb, struct json_object *request)
{
	struct daemon *d = c->door->d;
	struct question *q = malloc(sizeof(*q));

	if (q) {
		*q = (struct question){ c, verb, request, c->who };
		daemon_lock(d);
		c->working = true;
		daemon_unlock(d);
		if (!worker_run(d, work, q))
			return;
		daemon_lock(d);
		c->working = false;
		daemon_unlock(d);
		free(q);
	}
	json_object_put(request);
	refuse(c, "busy", "too many requests at a time; try again");
}

static bool say_next_event(struct client *c)
{
	cleanup_free char *text = events_next(c->door->d, c->seen, &c->seen);
	cleanup_free char *line = NULL;

	if (!text || asprintf(&line, "{\"event\":%s}", text) < 0) {
		line = NULL;
		return false;
	}
	say(c, line);
	return !c->gone;
}

/* A slow reader gets them later: never more than one waits in its queue. */
static void send_events(struct client *c)
{
	while (!c->gone && !ipc_wants_write(c->ipc) && say_next_event(c))
		;
}

static void ask_events(struct client *c, struct json_object *request)
{
	uint64_t last = json_number(request, "last", EVENTS_KEPT);

	c->seen = events_before(c->door->d, (unsigned int)MIN(last, EVENTS_KEPT));
	c->follows = json_flag(request, "follow");
	if (c->follows) {
		send_events(c);
		return;
	}
	/* All at once: EVENTS_KEPT * EVENTS_TEXT_MAX fit into what a reader may owe. */
	while (say_next_event(c))
		;
	if (!c->gone)
		say(c, "{\"ok\":true}");
}

static void ask(struct client *c, const char *text)
{
	struct json_object *request;
	const struct verb *verb;
	const char *name;
	struct reason why;

	if (json_parse(text, "the request", &request, &why) < 0) {
		refuse(c, "bad-request", why.text);
		return;
	}
	name = json_text(request, "verb", "");
	verb = verb_find(name);
	if (!strcmp(name, "events")) {
		ask_events(c, request);
	} else if (!verb) {
		refuse(c, "bad-request", "unknown verb; the programs may be of different versions");
	} else if (verb->changes && !c->may_change) {
		refuse(c, "not-permitted", "only root and members of the group pollux may do this");
	} else if (verb->changes) {
		give_to_worker(c, verb, request);
		return;
	} else {
		struct verb_reply reply = { 0 };

		verb_run(c->door->d, verb, request, &reply);
		answer(c, &reply);
	}
	json_object_put(request);
}

static bool is_working(struct client *c)
{
	bool working;

	daemon_lock(c->door->d);
	working = c->working || c->answer;
	daemon_unlock(c->door->d);
	return working;
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct client *c = user;
	const char *text;
	int r = 0;

	(void)source, (void)fd;
	if (revents & EPOLLOUT)
		r = ipc_flush(c->ipc);
	/* One question at a time: a second one while a worker has the first ends it. */
	while (!r && !c->gone && !(r = ipc_receive(c->ipc, &text))) {
		if (is_working(c))
			r = -EPROTO;
		else
			ask(c, text);
	}
	if (c->gone)
		return 0;
	if (r < 0 && r != -EAGAIN) {
		drop(c);
		return 0;
	}
	if (c->follows)
		send_events(c);
	if (!c->gone)
		watch_writes(c);
	return 0;
}

static int on_connect(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct door *l = user;
	struct client *c;
	struct ipc *ipc;
	struct ucred peer;
	bool change, full;

	(void)source, (void)revents;
	free_gone(l);
	if (ipc_accept(fd, &ipc, &peer) < 0)
		return 0;
	change = may_change(ipc_fd(ipc), &peer);
	full = l->nr_clients >= DOOR_MAX_CLIENTS || (!change && l->nr_lookers >= DOOR_MAX_LOOKERS);
	c = full ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		ipc_send(ipc, "{\"ok\":false,\"code\":\"busy\",\"error\":\"too many connections; "
			      "try again\"}");
		ipc_close(ipc);
		return 0;
	}
	c->door = l;
	c->ipc = ipc;
	c->may_change = change;
	c->who = peer;
	l->nr_lookers += !change;
	c->next = l->clients;
	l->clients = c;
	l->nr_clients++;
	if (sd_event_add_io(l->d->loop, &c->source, ipc_fd(ipc), EPOLLIN, on_client, c) < 0)
		drop(c);
	return 0;
}

void door_look(struct door *l)
{
	for (struct client *c = l->clients; c; c = c->next) {
		cleanup_free char *text = NULL;

		daemon_lock(l->d);
		text = c->answer;
		c->answer = NULL;
		daemon_unlock(l->d);
		if (text)
			say(c, text);
		if (c->follows && !c->gone)
			send_events(c);
	}
	free_gone(l);
}

int door_open(struct daemon *d, struct door **ret, struct reason *why)
{
	struct path path = path_under(d->conf.run_dir, "polluxd.sock");
	struct door *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return reason_set(why, ENOMEM, "out of memory");
	l->d = d;
	r = ipc_listen(path.text, 0666, &l->fd);
	if (r < 0) {
		free(l);
		return reason_set(why, -r, "%s: %s", path.text,
				  r == -EADDRINUSE ? "another polluxd runs" : strerror(-r));
	}
	r = sd_event_add_io(d->loop, &l->source, l->fd, EPOLLIN, on_connect, l);
	if (r < 0) {
		close(l->fd);
		free(l);
		return reason_set(why, -r, "event loop: %s", strerror(-r));
	}
	*ret = l;
	return 0;
}

void door_close(struct door *l)
{
	if (!l)
		return;
	for (struct client *c = l->clients; c; c = c->next)
		if (!c->gone)
			drop(c);
	free_gone(l);
	sd_event_source_disable_unref(l->source);
	close(l->fd);
	free(l);
}
