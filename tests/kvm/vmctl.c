/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmctl: speaks to a running pollux-vmm, for tests and measurements.
 *
 *	vmctl RUN-DIR info | pause | unpause | poweroff | reboot | destroy | watch
 *	vmctl RUN-DIR toggle N			pause and unpause N times
 *	vmctl RUN-DIR move RUN-DIR-2 [ROUNDS]	copy the VM into a standby, and go on there
 *	vmctl RUN-DIR marked			of its disks, in bytes: what may differ from a copy
 *	vmctl RUN-DIR epochs N INTERVAL-MS	checkpoints without a backup: times of each step
 *
 * `move` leaves the source paused. It copies all of memory while the VM runs, ROUNDS times
 * what changed, and the rest in a pause.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/hist.h"
#include "hypervisor/control/control.h"
#include "hypervisor/control/region_file.h"

#define PAGE	 4096u
#define HIGH_GFN (UINT64_C(1) << 20)

struct target {
	struct control *control;
	uint8_t *memory, *export;
	uint64_t low_bytes, high_bytes, nr_gfns, dirty_offset, context_offset;
	uint32_t nr_disks;
};

static void die(const char *what, int err, const struct reason *why)
{
	fprintf(stderr, "vmctl: %s: %s\n", what, why && why->text[0] ? why->text : strerror(-err));
	exit(1);
}

static void *map_fd(int fd)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st))
		die("fstat", -errno, NULL);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap", -errno, NULL);
	close(fd);
	return map;
}

static struct cursor call(struct target *t, enum control_op op, const void *request, size_t len)
{
	struct reason why = { 0 };
	struct control_call c = { .op = op, .request = request, .request_len = len, .why = &why };
	struct cursor reply;
	int err = control_call(t->control, &c, &reply);

	if (err) {
		char what[32];

		snprintf(what, sizeof(what), "operation %d", op);
		die(what, err, &why);
	}
	return reply;
}

static void open_target(struct target *t, const char *run_dir)
{
	uint8_t version[4] = { CONTROL_VERSION };
	struct reason why = { 0 };
	int fds[2];
	struct control_call hello = { .op = CONTROL_HELLO,
				      .request = version,
				      .request_len = sizeof(version),
				      .ret_fds = fds,
				      .nr_fds = 2,
				      .why = &why };
	struct cursor r;
	int err = control_connect(run_dir, &t->control);

	if (err)
		die(run_dir, err, NULL);
	err = control_call(t->control, &hello, &r);
	if (err)
		die("hello", err, &why);
	cursor_get_u64(&r);
	cursor_get_view(&r, 16);
	t->low_bytes = cursor_get_u64(&r);
	t->high_bytes = cursor_get_u64(&r);
	t->nr_gfns = cursor_get_u64(&r);
	cursor_get_view(&r, 4);
	t->nr_disks = cursor_get_u32(&r);
	cursor_get_view(&r, 4);
	t->dirty_offset = cursor_get_u64(&r);
	t->context_offset = cursor_get_u64(&r);
	t->memory = map_fd(fds[0]);
	t->export = map_fd(fds[1]);
}

static uint64_t logdirty(struct target *t, enum control_logdirty what)
{
	uint8_t byte = (uint8_t)what;
	struct cursor r = call(t, CONTROL_LOGDIRTY, &byte, 1);

	return cursor_get_u64(&r);
}

static uint64_t offset_of(const struct target *t, uint64_t gfn)
{
	return gfn < HIGH_GFN ? gfn * PAGE : t->low_bytes + (gfn - HIGH_GFN) * PAGE;
}

static uint64_t copy_dirty(struct target *from, uint8_t *to, bool packed)
{
	const uint64_t *map = (const uint64_t *)(void *)(from->export + from->dirty_offset);
	uint64_t n = 0;

	bitmap_for_each (gfn, map, from->nr_gfns) {
		uint64_t at = offset_of(from, gfn);

		memcpy(to + (packed ? n * PAGE : at), from->memory + at, PAGE);
		n++;
	}
	return n;
}

