/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/events.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/common/json.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/paths.h"

/* A lock of its own, so that events can be added with or without the daemon's: it is the
 * last one taken and nothing is called under it. */
struct events {
	pthread_mutex_t lock;
	char *text[EVENTS_KEPT]; /* sequence n is at n % EVENTS_KEPT */
	uint64_t next;		 /* sequence of the next event; the first is 1 */
	struct path path;
	int fd; /* -1: the file cannot be written */
};

static void keep(struct events *e, const char *line)
{
	char **slot = &e->text[e->next % EVENTS_KEPT];
	char *copy = strdup(line);

	if (!copy)
		return;
	free(*slot);
	*slot = copy;
	e->next++;
}

static void load(struct events *e)
{
	FILE *f = fopen(e->path.text, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	struct json_object *o;

	while (f && (len = getline(&line, &room, f)) > 0) {
		line[strcspn(line, "\n")] = '\0';
		/* A power cut may have left half a line. */
		if (json_parse(line, "event", &o, NULL) < 0)
			continue;
		e->next = MAX(e->next, json_number(o, "sequence", e->next));
		json_object_put(o);
		keep(e, line);
	}
	free(line);
	if (f)
		fclose(f);
}

static void open_file(struct events *e)
{
	e->fd = open(e->path.text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (e->fd < 0)
		log_warning("path=%s error=\"%s\" events are kept in memory only", e->path.text,
			    strerror(errno));
}

int events_open(struct daemon *d, struct events **ret)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock, NULL);
	e->next = 1;
	e->path = path_under(d->conf.state_dir, "events.jsonl");
	load(e);
	open_file(e);
	*ret = e;
	return 0;
}

void events_close(struct events *e)
{
	if (!e)
		return;
	for (unsigned int i = 0; i < EVENTS_KEPT; i++)
		free(e->text[i]);
	if (e->fd >= 0)
		close(e->fd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void rotate_if_large(struct events *e)
{
	struct stat st;
	struct path old;

	if (fstat(e->fd, &st) < 0 || st.st_size < (off_t)EVENTS_FILE_MAX)
		return;
	old = e->path;
	snprintf(old.text, sizeof(old.text), "%.240s.1", e->path.text);
	if (rename(e->path.text, old.text) < 0)
		return;
	close(e->fd);
	open_file(e);
}

static void append(struct events *e, const char *line)
{
	cleanup_free char *whole = NULL;
	int len;

	if (e->fd < 0)
		return;
	rotate_if_large(e);
	len = asprintf(&whole, "%s\n", line);
	if (len < 0)
		whole = NULL;
	else if (write(e->fd, whole, (size_t)len) != len)
		log_warning("path=%s an event could not be written", e->path.text);
}

/* The members that every event has, first and in order. */
static struct json_object *make(struct daemon *d, const char *vm, uint64_t wall_ns,
				uint64_t sequence)
{
	struct json_object *o = json_object_new_object();
	char time[40];

	json_add_u64(o, "sequence", sequence);
	json_add_string(o, "time", text_time(wall_ns, time, sizeof(time)));
	json_add_u64(o, "time_ns", wall_ns);
	json_add_string(o, "host", d->conf.name);
	json_add_string(o, "vm", vm);
	return o;
}

static bool same(struct json_object *a, struct json_object *b, const char *key)
{
	return !strcmp(json_text(a, key, ""), json_text(b, key, ""));
}

/* What is tried again and again and fails alike is told once: it would drive out the rest. */
static bool is_repeated(const struct events *e, struct json_object *o)
{
	uint64_t oldest = e->next > EVENTS_KEPT ? e->next - EVENTS_KEPT : 1;

	for (uint64_t n = e->next; n-- > oldest;) {
		const char *text = e->text[n % EVENTS_KEPT];
		struct json_object *last;
		bool ours, repeated;

		if (!text || json_parse(text, "event", &last, NULL) < 0)
			continue;
		ours = same(last, o, "vm");
		repeated = ours && same(last, o, "kind") && same(last, o, "text");
		json_object_put(last);
		if (ours)
			return repeated;
	}
	return false;
}

static void publish(struct daemon *d, struct json_object *o)
{
	struct events *e = d->events;
	const char *line = json_line(o);

	if (is_repeated(e, o))
		return;
	keep(e, line);
	append(e, line);
}

void events_add(struct daemon *d, const char *vm, const char *kind, const char *fmt, ...)
{
	struct json_object *o;
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_info("vm=%s event=%s text=\"%s\"", vm ?: "-", kind, text);
	pthread_mutex_lock(&d->events->lock);
	o = make(d, vm, clock_wall_ns(), d->events->next);
	json_add_string(o, "kind", kind);
	json_add_string(o, "text", text);
	publish(d, o);
	pthread_mutex_unlock(&d->events->lock);
	json_object_put(o);
	daemon_wake(d);
}

static bool is_ours(const char *key)
{
	static const char *const ours[] = { "sequence", "time", "time_ns", "host", "vm" };

	for (unsigned int i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcmp(ours[i], key))
			return true;
	return false;
}

void events_take(struct daemon *d, const char *vm, struct json_object *event)
{
	struct json_object *o;

	if (strlen(json_line(event)) > EVENTS_TEXT_MAX / 2)
		return;
	pthread_mutex_lock(&d->events->lock);
	o = make(d, vm, json_number(event, "time_ns", clock_wall_ns()), d->events->next);
	json_object_object_foreach(event, key, value) if (!is_ours(key))
		json_add(o, key, json_copy(value));
	publish(d, o);
	pthread_mutex_unlock(&d->events->lock);
	json_object_put(o);
	daemon_wake(d);
}

char *events_next(struct daemon *d, uint64_t sequence, uint64_t *ret_sequence)
{
	struct events *e = d->events;
	char *text = NULL;

	pthread_mutex_lock(&e->lock);
	for (uint64_t n = MAX(sequence + 1, e->next > EVENTS_KEPT ? e->next - EVENTS_KEPT : 1);
	     n < e->next && !text; n++) {
		if (!e->text[n % EVENTS_KEPT])
			continue;
		text = strdup(e->text[n % EVENTS_KEPT]);
		*ret_sequence = n;
	}
	pthread_mutex_unlock(&e->lock);
	return text;
}

uint64_t events_before(struct daemon *d, unsigned int n)
{
	uint64_t next;

	pthread_mutex_lock(&d->events->lock);
	next = d->events->next;
	pthread_mutex_unlock(&d->events->lock);
	return next - 1 > n ? next - 1 - n : 0;
}
