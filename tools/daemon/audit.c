/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/audit.h"

#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/common/json.h"
#include "tools/common/text.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/verbs.h"

struct audit {
	pthread_mutex_t lock;
	struct path path;
	int fd;		/* -1: it cannot be opened; tried again with each line */
	uint64_t order; /* the last one's number: rises from start to start, by the time of the day
			 */
	bool failed;	/* the last line was lost, and that was told */
};

int audit_open(struct daemon *d, struct audit **ret)
{
	struct audit *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	pthread_mutex_init(&a->lock, NULL);
	a->path = path_under(d->conf.state_dir, "audit.jsonl");
	a->fd = -1;
	a->order = clock_wall_ns() / NS_PER_US;
	*ret = a;
	return 0;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* The lock held. A line that was cut off, by a full disk, ends with the next one. */
static int append(struct audit *a, const char *line)
{
	cleanup_free char *whole = NULL;
	int len = asprintf(&whole, "%s%s\n", a->failed ? "\n" : "", line);

	if (len < 0) {
		whole = NULL;
		return -ENOMEM;
	}
	if (a->fd < 0)
		a->fd = open(a->path.text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
			     0640);
	if (a->fd < 0)
		return -errno;
	errno = 0;
	if (write(a->fd, whole, (size_t)len) != len)
		return errno ? -errno : -ENOSPC;
	return fdatasync(a->fd) ? -errno : 0;
}

/* Takes the line. */
static void put(struct daemon *d, struct json_object *o)
{
	struct audit *a = d->audit;
	bool told;
	int r;

	pthread_mutex_lock(&a->lock);
	r = append(a, json_line(o));
	told = a->failed;
	a->failed = r != 0;
	pthread_mutex_unlock(&a->lock);
	if (r)
		log_error("path=%s error=\"%s\" line=%s", a->path.text, strerror(-r), json_line(o));
	if (r && !told)
		events_add(d, NULL, "audit.failed",
			   "%s: %s: who orders what is in the journal alone", a->path.text,
			   strerror(-r));
	json_object_put(o);
}

static struct json_object *make(uint64_t order, const char *phase)
{
	struct json_object *o = json_object_new_object();
	char time[40];

	json_add_string(o, "time", text_time(clock_wall_ns(), time, sizeof(time)));
	json_add_u64(o, "order", order);
	json_add_string(o, "phase", phase);
	return o;
}

static void put_user(struct json_object *o, uid_t uid)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];

	json_add_u64(o, "uid", uid);
	if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found))
		found = NULL;
	json_add_string(o, "user", found ? found->pw_name : NULL);
}

uint64_t audit_asked(struct daemon *d, const struct ucred *who, struct json_object *request)
{
	struct json_object *o;
	uint64_t order;

	pthread_mutex_lock(&d->audit->lock);
	order = ++d->audit->order;
	pthread_mutex_unlock(&d->audit->lock);
	o = make(order, "asked");
	put_user(o, who->uid);
	json_add_u64(o, "pid", (uint64_t)who->pid);
	json_add(o, "request", json_copy(request));
	put(d, o);
	return order;
}

void audit_done(struct daemon *d, uint64_t order, const struct verb_reply *reply)
{
	struct json_object *o = make(order, "done");

	json_add_string(o, "code", reply->code);
	json_add_string(o, "error", reply->code ? reply->error : NULL);
	put(d, o);
}
