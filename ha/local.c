/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/local.h"

#include <json-c/json.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ipc.h"
#include "base/log.h"

#define CLIENTS_MAX 32u

struct local {
	struct local_config config;
	int listen_fd;
	sd_event_source *listening;
	struct client {
		struct local *local;
		struct ipc *ipc;
		sd_event_source *source;
		bool wants_events;
	} client[CLIENTS_MAX];
};

struct json_object *local_ok(void)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "ok", json_object_new_boolean(true));
	return o;
}

struct json_object *local_refusal(const char *code, const char *error)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "ok", json_object_new_boolean(false));
	json_object_object_add(o, "code", json_object_new_string(code));
	json_object_object_add(o, "error", json_object_new_string(error));
	return o;
}

static void drop_client(struct client *c)
{
	sd_event_source_disable_unref(c->source);
	ipc_close(c->ipc);
	*c = (struct client){ .local = c->local };
}

static void watch(struct client *c)
{
	sd_event_source_set_io_events(c->source,
				      EPOLLIN | (ipc_wants_write(c->ipc) ? EPOLLOUT : 0));
}

static struct json_object *answer(struct client *c, const char *text)
{
	struct json_object *request = json_tokener_parse(text), *verb, *reply;
	const char *name;

	if (!request || !json_object_object_get_ex(request, "verb", &verb) ||
	    !json_object_is_type(verb, json_type_string)) {
		json_object_put(request);
		return local_refusal("bad-request", "a request is a JSON object with a verb");
	}
	name = json_object_get_string(verb);
	if (!strcmp(name, "events")) {
		c->wants_events = true;
		reply = local_ok();
	} else {
		reply = c->local->config.answer(c->local->config.opaque, name, request);
	}
	json_object_put(request);
	return reply;
}

static int client_ready(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct client *c = opaque;
	const char *text;
	int r = 0;

	(void)source;
	(void)fd;
	if (revents & EPOLLOUT)
		r = ipc_flush(c->ipc);
	while (!r && !(r = ipc_receive(c->ipc, &text))) {
		struct json_object *reply = answer(c, text);

		r = ipc_send(c->ipc, json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN));
		json_object_put(reply);
	}
	if (r != -EAGAIN)
		drop_client(c);
	else
		watch(c);
	return 0;
}

static struct client *free_client(struct local *l)
{
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		if (!l->client[i].ipc)
			return &l->client[i];
	return NULL;
}

static int accept_ready(sd_event_source *source, int fd, uint32_t revents, void *opaque)
{
	struct local *l = opaque;
	struct client *c = free_client(l);
	struct ipc *ipc;

	(void)source;
	(void)revents;
	if (ipc_accept(fd, &ipc, NULL))
		return 0;
	if (!c) {
		ipc_close(ipc); /* a queue of that length serves nobody */
		return 0;
	}
	c->ipc = ipc;
	if (sd_event_add_io(l->config.loop, &c->source, ipc_fd(ipc), EPOLLIN, client_ready, c) < 0)
		drop_client(c);
	return 0;
}

int local_open(const struct local_config *config, struct local **ret)
{
	struct local *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->config = *config;
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		l->client[i].local = l;
	r = ipc_listen(config->path, 0600, &l->listen_fd);
	if (r)
		goto err_free;
	r = sd_event_add_io(config->loop, &l->listening, l->listen_fd, EPOLLIN, accept_ready, l);
	if (r < 0)
		goto err_listen;
	*ret = l;
	return 0;
err_listen:
	close(l->listen_fd);
	unlink(config->path);
err_free:
	free(l);
	return r;
}

void local_close(struct local *l)
{
	if (!l)
		return;
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		if (l->client[i].ipc)
			drop_client(&l->client[i]);
	sd_event_source_disable_unref(l->listening);
	close(l->listen_fd);
	unlink(l->config.path);
	free(l);
}

void local_event(struct local *l, const char *kind, const char *text)
{
	struct json_object *o = json_object_new_object(), *e = json_object_new_object();

	log_notice("event=%s %s", kind, text);
	json_object_object_add(e, "time_ns", json_object_new_uint64(clock_wall_ns()));
	json_object_object_add(e, "vm", json_object_new_string(l->config.vm));
	json_object_object_add(e, "kind", json_object_new_string(kind));
	json_object_object_add(e, "text", json_object_new_string(text));
	json_object_object_add(o, "event", e);
	for (unsigned int i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &l->client[i];

		if (c->ipc && c->wants_events &&
		    !ipc_send(c->ipc, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN)))
			watch(c);
	}
	json_object_put(o);
}
