/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mode load: keeps a window of writes on the way over one connection and accounts
 * for every answer. Single-threaded, one poll loop.
 *
 * Redis answers in order, so writes 1..answered are answered and answered+1..sent
 * are on the way. A connection that breaks is made again, and counted: the demo
 * and the drill fail on it. The writes that were on the way are then sent again.
 */
#include "tests/lab/client.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define WINDOW_MAX	4096
#define CONNECT_NS	(60 * NS_PER_S)
#define STATUS_EVERY_NS (200 * NS_PER_MS)
#define SUB_BITS	3 /* the histogram's steps are an eighth of their size */
#define HISTOGRAM	(64 << SUB_BITS)

struct load {
	const struct client_options *opt;
	int fd;
	uint64_t began_ns;
	uint64_t sent;
	uint64_t answered;
	uint64_t acked;	     /* answered with OK and with its own number */
	bool silent;	     /* since before a reconnect */
	bool ok_seen;	     /* the OK of answered+1 is here, its ECHO not yet */
	uint64_t duplicated; /* an answer came twice */
	uint64_t missing;    /* an answer never came though a later one did */
	uint64_t garbled;
	uint64_t refused; /* errors that Redis answered */
	uint64_t reconnects;
	uint64_t heard_ns; /* last answer, or when waiting for one began */
	uint64_t outage_ns;
	uint64_t outage_after; /* how many were answered before the longest silence */
	uint64_t max_ns;
	uint64_t sent_ns[WINDOW_MAX];
	uint64_t latency[HISTOGRAM];
	char out[64 * 1024];
	size_t out_at;
	size_t out_len;
	char in[64 * 1024];
	size_t in_len;
};

static struct load the_load;

static void latency_add(struct load *l, uint64_t ns)
{
	unsigned int top = 63 - (unsigned int)__builtin_clzll(ns | 1);
	unsigned int sub = top > SUB_BITS ? (ns >> (top - SUB_BITS)) & ((1 << SUB_BITS) - 1) : 0;

	l->latency[(top << SUB_BITS) + sub]++;
	l->max_ns = MAX(l->max_ns, ns);
}

/* Upper edge of the step that holds the given share of all answers. */
static uint64_t latency_at(const struct load *l, unsigned int percent)
{
	uint64_t total = 0, seen = 0;

	for (size_t i = 0; i < HISTOGRAM; i++)
		total += l->latency[i];
	for (size_t i = 0; i < HISTOGRAM; i++) {
		unsigned int top = (unsigned int)i >> SUB_BITS;
		uint64_t sub = i & ((1 << SUB_BITS) - 1);

		seen += l->latency[i];
		if (total && seen * 100 >= total * percent)
			return MIN(l->max_ns,
				   (UINT64_C(1) << top) + ((sub + 1) << top >> SUB_BITS));
	}
	return 0;
}

static void print_json(const struct load *l, FILE *to)
{
	uint64_t ns = MAX(clock_now_ns() - l->began_ns, 1);
	uint64_t silence = l->sent > l->answered ? clock_now_ns() - l->heard_ns : 0;

	fprintf(to,
		"{\"schema_version\":1,\"mode\":\"load\",\"sent\":%" PRIu64 ",\"acked\":%" PRIu64
		",\"unanswered\":%" PRIu64 ",\"duplicated\":%" PRIu64 ",\"missing\":%" PRIu64
		",\"garbled\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"reconnects\":%" PRIu64
		",\"outage_ns\":%" PRIu64 ",\"outage_after\":%" PRIu64 ",\"silence_ns\":%" PRIu64
		",\"elapsed_ns\":%" PRIu64 ",\"acked_per_s\":%" PRIu64
		",\"latency_ns\":{\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"max\":%" PRIu64 "}}\n",
		l->sent, l->acked, l->sent - l->answered, l->duplicated, l->missing, l->garbled,
		l->refused, l->reconnects, MAX(l->outage_ns, silence), l->outage_after, silence, ns,
		(uint64_t)((double)l->acked * 1e9 / (double)ns), latency_at(l, 50),
		latency_at(l, 99), l->max_ns);
}

