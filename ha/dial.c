/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/dial.h"

#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "base/clock.h"
#include "ha/errand.h"
#include "ha/mailbox.h"

struct dial {
	struct dial_config config;
	pthread_t thread;
	bool busy; /* main thread: a thread runs or is not joined */
	int interrupt_fd;
	uint64_t generation;
	uint16_t port;
	struct dial_connected connected; /* the thread's until its letter is posted */
	struct resync resync;		 /* likewise */
};

static struct json_object *disks_json(const struct dial_config *c)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = 0; i < c->nr_disks; i++) {
		struct json_object *disk = json_object_new_object();

		json_object_object_add(disk, "path", json_object_new_string(c->disks[i].path));
		json_object_object_add(disk, "bytes", json_object_new_uint64(c->disks[i].bytes));
		json_object_array_add(list, disk);
	}
	return list;
}

/* What the standby's engine must know beyond its own host's configuration. */
static struct json_object *options_json(const struct settings *s)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "timeout_ns", json_object_new_uint64(s->timeout_ns));
	json_object_object_add(o, "interval_ns", json_object_new_uint64(s->interval_ns));
	json_object_object_add(o, "disk_ring_bytes", json_object_new_uint64(s->disk_ring_bytes));
	json_object_object_add(o, "commit",
			       json_object_new_string(s->commit_disk ? "disk" : "memory"));
	json_object_object_add(o, "oracle", json_object_new_boolean(s->oracle));
	return o;
}

static struct resync_config resync_config(const struct dial *d)
{
	const struct settings *s = d->config.settings;

	return (struct resync_config){ .run_dir = s->run_dir,
				       .state_dir = s->record_dir,
				       .peer = s->peer,
				       .generation = d->generation,
				       .nr_disks = d->config.nr_disks };
}

static struct json_object *request_json(const struct dial *d, const struct resync_offer *offer)
{
	const struct settings *s = d->config.settings;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "verb", json_object_new_string("prepare"));
	json_object_object_add(o, "vm", json_object_new_string(s->vm));
	json_object_object_add(o, "uuid", json_object_new_string(s->uuid_text));
	json_object_object_add(o, "generation", json_object_new_uint64(d->generation));
	json_object_object_add(o, "from", json_object_new_string(s->host));
	json_object_object_add(o, "config", json_object_get(s->config));
	if (s->options)
		json_object_object_add(o, "options", json_object_get(s->options));
	json_object_object_add(o, "disks", disks_json(&d->config));
	json_object_object_add(o, "memory_bytes", json_object_new_uint64(d->config.memory_bytes));
	json_object_object_add(o, "timeout_ns", json_object_new_uint64(s->timeout_ns));
	json_object_object_add(o, "settings", options_json(s));
	resync_put_offer(offer, o);
	return o;
}

static uint64_t get_u64(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_int)
		       ? json_object_get_uint64(v)
		       : 0;
}

static const char *get_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_get_string(v)
		       ? json_object_get_string(v)
		       : "";
}

/* What the other host answered, as a letter; anything that is no clear answer is a failure.
 * The disks' part is done here, where waiting for a disk delays nobody. */
static void read_answer(struct dial *d, const struct resync_offer *offer, const char *reply,
			struct letter *ret)
{
	struct resync_config config = resync_config(d);
	struct json_object *o = json_tokener_parse(reply), *ok;
	bool yes = o && json_object_object_get_ex(o, "ok", &ok) && json_object_get_boolean(ok);
	uint64_t port = o ? get_u64(o, "port") : 0;

	ret->kind = LETTER_DIAL_FAILED;
	ret->generation = o ? get_u64(o, "generation") : 0;
	if (yes && port && port <= UINT16_MAX && ret->generation) {
		resync_settle(&config, offer, o, &d->resync);
		ret->kind = LETTER_PREPARED;
		ret->value = port;
	} else if (o && !yes && !strcmp(get_text(o, "code"), "active")) {
		ret->kind = LETTER_REFUSED;
	}
	if (!yes)
		reason_set(&ret->why, EREMOTEIO, "%s",
			   o ? get_text(o, "error") : "the other host's answer is no JSON");
	json_object_put(o);
}