static uint64_t move_state(struct target *from, struct target *to)
{
	struct cursor r = call(from, CONTROL_GET_CONTEXT, NULL, 0);
	uint8_t length[8];
	struct cursor out = cursor_over(length, sizeof(length));
	uint64_t len = cursor_get_u64(&r);

	memcpy(to->export + to->context_offset, from->export + from->context_offset, len);
	cursor_put_u64(&out, len);
	call(to, CONTROL_SET_CONTEXT, length, sizeof(length));
	return len;
}

static int move(struct target *from, const char *run_dir, int rounds)
{
	struct target to;
	uint64_t pages, len, start;

	open_target(&to, run_dir);
	logdirty(from, CONTROL_LOGDIRTY_ENABLE);
	for (int i = 0; i < rounds + 1; i++) {
		logdirty(from, CONTROL_LOGDIRTY_CLEAN);
		printf("round %d: %llu pages\n", i,
		       (unsigned long long)copy_dirty(from, to.memory, false));
	}
	start = clock_now_ns();
	call(from, CONTROL_PAUSE, NULL, 0);
	logdirty(from, CONTROL_LOGDIRTY_CLEAN);
	pages = copy_dirty(from, to.memory, false);
	if (memcmp(from->memory, to.memory, from->low_bytes + from->high_bytes)) {
		fprintf(stderr, "vmctl: the two memories differ\n");
		return 1;
	}
	len = move_state(from, &to);
	call(&to, CONTROL_UNPAUSE, NULL, 0);
	printf("last: %llu pages, state %llu bytes, %.1f ms with the comparison\n",
	       (unsigned long long)pages, (unsigned long long)len,
	       (double)(clock_now_ns() - start) / 1e6);
	return 0;
}

enum { STOP, STOP_INSIDE, DIRTY, STATE, COPY, RESUME, ALL, STEPS };

static uint64_t lap(struct hist *h, uint64_t since)
{
	uint64_t now = clock_now_ns();

	hist_add(h, now - since);
	return now;
}

static int epochs(struct target *t, int n, int interval_ms)
{
	static const char *const names[] = { "stop", "stop_inside", "dirty", "state",
					     "copy", "resume",	    "pause" };
	static struct hist hist[STEPS], dirty;
	uint8_t *copy = malloc(t->low_bytes + t->high_bytes);

	logdirty(t, CONTROL_LOGDIRTY_ENABLE);
	logdirty(t, CONTROL_LOGDIRTY_CLEAN);
	copy_dirty(t, copy, true);
	for (int i = 0; i < n; i++) {
		uint64_t start, at;
		struct cursor r;

		poll(NULL, 0, interval_ms);
		at = start = clock_now_ns();
		r = call(t, CONTROL_PAUSE, NULL, 0);
		hist_add(&hist[STOP_INSIDE], cursor_get_u64(&r));
		at = lap(&hist[STOP], at);
		logdirty(t, CONTROL_LOGDIRTY_CLEAN);
		at = lap(&hist[DIRTY], at);
		call(t, CONTROL_GET_CONTEXT, NULL, 0);
		at = lap(&hist[STATE], at);
		hist_add(&dirty, copy_dirty(t, copy, true));
		at = lap(&hist[COPY], at);
		call(t, CONTROL_UNPAUSE, NULL, 0);
		lap(&hist[RESUME], at);
		lap(&hist[ALL], start);
	}
	logdirty(t, CONTROL_LOGDIRTY_OFF);
	printf("dirty pages: p50 %llu p99 %llu\n", (unsigned long long)hist_percentile(&dirty, 500),
	       (unsigned long long)hist_percentile(&dirty, 990));
	for (int s = 0; s < STEPS; s++)
		printf("%-12s us: p10 %8.1f  p50 %8.1f  p99 %8.1f  max %8.1f\n", names[s],
		       (double)hist_percentile(&hist[s], 100) / 1e3,
		       (double)hist_percentile(&hist[s], 500) / 1e3,
		       (double)hist_percentile(&hist[s], 990) / 1e3, (double)hist[s].max / 1e3);
	free(copy);
	return 0;
}

