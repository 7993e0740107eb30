/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/xen/emulator.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/file.h"
#include "hypervisor/xen/state.h"

#define LINE_MAX_BYTES 65536u /* a reply; those asked for are short, events too */
#define SLACK_BYTES    (64u << 10)
#define CONTINUE       "{\"execute\":\"cont\"}\n"
#define IDLE_NS	       (20 * NS_PER_MS)

struct emulator {
	int fd;
	char state[128]; /* its path */
	void (*idle)(void *opaque);
	void *opaque;
	uint32_t room;
	bool stopped, tracks;
	bool lost;     /* what it says or does from now on is not known */
	uint32_t have; /* bytes of `line` */
	char line[LINE_MAX_BYTES];
};

/* --- lines -------------------------------------------------------------------------- */

static int say(struct emulator *e, const char *text)
{
	size_t len = strlen(text);
	ssize_t n = send(e->fd, text, len, MSG_NOSIGNAL);

	if (n == (ssize_t)len)
		return 0;
	return n < 0 ? -errno : -EIO; /* a command fits the socket's buffer */
}

static int await_bytes(struct emulator *e, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = e->fd, .events = POLLIN };
	uint64_t now = clock_now_ns();
	ssize_t n;

	if (e->have == sizeof(e->line))
		return -EMSGSIZE;
	if (now >= deadline_ns)
		return -ETIMEDOUT;
	if (!poll(&p, 1, (int)(MIN(deadline_ns - now, IDLE_NS) / NS_PER_MS) + 1)) {
		if (e->idle)
			e->idle(e->opaque);
		return 0;
	}
	n = recv(e->fd, e->line + e->have, sizeof(e->line) - e->have, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		return -ECONNRESET;
	e->have += (uint32_t)n;
	return 0;
}

/* The next line, an object, is the caller's to put. */
static int next_object(struct emulator *e, uint64_t deadline_ns, struct json_object **ret)
{
	char *end;
	int r = 0;

	while (!(end = memchr(e->line, '\n', e->have)) && !r)
		r = await_bytes(e, deadline_ns);
	if (r)
		return r;
	*end++ = '\0';
	*ret = json_tokener_parse(e->line);
	e->have -= (uint32_t)(end - e->line);
	memmove(e->line, end, e->have);
	return json_object_is_type(*ret, json_type_object) ? 0 : -EPROTO;
}

/* The end of one command; events before it are passed over. -EREMOTEIO: it failed, and how. */
static int next_end(struct emulator *e, uint64_t deadline_ns, struct reason *refusal)
{
	struct json_object *o, *error, *text = NULL;
	bool done = false;
	int r = 0;

	while (!done && !r) {
		o = NULL;
		r = next_object(e, deadline_ns, &o);
		if (!r && json_object_object_get_ex(o, "error", &error)) {
			json_object_object_get_ex(error, "desc", &text);
			r = reason_set(refusal, EREMOTEIO, "%.200s",
				       text ? json_object_get_string(text) : "an error");
		} else if (!r) {
			done = json_object_object_get_ex(o, "return", NULL);
		}
		json_object_put(o);
	}
	return r;
}

/* Answered in order, so what it says is the end of this command. -EIO: it has refused, and its
 * words; or it is lost, and how. */
static int ask(struct emulator *e, const char *command, struct reason *why)
{
	struct reason refusal = { 0 };
	int r = e->lost ? -ESHUTDOWN : say(e, command);

	if (!r)
		r = next_end(e, clock_now_ns() + EMULATOR_NS, &refusal);
	if (!r)
		return 0;
	if (r == -EREMOTEIO)
		return reason_set(why, EIO, "its device model: %s", refusal.text);
	e->lost = true;
	return reason_set(why, EIO, "its device model is lost: %s", strerror(-r));
}

/* --- life ---------------------------------------------------------------------------- */