static void *prepare(void *opaque)
{
	struct dial *d = opaque;
	const struct settings *s = d->config.settings;
	struct errand_peer peer = {
		.to = { .host = s->peer_host, .port = s->peer_port },
		.peer_name = s->peer,
		.deadline_ns = clock_now_ns() + PROTO_REQUEST_NS,
		.interrupt_fd = d->interrupt_fd,
	};
	struct resync_config config = resync_config(d);
	struct letter l = { .kind = LETTER_DIAL_FAILED };
	cleanup_free char *reply = NULL;
	struct json_object *request;
	struct resync_offer offer;
	struct refusal why = { 0 };

	resync_offer(&config, &offer);
	request = request_json(d, &offer);

	if (errand_call(d->config.tls, &peer, json_object_to_json_string(request), &reply, &why))
		l.why = why.why;
	else
		read_answer(d, &offer, reply, &l);
	json_object_put(request);
	mailbox_post(d->config.mailbox, &l);
	return NULL;
}

static int connect_one(struct dial *d, enum proto_kind kind, uint64_t session,
		       struct transport **ret, struct proto_welcome *ret_welcome,
		       struct refusal *why)
{
	const struct settings *s = d->config.settings;
	struct transport_dial to = {
		.to = { .host = s->peer_host, .port = d->port },
		.peer_name = s->peer,
		.deadline_ns = clock_now_ns() + PROTO_CONNECT_NS,
		.interrupt_fd = -1,
	};
	struct proto_hello hello = {
		.version_min = PROTO_VERSION_MIN,
		.version_max = PROTO_VERSION,
		.features = PROTO_FEATURES_KNOWN,
		.codecs = CODEC_ALL,
		.kind = (uint8_t)kind,
		.session = session,
		.memory_bytes = d->config.memory_bytes,
		.generation = d->generation,
		.epoch_limit = UINT64_MAX,
		.page_bytes = PROTO_PAGE_BYTES,
		.nr_disks = (uint16_t)d->config.nr_disks,
	};
	struct message answer;
	struct transport *t;
	int r = transport_connect(&t, d->config.tls, &to, why);

	if (r)
		return r;
	memcpy(hello.uuid, s->uuid, sizeof(hello.uuid));
	snprintf(hello.vm, sizeof(hello.vm), "%s", s->vm);
	r = transport_greet(t, &hello, &answer, why);
	if (r) {
		transport_close(t);
		return r;
	}
	transport_start_epochs(t, 1);
	*ret_welcome = answer.welcome;
	*ret = t;
	return 0;
}

static void *connect_both(void *opaque)
{
	struct dial *d = opaque;
	struct letter l = { .kind = LETTER_CONNECTED };
	struct proto_welcome ignored;
	struct refusal why = { 0 };
	uint64_t session = 0;
	int r;

	if (getrandom(&session, sizeof(session), 0) < 0 || !session)
		session = clock_now_ns();
	r = connect_one(d, PROTO_KIND_BULK, session, &d->connected.bulk, &d->connected.welcome,
			&why);
	if (!r) {
		r = connect_one(d, PROTO_KIND_HEART, session, &d->connected.heart, &ignored, &why);
		if (r) {
			transport_close(d->connected.bulk);
			d->connected.bulk = NULL;
		}
	}
	if (r) {
		l.kind = LETTER_DIAL_FAILED;
		l.why = why.why;
	}
	mailbox_post(d->config.mailbox, &l);
	return NULL;
}

static int launch(struct dial *d, void *(*run)(void *))
{
	int r;

	if (d->busy)
		return -EBUSY;
	r = -pthread_create(&d->thread, NULL, run, d);
	d->busy = !r;
	return r;
}

int dial_prepare(struct dial *d, uint64_t generation)
{
	if (d->busy)
		return -EBUSY;
	d->generation = generation;
	return launch(d, prepare);
}

int dial_connect(struct dial *d, uint64_t generation, uint16_t port)
{
	if (d->busy)
		return -EBUSY;
	d->generation = generation;
	d->port = port;
	return launch(d, connect_both);
}

void dial_finish(struct dial *d)
{
	if (!d->busy)
		return;
	pthread_join(d->thread, NULL);
	d->busy = false;
}

void dial_take_connected(struct dial *d, struct dial_connected *ret)
{
	*ret = d->connected;
	d->connected = (struct dial_connected){ 0 };
}

const struct resync *dial_resync(const struct dial *d)
{
	return &d->resync;
}

bool dial_is_busy(const struct dial *d)
{
	return d->busy;
}

int dial_open(const struct dial_config *config, struct dial **ret)
{
	struct dial *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->config = *config;
	d->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->interrupt_fd < 0) {
		free(d);
		return -errno;
	}
	*ret = d;
	return 0;
}

void dial_close(struct dial *d)
{
	if (!d)
		return;
	eventfd_write(d->interrupt_fd, 1);
	dial_finish(d);
	transport_close(d->connected.bulk);
	transport_close(d->connected.heart);
	close(d->interrupt_fd);
	free(d);
}
