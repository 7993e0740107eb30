/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup in miniature, for tests of what serves disks:
 *
 *	nbd_replica CONTROL_DIR TARGET STATE_DIR RING_BYTES
 *
 * copies the disk of a source to TARGET and follows its changes, epoch by epoch, through the
 * product's own mirror, log and apply. It says "following" once the first copy is whole.
 * SIGUSR1 makes it stop taking changes ("paused"), SIGUSR2 go on; SIGTERM ends it with a last
 *epoch, after which TARGET equals the source, and the counts of what there was.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "disk-replica/apply.h"
#include "disk-replica/copy.h"
#include "disk-replica/log.h"
#include "disk-replica/mirror.h"

#define LOG_BYTES   (UINT64_C(64) << 20)
#define INTERVAL_MS 20

struct replica {
	struct control *control;
	struct mirror *mirror;
	struct copy *copy;
	struct apply *apply;
	struct disk_log *log;
	struct sources from;
	struct disk_info to;
	uint64_t epoch;
	uint64_t ops[CONTROL_DISK_ZEROES + 1];
	struct reason why;
};

static void check(struct replica *r, const char *what, int err)
{
	if (!err)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, strerror(-err), r->why.text);
	exit(1);
}

static void say(const char *word)
{
	printf("%s\n", word);
	fflush(stdout);
}

static void open_all(struct replica *r, char **argv)
{
	struct apply_config to = { .disks = &r->to, .nr_disks = 1, .state_dir = argv[3] };
	struct mirror_config from = { .sources = &r->from };

	check(r, argv[1], control_connect(argv[1], &r->control));
	check(r, "sources", sources_open(r->control, &r->from, &r->why));
	check(r, "number of disks", r->from.nr_disks == 1 ? 0 : -EPROTO);
	r->to.bytes = r->from.disks[0].bytes;
	snprintf(r->to.path, sizeof(r->to.path), "%s", argv[2]);
	from.ring_bytes = strtoull(argv[4], NULL, 0);
	check(r, "apply", apply_open(&to, &r->apply, &r->why));
	check(r, "log", disk_log_open(LOG_BYTES, NULL, &r->log, &r->why));
	check(r, "mirror", mirror_open(&from, &r->mirror, &r->why));
	check(r, "copy", copy_open(r->from.disks, 1, &r->copy, &r->why));
}

static int take(struct replica *r, const struct mirror_mark *limit, struct disk_record *ret)
{
	int err = mirror_next(r->mirror, limit, ret, &r->why);

	if (err == -EAGAIN)
		return err;
	check(r, "mirror", err);
	r->ops[ret->op]++;
	return 0;
}

/* As the sender and the backup do it until the first epoch is whole. */
static void copy_disk(struct replica *r)
{
	struct disk_record record;
	struct mirror_mark now;
	int err;

	while (!(err = copy_next(r->copy, &record, &r->why))) {
		check(r, "apply", apply_record(r->apply, &record, &r->why));
		mirror_now(r->mirror, &now);
		while (!take(r, &now, &record))
			check(r, "apply", apply_record(r->apply, &record, &r->why));
	}
	check(r, "copy", err == -ENODATA ? 0 : err);
	check(r, "sync", apply_sync(r->apply, &r->why));
	say("following");
}

static void one_epoch(struct replica *r)
{
	struct mirror_mark limit;
	struct disk_record record;

	r->epoch++;
	mirror_boundary(r->mirror, &limit);
	check(r, "sources", mirror_check(r->mirror, &r->why));
	while (!take(r, &limit, &record))
		check(r, "log", disk_log_append(r->log, r->epoch, &record, &r->why));
	check(r, "seal", disk_log_seal(r->log, r->epoch, &r->why));
	check(r, "apply", apply_epoch(r->apply, r->log, r->epoch, &r->why));
}

static void follow(struct replica *r, int signals)
{
	struct pollfd p = { .fd = signals, .events = POLLIN };
	struct signalfd_siginfo info = { 0 };
	bool paused = false;

	while (info.ssi_signo != SIGTERM) {
		if (!paused)
			one_epoch(r);
		if (poll(&p, 1, paused ? -1 : INTERVAL_MS) <= 0)
			continue;
		if (read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		paused = info.ssi_signo == SIGUSR1;
		say(paused ? "paused" : "going on");
	}
	one_epoch(r);
}

int main(int argc, char **argv)
{
	struct replica r = { 0 };
	sigset_t set;
	int signals;

	if (argc != 5)
		return 2;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	open_all(&r, argv);
	copy_disk(&r);
	follow(&r, signals);
	mirror_close(r.mirror);
	copy_close(r.copy);
	check(&r, "finish", apply_finish(r.apply, &r.why));
	disk_log_close(r.log);
	sources_close(&r.from);
	control_close(r.control);
	printf("%llu epochs, %llu writes, %llu flushes, %llu discards, %llu zeroes\n",
	       (unsigned long long)r.epoch, (unsigned long long)r.ops[CONTROL_DISK_WRITE],
	       (unsigned long long)r.ops[CONTROL_DISK_FLUSH],
	       (unsigned long long)r.ops[CONTROL_DISK_DISCARD],
	       (unsigned long long)r.ops[CONTROL_DISK_ZEROES]);
	return 0;
}
