/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xen-pause DOMID SECONDS FILE: watches somebody checkpoint a domain of Xen, whoever it is, from
 * outside. One line a checkpoint, `suspend_us pause_us`, both from when the guest was asked: that
 * is when xenstore has the word `suspend` for it. When it stood still and when it ran again is
 * taken from Xen's own trace, which xentrace leaves in FILE. Last `elapsed_us N`, what these
 * checkpoints took place in.
 *
 * It is urgent above all else, so that it hears of the word when the guest does, and sleeps
 * otherwise: it takes nothing from a pause. Xen's trace has the processors' counter for time,
 * and so has this. One thread. Source: Xen 4.17, public/trace.h, tools/xentrace/formats.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>
#include <xen/trace.h>
#include <xenctrl.h>
#include <xenstore.h>

#include "base/clock.h"

#define EVENTS_MAX   (1u << 20)
#define MASK	     (TRC_SCHED_MIN | TRC_SCHED_VERBOSE)
#define STATE_OF(e)  ((e) >> 4 & 3) /* the new one; 0: it runs */
#define NO_STATE(e)  ((e) & ~0x330u)

enum what { ASKED, STILL, RUNS };

struct event {
	uint64_t tsc;
	enum what what;
};

struct events {
	struct event *event;
	size_t n;
};

static void die(const char *what)
{
	fprintf(stderr, "xen-pause: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void add(struct events *es, uint64_t tsc, enum what what)
{
	if (es->n == EVENTS_MAX)
		die("too many events");
	es->event[es->n++] = (struct event){ .tsc = tsc, .what = what };
}

/* --- the word ----------------------------------------------------------------------- */

static struct xs_handle *listen_for(uint32_t domid)
{
	struct xs_handle *xs = xs_open(0);
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", domid);
	if (!xs || !xs_watch(xs, path, "asked"))
		die("xenstore");
	return xs;
}

/* Until the child ends. The guest's answer, which takes the word away, is heard as well. */
static void hear(struct xs_handle *xs, pid_t child, struct events *es)
{
	struct pollfd p = { .fd = xs_fileno(xs), .events = POLLIN };
	int status;

	while (!waitpid(child, &status, WNOHANG)) {
		if (poll(&p, 1, 200) <= 0)
			continue;
		add(es, __rdtsc(), ASKED);
		free(xs_check_watch(xs));
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("xentrace ended badly");
}

/* --- Xen's trace -------------------------------------------------------------------- */

static pid_t start_trace(const char *seconds, const char *file)
{
	char mask[16];
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child)
		return child;
	snprintf(mask, sizeof(mask), "0x%x", MASK);
	execlp("xentrace", "xentrace", "-D", "-s", "1000", "-S", "256", "-e", mask, "-T", seconds,
	       file, NULL);
	die("xentrace");
	return -1;
}

static void take(const struct t_rec *rec, uint64_t tsc, const uint32_t *extra, uint32_t domid,
		 struct events *es)
{
	if (rec->event == TRC_SCHED_SHUTDOWN && rec->extra_u32 >= 3 && extra[0] == domid &&
	    extra[2] == SHUTDOWN_suspend)
		add(es, tsc, STILL);
	if (NO_STATE(rec->event) == TRC_SCHED_RUNSTATE_CHANGE && rec->extra_u32 >= 1 &&
	    extra[0] >> 16 == domid && !STATE_OF(rec->event))
		add(es, tsc, RUNS);
}

static void read_trace(const char *file, uint32_t domid, struct events *es)
{
	FILE *f = fopen(file, "r");
	uint32_t head, stamp[2], extra[7];
	uint64_t lost = 0;

	if (!f)
		die(file);
	while (fread(&head, sizeof(head), 1, f) == 1) {
		struct t_rec rec = { .event = head & 0x0fffffff,
				     .extra_u32 = head >> 28 & 7,
				     .cycles_included = head >> 31 };

		if ((rec.cycles_included && fread(stamp, sizeof(stamp), 1, f) != 1) ||
		    fread(extra, sizeof(extra[0]), rec.extra_u32, f) != rec.extra_u32)
			break;
		lost += rec.event == TRC_LOST_RECORDS;
		if (rec.cycles_included)
			take(&rec, (uint64_t)stamp[1] << 32 | stamp[0], extra, domid, es);
	}
	fclose(f);
	if (lost)
		fprintf(stderr, "xen-pause: the trace has %" PRIu64 " holes\n", lost);
}

/* --- both ---------------------------------------------------------------------------- */

static int earlier(const void *a, const void *b)
{
	uint64_t x = ((const struct event *)a)->tsc, y = ((const struct event *)b)->tsc;

	return x < y ? -1 : x > y;
}

/* A checkpoint: the first word since it ran, the suspend, and that it runs. */
static void print(const struct events *es, double tsc_per_us)
{
	uint64_t asked = 0, still = 0, first = 0, last = 0;

	for (size_t i = 0; i < es->n; i++) {
		const struct event *e = &es->event[i];

		if (e->what == ASKED && !asked)
			asked = e->tsc;
		if (e->what == STILL)
			still = e->tsc;
		if (e->what != RUNS || !still)
			continue;
		if (first && asked)
			printf("%.0f %.0f\n", (double)(still - asked) / tsc_per_us,
			       (double)(e->tsc - asked) / tsc_per_us);
		first = first ? first : e->tsc;
		last = e->tsc;
		asked = still = 0;
	}
	printf("elapsed_us %.0f\n", (double)(last - first) / tsc_per_us);
}

int main(int argc, char **argv)
{
	struct sched_param above = { .sched_priority = sched_get_priority_max(SCHED_FIFO) };
	struct events es = { 0 };
	struct xs_handle *xs;
	uint64_t ns, tsc;
	uint32_t domid;
	pid_t child;

	if (argc != 4) {
		fprintf(stderr, "usage: xen-pause DOMID SECONDS FILE\n");
		return 2;
	}
	domid = (uint32_t)strtoul(argv[1], NULL, 10);
	es.event = calloc(EVENTS_MAX, sizeof(*es.event));
	if (!es.event)
		die("memory");
	child = start_trace(argv[2], argv[3]);
	if (sched_setscheduler(0, SCHED_FIFO, &above))
		die("sched_setscheduler");
	xs = listen_for(domid);
	ns = clock_now_ns();
	tsc = __rdtsc();
	hear(xs, child, &es);
	read_trace(argv[3], domid, &es);
	qsort(es.event, es.n, sizeof(*es.event), earlier);
	print(&es, (double)(__rdtsc() - tsc) / (double)(clock_now_ns() - ns) * 1000);
	return 0;
}