static int info(struct target *t)
{
	static const char *const states[] = { "running", "paused", "stopped" };
	struct cursor r = call(t, CONTROL_INFO, NULL, 0);
	uint8_t state = cursor_get_u8(&r), reason = cursor_get_u8(&r);
	uint32_t pauses = cursor_get_u32(&r);

	printf("%s reason=%u pauses=%u cpu_ms=%llu\n", state < 3 ? states[state] : "?", reason,
	       pauses, (unsigned long long)(cursor_get_u64(&r) / 1000000));
	return 0;
}

/* The server of a disk answers, too. */
static int marked(const char *run_dir)
{
	struct target target = { 0 }, *t = &target;
	uint64_t sum = 0;
	int err = control_connect(run_dir, &t->control);
	struct cursor list;
	uint16_t nr_disks;

	if (err)
		die(run_dir, err, NULL);
	list = call(t, CONTROL_DISK_LIST, NULL, 0);
	nr_disks = cursor_get_u16(&list);
	for (uint16_t disk = 0; disk < nr_disks; disk++) {
		uint8_t request[2] = { (uint8_t)disk };
		struct cursor r = call(t, CONTROL_TRACK_READ, request, sizeof(request));
		uint64_t bytes, n, regions = 0;

		cursor_get_view(&r, REGION_TOKEN_BYTES);
		bytes = cursor_get_u64(&r);
		n = cursor_get_u64(&r);
		while (n--)
			regions += (uint64_t)__builtin_popcountll(cursor_get_u64(&r));
		sum += regions << region_shift(bytes);
	}
	printf("%llu\n", (unsigned long long)sum);
	return 0;
}

static int shut_down(struct target *t, enum control_reason how)
{
	uint8_t byte = (uint8_t)how;

	call(t, CONTROL_SHUTDOWN, &byte, 1);
	return 0;
}

/* Until the VM stops, or its process ends. */
static int watch(struct target *t)
{
	uint8_t told[8];

	call(t, CONTROL_WATCH, NULL, 0);
	for (;;) {
		ssize_t n = recv(control_fd(t->control), told, sizeof(told), 0);

		if (n != sizeof(told))
			return n == 0 ? 0 : 1;
		printf("state=%u reason=%u\n", told[0], told[4]);
		fflush(stdout);
		if (told[0] == CONTROL_STOPPED)
			return 0;
	}
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[2] : "";
	struct target t;

	if (argc < 3) {
		fprintf(stderr, "usage: vmctl RUN-DIR VERB [ARGUMENT...]\n");
		return 2;
	}
	if (!strcmp(verb, "marked"))
		return marked(argv[1]);
	open_target(&t, argv[1]);
	if (!strcmp(verb, "info"))
		return info(&t);
	if (!strcmp(verb, "pause"))
		return call(&t, CONTROL_PAUSE, NULL, 0), 0;
	if (!strcmp(verb, "unpause"))
		return call(&t, CONTROL_UNPAUSE, NULL, 0), 0;
	if (!strcmp(verb, "poweroff"))
		return shut_down(&t, CONTROL_POWEROFF);
	if (!strcmp(verb, "reboot"))
		return shut_down(&t, CONTROL_REBOOT);
	if (!strcmp(verb, "destroy"))
		return shut_down(&t, CONTROL_DESTROY);
	if (!strcmp(verb, "watch"))
		return watch(&t);
	if (!strcmp(verb, "toggle") && argc > 3) {
		for (int i = 0; i < atoi(argv[3]); i++) {
			call(&t, CONTROL_PAUSE, NULL, 0);
			call(&t, CONTROL_UNPAUSE, NULL, 0);
		}
		return 0;
	}
	if (!strcmp(verb, "move") && argc > 3)
		return move(&t, argv[3], argc > 4 ? atoi(argv[4]) : 2);
	if (!strcmp(verb, "epochs") && argc > 4)
		return epochs(&t, atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr, "vmctl: %s: unknown, or without its argument\n", verb);
	return 2;
}
