/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disklog DIR [OUT.json]: the backup's log in memory and on disk, side by side, without a VM:
 * epochs of 4 KiB writes to a disk in DIR, logged, made durable, and applied by a second thread.
 * At full speed: the throughput. One epoch each 50 ms: what passes from whole to acknowledgeable.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hist.h"
#include "disk-replica/apply.h"
#include "disk-replica/log_file.h"

#define DISK_BYTES (UINT64_C(256) << 20)
#define LOG_BYTES  (UINT64_C(64) << 20)
#define BLOCK	   4096u
#define RUN_NS	   (3 * NS_PER_S)
#define PACE_NS	   (50 * NS_PER_MS)

struct run {
	const char *dir;
	bool disk, paced;
	uint32_t blocks; /* an epoch */
	struct disk_info info;
	struct disk_log *log;
	struct apply *apply;
	int pipe[2];
	struct hist durable;
	uint64_t bytes, ns, seed;
};

static void check(int err, const struct reason *why)
{
	if (!err)
		return;
	fprintf(stderr, "disklog: %s\n", why && why->text[0] ? why->text : strerror(-err));
	exit(1);
}

static void sleep_ns(uint64_t ns)
{
	struct timespec t = { .tv_nsec = (long)ns };

	nanosleep(&t, NULL);
}

static void *apply_all(void *opaque)
{
	struct run *r = opaque;
	struct reason why = { 0 };
	uint64_t epoch;

	while (read(r->pipe[0], &epoch, sizeof(epoch)) == sizeof(epoch))
		check(apply_epoch(r->apply, r->log, epoch, &why), &why);
	return NULL;
}

static void open_run(struct run *r)
{
	struct log_file_info info = { .generation = 1, .limit = LOG_BYTES, .nr_disks = 1 };
	struct apply_config apply = { .disks = &r->info, .nr_disks = 1, .state_dir = r->dir };
	struct log_file *file = NULL;
	struct reason why = { 0 };
	int fd;

	snprintf(r->info.path, sizeof(r->info.path), "%s/disk.img", r->dir);
	r->info.bytes = info.bytes[0] = DISK_BYTES;
	fd = open(r->info.path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	check(fd < 0 || ftruncate(fd, DISK_BYTES) ? -errno : 0, NULL);
	close(fd);
	if (r->disk)
		check(log_file_create(r->dir, &info, &file, &why), &why);
	check(disk_log_open(LOG_BYTES, file, &r->log, &why), &why);
	check(apply_open(&apply, &r->apply, &why), &why);
	check(apply_sync(r->apply, &why), &why);
	check(pipe2(r->pipe, O_CLOEXEC) ? -errno : 0, NULL);
}

static void append(struct run *r, uint64_t epoch)
{
	static const uint8_t data[BLOCK] = { 1, 2, 3 };
	struct disk_record w = { CONTROL_DISK_WRITE, 0, 0, BLOCK, data };
	struct reason why;
	int err;

	r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
	w.offset = (r->seed >> 33) % (DISK_BYTES / BLOCK) * BLOCK;
	while ((err = disk_log_append(r->log, epoch, &w, &why)) == -ENOSPC)
		sleep_ns(NS_PER_MS);
	check(err, &why);
}

static void run(struct run *r)
{
	struct reason why = { 0 };
	pthread_t thread;
	uint64_t begun, epoch = 2;

	open_run(r);
	pthread_create(&thread, NULL, apply_all, r);
	begun = clock_now_ns();
	while (clock_now_ns() - begun < RUN_NS) {
		uint64_t whole, now;
		int err;

		for (uint32_t i = 0; i < r->blocks; i++)
			append(r, epoch);
		whole = clock_now_ns();
		while ((err = disk_log_seal(r->log, epoch, &why)) == -ENOSPC)
			sleep_ns(NS_PER_MS);
		check(err, &why);
		check(disk_log_sync(r->log, &why), &why);
		now = clock_now_ns();
		hist_add(&r->durable, now - whole);
		r->bytes += (uint64_t)r->blocks * BLOCK;
		if (write(r->pipe[1], &epoch, sizeof(epoch)) != sizeof(epoch))
			exit(1);
		epoch++;
		if (r->paced && now < whole + PACE_NS)
			sleep_ns(whole + PACE_NS - now);
	}
	r->ns = clock_now_ns() - begun;
	close(r->pipe[1]);
	pthread_join(thread, NULL);
	close(r->pipe[0]);
	apply_close(r->apply);
	disk_log_close(r->log);
}

static void report(const struct run *r, FILE *out, bool first)
{
	double mbs = (double)r->bytes / 1e6 / ((double)r->ns / 1e9);
	uint64_t p50 = hist_percentile(&r->durable, 500), p99 = hist_percentile(&r->durable, 990);

	printf("%-7s %-6s %5u KiB an epoch  %8.1f MB/s  durable p50 %8.3f ms  p99 %8.3f ms\n",
	       r->disk ? "disk" : "memory", r->paced ? "50 ms" : "full", r->blocks * BLOCK / 1024,
	       mbs, (double)p50 / 1e6, (double)p99 / 1e6);
	if (out)
		fprintf(out,
			"%s{\"commit\": \"%s\", \"paced\": %s, \"epoch_bytes\": %u, "
			"\"bytes_per_s\": %.0f, \"durable_ns\": {\"p50\": %llu, \"p99\": %llu}}",
			first ? "[" : ",\n", r->disk ? "disk" : "memory",
			r->paced ? "true" : "false", r->blocks * BLOCK, mbs * 1e6,
			(unsigned long long)p50, (unsigned long long)p99);
}

int main(int argc, char **argv)
{
	static const uint32_t blocks[] = { 16, 256, 1024 };
	FILE *out = argc > 2 ? fopen(argv[2], "we") : NULL;
	bool first = true;

	if (argc < 2 || (argc > 2 && !out)) {
		fprintf(stderr, "usage: disklog DIR [OUT.json]\n");
		return 2;
	}
	for (unsigned int paced = 0; paced < 2; paced++)
		for (unsigned int b = 0; b < ARRAY_SIZE(blocks); b++)
			for (unsigned int disk = 0; disk < 2; disk++) {
				struct run r = { .dir = argv[1],
						 .disk = disk,
						 .paced = paced,
						 .blocks = blocks[b] };

				run(&r);
				report(&r, out, first);
				first = false;
			}
	if (out) {
		fprintf(out, "]\n");
		fclose(out);
	}
	return 0;
}
