/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of the writes: read back from Redis (check), or counted in the
 * append-only file of a disk image, where Redis itself is not asked (aof).
 */
#include "tests/lab/client.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"

#define BATCH	    256
#define CONNECT_NS  (60 * NS_PER_S)
#define ANSWER_MS   30000
#define SHOW_LOST   5
#define ARGS_MAX    8
#define ARG_LEN_MAX 512

struct tally {
	uint64_t found;
	uint64_t lost;
	uint64_t wrong; /* there, but with another value */
	uint64_t twice; /* written more than once (aof) */
	bool truncated; /* the file ends inside a command (aof) */
};

static void show(const struct tally *t, const char *mode, uint64_t count)
{
	printf("{\"schema_version\":1,\"mode\":\"%s\",\"expected\":%" PRIu64 ",\"found\":%" PRIu64
	       ",\"lost\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"twice\":%" PRIu64
	       ",\"truncated\":%s}\n",
	       mode, count, t->found, t->lost, t->wrong, t->twice, t->truncated ? "true" : "false");
}

static void lose(struct tally *t, uint64_t n)
{
	t->lost++;
	if (t->lost <= SHOW_LOST)
		fprintf(stderr, "lab-client: k:%" PRIu64 " is lost\n", n);
}

static int send_batch(int fd, uint64_t first, uint64_t last)
{
	static char out[BATCH * 64];
	size_t len = 0, at = 0;

	for (uint64_t n = first; n <= last; n++) {
		char key[24];
		int key_len = snprintf(key, sizeof(key), "k:%" PRIu64, n);

		len += (size_t)snprintf(out + len, sizeof(out) - len,
					"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", key_len, key);
	}
	while (at < len) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		ssize_t n;

		if (poll(&p, 1, ANSWER_MS) <= 0)
			return -ETIMEDOUT;
		n = write(fd, out + at, len - at);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static void judge(struct tally *t, uint64_t n, const struct resp_reply *reply)
{
	if (reply->type != RESP_BULK || reply->nil)
		lose(t, n);
	else if (resp_number(reply->value, reply->len) != n)
		t->wrong++;
	else
		t->found++;
}

static int take_batch(int fd, uint64_t first, uint64_t last, struct tally *t)
{
	static char in[64 * 1024];
	size_t len = 0;

	for (uint64_t n = first; n <= last;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct resp_reply reply;
		long took = resp_parse(in, len, &reply);
		ssize_t got;

		if (took < 0)
			return -EPROTO;
		if (took > 0) {
			judge(t, n++, &reply);
			len -= (size_t)took;
			memmove(in, in + took, len);
			continue;
		}
		if (poll(&p, 1, ANSWER_MS) <= 0)
			return -ETIMEDOUT;
		got = read(fd, in + len, sizeof(in) - len);
		if (got <= 0 && errno != EAGAIN && errno != EINTR)
			return got < 0 ? -errno : -ECONNRESET;
		len += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

int client_check(const struct client_options *opt)
{
	struct tally t = { 0 };
	int fd = client_connect(opt, CONNECT_NS);
	int r = fd < 0 ? fd : 0;

	for (uint64_t n = 1; r == 0 && n <= opt->count && !client_stop; n += BATCH) {
		uint64_t last = MIN(n + BATCH - 1, opt->count);

		r = send_batch(fd, n, last);
		if (r == 0)
			r = take_batch(fd, n, last, &t);
	}
	if (r < 0) {
		fprintf(stderr, "lab-client: %s: %s\n", opt->host, strerror(-r));
		return 1;
	}
	show(&t, "check", opt->count);
	return t.found == opt->count ? 0 : 1;
}

/* --- the append-only file ------------------------------------------------------------------ */

/* `*3\r\n` and `$5\r\n`: -1 at the end of the file or where it is not that. */
static long read_count(FILE *f, char kind)
{
	char line[32];
	size_t len;

	do {
		if (!fgets(line, sizeof(line), f))
			return -1;
		len = strlen(line);
	} while (line[0] == '#');
	if (line[0] != kind || len < 4 || strcmp(line + len - 2, "\r\n") != 0)
		return -1;
	return (long)resp_number(line + 1, len - 3);
}

static int read_command(FILE *f, char args[ARGS_MAX][ARG_LEN_MAX], long *ret_argc)
{
	long argc = read_count(f, '*');

	if (argc < 1 || argc > ARGS_MAX)
		return -EPROTO;
	for (long i = 0; i < argc; i++) {
		long len = read_count(f, '$');
		char end[2];

		if (len < 0 || len >= ARG_LEN_MAX ||
		    fread(args[i], 1, (size_t)len, f) != (size_t)len || fread(end, 1, 2, f) != 2 ||
		    memcmp(end, "\r\n", 2) != 0)
			return -EPROTO;
		args[i][len] = '\0';
	}
	*ret_argc = argc;
	return 0;
}

static void take_command(char args[ARGS_MAX][ARG_LEN_MAX], long argc, uint8_t *seen,
			 const struct client_options *opt, struct tally *t)
{
	uint64_t n;

	if (argc != 3 || strcasecmp(args[0], "SET") != 0 || strncmp(args[1], "k:", 2) != 0)
		return;
	n = resp_number(args[1] + 2, strlen(args[1] + 2));
	if (n == 0 || n > opt->count)
		return;
	if (resp_number(args[2], strlen(args[2])) != n)
		t->wrong++;
	else if (seen[n])
		t->twice++;
	else
		t->found++;
	seen[n] = 1;
}

int client_aof(const struct client_options *opt)
{
	static char args[ARGS_MAX][ARG_LEN_MAX];
	cleanup_free uint8_t *seen = calloc(opt->count + 1, 1);
	FILE *f = fopen(opt->file, "r");
	struct tally t = { 0 };
	int c;

	if (!f || !seen) {
		fprintf(stderr, "lab-client: %s: %s\n", opt->file, strerror(errno));
		if (f)
			fclose(f);
		return 1;
	}
	while ((c = getc(f)) != EOF) {
		long argc;

		ungetc(c, f);
		if (read_command(f, args, &argc) < 0) {
			t.truncated = true;
			break;
		}
		take_command(args, argc, seen, opt, &t);
	}
	fclose(f);
	for (uint64_t n = 1; n <= opt->count; n++)
		if (!seen[n])
			lose(&t, n);
	show(&t, "aof", opt->count);
	return t.found == opt->count ? 0 : 1;
}