static void write_status(const struct load *l)
{
	char part[4096];
	FILE *f;

	if (!l->opt->status_file)
		return;
	snprintf(part, sizeof(part), "%s.part", l->opt->status_file);
	f = fopen(part, "w");
	if (!f)
		return;
	print_json(l, f);
	fclose(f);
	rename(part, l->opt->status_file);
}

/* One write is answered, well or badly. */
static void answer(struct load *l, uint64_t now)
{
	uint64_t silence = now - l->heard_ns;

	l->answered++;
	l->ok_seen = false;
	latency_add(l, now - l->sent_ns[l->answered % WINDOW_MAX]);
	if (silence > l->outage_ns) {
		l->outage_ns = silence;
		l->outage_after = l->answered - 1;
	}
	l->heard_ns = now;
	l->silent = false;
}

static void take_echo(struct load *l, const struct resp_reply *reply, uint64_t now)
{
	uint64_t n = resp_number(reply->value, reply->len);

	if (n == 0 || n > l->sent) {
		l->garbled++;
	} else if (n <= l->answered) {
		l->duplicated++;
		l->ok_seen = false;
	} else {
		for (; l->answered + 1 < n; l->missing++)
			answer(l, now);
		if (l->ok_seen)
			l->acked++;
		else
			l->missing++;
		answer(l, now);
	}
}

static void take_reply(struct load *l, const struct resp_reply *reply, uint64_t now)
{
	if (l->answered == l->sent) {
		l->duplicated++;
		return;
	}
	switch (reply->type) {
	case RESP_STATUS:
		if (l->ok_seen)
			l->duplicated++;
		l->ok_seen = strcmp(reply->value, "OK") == 0;
		if (!l->ok_seen) {
			l->garbled++;
		} else if (l->opt->plain) {
			l->acked++;
			answer(l, now);
		}
		return;
	case RESP_BULK:
		take_echo(l, reply, now);
		return;
	case RESP_ERROR:
		l->refused++;
		if (l->opt->plain)
			answer(l, now);
		return;
	case RESP_NUMBER:
		break;
	}
	l->garbled++;
}

