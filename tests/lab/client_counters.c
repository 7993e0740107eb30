/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mode counters: asks the guest with four counters (tests/guest/counters.h) for the next
 * number, again and again, over one connection that must live for ever. Replies rise by
 * exactly one; whatever else comes, and the end of the connection, is the end of it.
 * SIGUSR1 has it ask for the values of all four; they and the longest silence since the
 * last time go to the status file. Single-threaded, one poll loop.
 *
 * Mode ring: what is on such a guest's disk, from the file `ring` taken out of its image.
 */
#include "tests/lab/client.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/guest/counters.h"

#define CONNECT_NS	(60 * NS_PER_S)
#define STATUS_EVERY_NS (100 * NS_PER_MS)
#define POLL_MS		20

struct values {
	uint64_t memory, disk1, disk2, reply;
	uint64_t silence_ns;
};

struct counting {
	const struct client_options *opt;
	int fd;
	uint64_t sent;
	uint64_t replied;
	uint64_t asked; /* how often for the values */
	uint64_t told;
	uint64_t asked_after; /* `sent` when asked last */
	struct values values; /* as told last */
	uint64_t heard_ns;    /* last reply, or when waiting for one began */
	uint64_t silence_ns;
	char error[256]; /* the aim that was missed */
	char in[4096];
	size_t in_len;
};

volatile sig_atomic_t client_asks;

__attribute__((format(printf, 2, 3))) static int misses(struct counting *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->error, sizeof(c->error), fmt, ap);
	va_end(ap);
	fprintf(stderr, "lab-client: %s\n", c->error);
	return -EPROTO;
}

static void print_json(const struct counting *c, FILE *f)
{
	const struct values *v = &c->values;

	fprintf(f,
		"{\"schema_version\":1,\"mode\":\"counters\",\"sent\":%" PRIu64
		",\"replied\":%" PRIu64 ",\"told\":%" PRIu64 ",\"values\":{\"memory\":%" PRIu64
		",\"disk1\":%" PRIu64 ",\"disk2\":%" PRIu64 ",\"reply\":%" PRIu64
		",\"silence_ns\":%" PRIu64 "},\"error\":",
		c->sent, c->replied, c->told, v->memory, v->disk1, v->disk2, v->reply,
		v->silence_ns);
	/* The guest's text may hold anything. */
	if (c->error[0]) {
		fputc('"', f);
		for (const char *p = c->error; *p; p++)
			fputc(*p < ' ' || *p == '"' || *p == '\\' ? '?' : *p, f);
		fputs("\"}\n", f);
	} else {
		fputs("null}\n", f);
	}
}

static void write_status(const struct counting *c)
{
	char part[4096];
	FILE *f;

	if (!c->opt->status_file)
		return;
	snprintf(part, sizeof(part), "%s.part", c->opt->status_file);
	f = fopen(part, "w");
	if (!f)
		return;
	print_json(c, f);
	fclose(f);
	rename(part, c->opt->status_file);
}

static int take_values(struct counting *c, const char *line)
{
	struct values v = { .silence_ns = c->silence_ns };

	if (c->told == c->asked)
		return misses(c, "values that nobody asked for: %s", line);
	if (sscanf(line,
		   "values memory=%" SCNu64 " disk1=%" SCNu64 " disk2=%" SCNu64 " reply=%" SCNu64,
		   &v.memory, &v.disk1, &v.disk2, &v.reply) != 4)
		return misses(c, "unreadable: %s", line);
	if (c->replied != c->asked_after || v.memory != c->replied || v.disk1 != c->replied ||
	    v.disk2 != c->replied || v.reply != c->replied)
		return misses(c, "asked after %" PRIu64 ", replies came to %" PRIu64 ": %s",
			      c->asked_after, c->replied, line);
	c->told++;
	c->values = v;
	c->silence_ns = 0;
	return 0;
}

static int take_line(struct counting *c, const char *line)
{
	uint64_t n = resp_number(line, strlen(line));

	if (n == 0)
		return strncmp(line, "values ", 7) == 0 ? take_values(c, line)
							: misses(c, "the guest says: %s", line);
	if (n != c->replied + 1 || n > c->sent)
		return misses(c, "reply %" PRIu64 " after %" PRIu64 ", sent %" PRIu64, n,
			      c->replied, c->sent);
	c->replied = n;
	return 0;
}