static int call(struct emulator *e, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	e->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (e->fd < 0 || connect(e->fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	return 0;
}

static int greet(struct emulator *e, struct reason *why)
{
	struct json_object *o = NULL;
	int r = next_object(e, clock_now_ns() + EMULATOR_NS, &o);

	if (!r && !json_object_object_get_ex(o, "QMP", NULL))
		r = -EPROTO;
	json_object_put(o);
	return r ? r : ask(e, "{\"execute\":\"qmp_capabilities\"}\n", why);
}

static int save(struct emulator *e, struct reason *why)
{
	char command[sizeof(e->state) + 96];

	/* Not live: so QEMU keeps its disks. */
	snprintf(command, sizeof(command),
		 "{\"execute\":\"xen-save-devices-state\",\"arguments\":{\"filename\":\"%s\","
		 "\"live\":false}}\n",
		 e->state);
	return ask(e, command, why);
}

/* Once, while the guest's processors are paused: QEMU stops and goes on for it. */
static int find_room(struct emulator *e, struct reason *why)
{
	struct stat st;
	int r = save(e, why);

	if (r)
		return r;
	if (stat(e->state, &st))
		return -errno;
	if (st.st_size <= 0 || st.st_size > XEN_STATE_EMULATOR_MAX / 2)
		return reason_set(why, E2BIG, "its device model's state has %lld bytes, at most %u",
				  (long long)st.st_size, XEN_STATE_EMULATOR_MAX / 2);
	e->room = (uint32_t)MIN((uint64_t)st.st_size * 2 + SLACK_BYTES,
				(uint64_t)XEN_STATE_EMULATOR_MAX);
	return 0;
}

static int track(struct emulator *e, bool on, struct reason *why)
{
	int r = ask(
		e,
		on ? "{\"execute\":\"xen-set-global-dirty-log\",\"arguments\":{\"enable\":true}}\n"
		   : "{\"execute\":\"xen-set-global-dirty-log\",\"arguments\":{\"enable\":false}}"
		     "\n",
		why);

	if (!r)
		e->tracks = on;
	return r;
}

static int begin(struct emulator *e, const char *socket, struct reason *why)
{
	int r = call(e, socket);

	if (!r)
		r = greet(e, why);
	/* Who was stopped by an engine that died runs on. */
	if (!r)
		r = ask(e, CONTINUE, why);
	if (!r)
		r = track(e, true, why);
	return r ? r : find_room(e, why);
}

int emulator_open(const struct emulator_config *config, struct emulator **ret, struct reason *why)
{
	struct emulator *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->fd = -1;
	if (strlen(config->state) >= sizeof(e->state) || strpbrk(config->state, "\"\\")) {
		free(e);
		return reason_set(why, EINVAL, "%.200s: no path for the device model's state",
				  config->state);
	}
	strcpy(e->state, config->state);
	e->idle = config->idle;
	e->opaque = config->opaque;
	r = begin(e, config->socket, why);
	if (r) {
		if (!why->text[0])
			reason_set(why, -r, "its device model at %s: %s", config->socket,
				   strerror(-r));
		emulator_close(e);
		return r;
	}
	*ret = e;
	return 0;
}

/* QEMU asserts that the log is on when it is to go off, and somebody else may have turned it off.
 */
void emulator_close(struct emulator *e)
{
	if (!e)
		return;
	if (e->stopped && emulator_run(e, NULL))
		say(e, CONTINUE); /* it may come to read it */
	if (e->tracks && !track(e, true, NULL))
		track(e, false, NULL);
	unlink(e->state);
	if (e->fd >= 0)
		close(e->fd);
	free(e);
}

uint32_t emulator_room(const struct emulator *e)
{
	return e->room;
}

bool emulator_is_lost(struct emulator *e)
{
	struct pollfd p = { .fd = e->fd };

	e->lost |= poll(&p, 1, 0) > 0; /* it has hung up */
	return e->lost;
}

/* --- an epoch ------------------------------------------------------------------------ */

int emulator_stop(struct emulator *e, struct reason *why)
{
	int r;

	if (e->stopped)
		return 0;
	r = ask(e, "{\"execute\":\"stop\"}\n", why);
	e->stopped = !r || e->lost; /* as far as is known */
	return r;
}

static int read_state(const struct emulator *e, int fd, void *ret, uint32_t room,
		      struct reason *why)
{
	struct stat st;
	int r;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size <= 0)
		return reason_set(why, EIO, "its device model has written no state to %s",
				  e->state);
	if (st.st_size > room)
		return reason_set(
			why, EMSGSIZE,
			"its device model's state has grown to %lld bytes, room is for %u",
			(long long)st.st_size, room);
	r = file_read_at(fd, ret, (size_t)st.st_size, 0);
	return r ? r : (int)st.st_size;
}

int emulator_state(struct emulator *e, void *ret, uint32_t room, struct reason *why)
{
	int r = save(e, why), fd;

	if (r)
		return r;
	fd = open(e->state, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = read_state(e, fd, ret, room, why);
	close(fd);
	return r;
}

int emulator_run(struct emulator *e, struct reason *why)
{
	int r;

	if (!e->stopped)
		return 0;
	r = ask(e, CONTINUE, why);
	e->stopped = r != 0;
	return r;
}