static int receive(struct load *l, uint64_t now)
{
	size_t at = 0;
	ssize_t n = read(l->fd, l->in + l->in_len, sizeof(l->in) - l->in_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	l->in_len += (size_t)n;
	while (at < l->in_len) {
		struct resp_reply reply;
		long took = resp_parse(l->in + at, l->in_len - at, &reply);

		if (took < 0) {
			l->garbled++;
			return -EPROTO;
		}
		if (took == 0)
			break;
		take_reply(l, &reply, now);
		at += (size_t)took;
	}
	memmove(l->in, l->in + at, l->in_len - at);
	l->in_len -= at;
	return 0;
}

static bool may_send(const struct load *l, uint64_t now, bool ending)
{
	const struct client_options *opt = l->opt;

	if (ending || l->sent - l->answered >= opt->window)
		return false;
	if (opt->count && l->sent >= opt->count)
		return false;
	/* 512 bytes hold a whole request: the largest is some 120. */
	if (sizeof(l->out) - l->out_len < 512)
		return false;
	return !opt->rate ||
	       (double)l->sent < (double)(now - l->began_ns) / 1e9 * (double)opt->rate + 1;
}

static void queue_write(struct load *l, uint64_t now)
{
	char key[32], value[24];
	int r;

	if (l->sent == l->answered && !l->silent)
		l->heard_ns = now;
	l->sent++;
	l->sent_ns[l->sent % WINDOW_MAX] = now;
	snprintf(value, sizeof(value), "%" PRIu64, l->sent);
	snprintf(key, sizeof(key), "k:%s", value);
	r = snprintf(l->out + l->out_len, sizeof(l->out) - l->out_len,
		     "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(key), key,
		     strlen(value), value);
	l->out_len += (size_t)r;
	if (l->opt->plain)
		return;
	r = snprintf(l->out + l->out_len, sizeof(l->out) - l->out_len,
		     "*2\r\n$4\r\nECHO\r\n$%zu\r\n%s\r\n", strlen(value), value);
	l->out_len += (size_t)r;
}

static int transmit(struct load *l)
{
	ssize_t n;

	if (l->out_at == l->out_len)
		return 0;
	n = write(l->fd, l->out + l->out_at, l->out_len - l->out_at);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	l->out_at += (size_t)n;
	if (l->out_at == l->out_len)
		l->out_at = l->out_len = 0;
	return 0;
}

/* What was on the way is sent again: whether it was executed is not known. */
static int reconnect(struct load *l, int why)
{
	fprintf(stderr, "lab-client: connection lost: %s\n", strerror(-why));
	close(l->fd);
	l->reconnects++;
	l->silent = l->sent > l->answered;
	l->sent = l->answered;
	l->ok_seen = false;
	l->out_at = l->out_len = l->in_len = 0;
	l->fd = client_connect(l->opt, CONNECT_NS);
	return l->fd < 0 ? l->fd : 0;
}

static void show_progress(const struct load *l, uint64_t now, uint64_t *last)
{
	if (!l->opt->progress || now - *last < NS_PER_S)
		return;
	*last = now;
	fprintf(stderr, "acked %" PRIu64 ", longest silence %" PRIu64 " ms\n", l->acked,
		l->outage_ns / NS_PER_MS);
}

static int run(struct load *l)
{
	uint64_t status_ns = 0, progress_ns = 0, end_ns = 0;
	int r = 0;

	for (;;) {
		uint64_t now = clock_now_ns();
		bool ending = client_stop || (l->opt->count && l->sent >= l->opt->count) ||
			      (l->opt->seconds && now - l->began_ns >= l->opt->seconds * NS_PER_S);
		struct pollfd p = { .fd = l->fd, .events = POLLIN };

		if (ending && !end_ns)
			end_ns = now;
		if (ending && (l->sent == l->answered || now - end_ns > l->opt->drain_ns))
			return 0;
		while (may_send(l, now, ending))
			queue_write(l, now);
		if (l->out_at < l->out_len)
			p.events |= POLLOUT;
		r = transmit(l);
		/* With a rate, the next write is due without any event. */
		if (r == 0 && poll(&p, 1, l->opt->rate ? 2 : 50) > 0 && p.revents)
			r = receive(l, clock_now_ns());
		if (r < 0 && reconnect(l, r) < 0)
			return -ENOTCONN;
		if (now - status_ns >= STATUS_EVERY_NS) {
			status_ns = now;
			write_status(l);
		}
		show_progress(l, now, &progress_ns);
	}
}

int client_load(const struct client_options *opt)
{
	struct load *l = &the_load;
	bool fine;
	int r;

	if (opt->window == 0 || opt->window >= WINDOW_MAX) {
		fprintf(stderr, "lab-client: window must be 1 to %d\n", WINDOW_MAX - 1);
		return 2;
	}
	l->opt = opt;
	l->fd = client_connect(opt, CONNECT_NS);
	if (l->fd < 0) {
		fprintf(stderr, "lab-client: %s: %s\n", opt->host, strerror(-l->fd));
		return 1;
	}
	l->began_ns = l->heard_ns = clock_now_ns();
	r = run(l);
	write_status(l);
	print_json(l, stdout);
	fine = r == 0 && l->sent == l->answered && l->acked == l->answered && !l->duplicated &&
	       !l->missing && !l->garbled && !l->refused && !l->reconnects;
	return fine ? 0 : 1;
}