static int receive(struct counting *c, uint64_t now)
{
	ssize_t n = read(c->fd, c->in + c->in_len, sizeof(c->in) - 1 - c->in_len);
	char *at = c->in, *end;
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return misses(c, "connection lost after reply %" PRIu64 ": %s", c->replied,
			      n < 0 ? strerror(errno) : "closed");
	c->silence_ns = MAX(c->silence_ns, now - c->heard_ns);
	c->heard_ns = now;
	c->in_len += (size_t)n;
	while (r == 0 && (end = memchr(at, '\n', c->in_len))) {
		*end = '\0';
		r = take_line(c, at);
		c->in_len -= (size_t)(end + 1 - at);
		at = end + 1;
	}
	memmove(c->in, at, c->in_len);
	if (r == 0 && c->in_len == sizeof(c->in) - 1)
		return misses(c, "a line without an end");
	return r;
}

static int say(struct counting *c, const char *line)
{
	size_t len = strlen(line);
	/* A few bytes fit into a socket's buffer, always. */
	ssize_t n = write(c->fd, line, len);

	if (n == (ssize_t)len)
		return 0;
	return misses(c, "connection lost after reply %" PRIu64 ": %s", c->replied,
		      n < 0 ? strerror(errno) : "short write");
}

static int ask(struct counting *c, bool ending)
{
	char line[32];
	int r = 0;

	if (client_asks > 0 && c->asked == c->told) {
		client_asks--;
		c->asked++;
		c->asked_after = c->sent;
		r = say(c, "?\n");
	}
	while (r == 0 && !ending && c->sent - c->replied < c->opt->window) {
		snprintf(line, sizeof(line), "%" PRIu64 "\n", ++c->sent);
		r = say(c, line);
	}
	return r;
}

static int run(struct counting *c)
{
	uint64_t status_ns = 0, end_ns = 0;
	int r = 0;

	while (r == 0) {
		uint64_t now = clock_now_ns();
		struct pollfd p = { .fd = c->fd, .events = POLLIN };

		if (client_stop && !end_ns)
			end_ns = now;
		if (end_ns && c->sent == c->replied && c->asked == c->told)
			return 0;
		if (end_ns && now - end_ns > c->opt->drain_ns)
			return misses(c, "no reply to %" PRIu64, c->replied + 1);
		r = ask(c, end_ns != 0);
		if (r == 0 && poll(&p, 1, POLL_MS) > 0)
			r = receive(c, clock_now_ns());
		if (now - status_ns >= STATUS_EVERY_NS) {
			status_ns = now;
			write_status(c);
		}
	}
	return r;
}

int client_counters(const struct client_options *opt)
{
	static struct counting c;
	int r;

	c.opt = opt;
	c.fd = client_connect(opt, CONNECT_NS);
	if (c.fd < 0) {
		fprintf(stderr, "lab-client: %s: %s\n", opt->host, strerror(-c.fd));
		return 1;
	}
	c.heard_ns = clock_now_ns();
	r = run(&c);
	write_status(&c);
	print_json(&c, stdout);
	return r == 0 ? 0 : 1;
}

int client_ring(const struct client_options *opt)
{
	static uint64_t ring[COUNTERS_SLOTS][COUNTERS_WORDS];
	cleanup_close int fd = open(opt->file, O_RDONLY | O_CLOEXEC);
	uint64_t last = 0, wrong = 0;

	if (fd < 0 || read(fd, ring, sizeof(ring)) != (ssize_t)sizeof(ring)) {
		fprintf(stderr, "lab-client: %s: %s\n", opt->file,
			fd < 0 ? strerror(errno) : "too short");
		return 1;
	}
	for (uint64_t slot = 0; slot < COUNTERS_SLOTS; slot++)
		if (counters_whole(ring[slot], opt->count))
			last = MAX(last, ring[slot][0]);
	/* The number after the last may have been on its way: its slot may hold anything. */
	for (uint64_t slot = 0; slot < COUNTERS_SLOTS; slot++)
		if (slot != (last + 1) % COUNTERS_SLOTS &&
		    (ring[slot][0] != counters_expected(last, slot) ||
		     !counters_whole(ring[slot], opt->count)))
			wrong++;
	printf("{\"schema_version\":1,\"mode\":\"ring\",\"disk\":%" PRIu64 ",\"last\":%" PRIu64
	       ",\"wrong\":%" PRIu64 "}\n",
	       opt->count, last, wrong);
	return wrong == 0 ? 0 : 1;
}
