/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply.h: the standby's disks, and what becomes of them.
 *
 * Invariant: from before the first change until apply_finish() has removed it, the marker
 * is on stable storage.
 */
#include "disk-replica/apply.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/log_file.h"
#include "disk-replica/regions.h"
#include "disk-replica/target.h"

#define APPLY_DIR_MAX 512u

struct apply {
	struct disk_info disks[DISK_MAX];
	struct target targets[DISK_MAX];
	unsigned int nr_disks; /* that are open */
	char state_dir[APPLY_DIR_MAX];
	uint64_t generation, log_key;
	enum apply_state state, before; /* before: when it broke */
	int error;			/* the -errno that broke it; atomic */
	bool related;
	struct region_header relation;
	bool last; /* a takeover: no room is needed any more */
	bool lost; /* a flush has failed */
	uint64_t bytes;
	pthread_mutex_t lock;
	uint64_t applied, settled; /* lock; epochs up to the lower one leave the log */
};

static struct apply_marker marker_of(const struct apply *a, enum apply_state state)
{
	struct apply_marker marker = {
		.state = state,
		.error = state == APPLY_FAILED ? -a->error : 0,
		.wall_ns = clock_wall_ns(),
		.stamp = { .state = REGION_OPEN },
		.generation = a->generation,
		.log_key = a->log_key,
	};

	memcpy(marker.token, a->relation.token, sizeof(marker.token));
	regions_boot_id(marker.stamp.boot);
	return marker;
}

static int set_state(struct apply *a, enum apply_state state, struct reason *why)
{
	struct apply_marker marker = marker_of(a, state);
	int err = apply_marker_write(a->state_dir, &marker);

	if (err)
		return reason_set(why, -err, "%s/%s cannot be written: %s", a->state_dir,
				  APPLY_MARKER_NAME, strerrordesc_np(-err));
	a->state = state;
	return 0;
}

static int open_targets(struct apply *a, const struct apply_config *config, struct reason *why)
{
	for (unsigned int i = 0; i < config->nr_disks; i++) {
		bool drbd = disk_is_drbd(&config->disks[i]);
		int err = drbd ? 0 : target_open(&config->disks[i], &a->targets[i], why);

		if (err)
			return err;
		if (drbd) {
			a->targets[i].fd = -1;
			a->settled = 0;
		}
		a->disks[i] = config->disks[i];
		a->nr_disks++;
	}
	return 0;
}

/* What this host wrote when it ran the VM stays until the copy is whole. */
static int begin_relation(struct apply *a, struct reason *why)
{
	struct regions own;
	int err = regions_read(a->state_dir, NULL, 0, &own, NULL);
	bool same = false;

	if (!err) {
		same = !memcmp(own.header.token, a->relation.token, REGION_TOKEN_BYTES);
		regions_close(&own);
	}
	if (same)
		return 0;
	err = regions_create(a->state_dir, &a->relation, a->disks, a->nr_disks, false);
	return err ? reason_set(why, -err, "%s/%s cannot be written: %s", a->state_dir,
				REGIONS_NAME, strerrordesc_np(-err))
		   : 0;
}

static int begin(struct apply *a, const struct apply_config *config, struct reason *why)
{
	int err = open_targets(a, config, why);

	if (!err && a->related)
		err = begin_relation(a, why);
	if (!err && fault_at("apply.open"))
		err = reason_set(why, EIO, "fault point apply.open");
	return err ? err : set_state(a, APPLY_COPYING, why);
}

int apply_open(const struct apply_config *config, struct apply **ret, struct reason *why)
{
	struct apply *a;
	int err;

	if (config->nr_disks > DISK_MAX)
		return reason_set(why, EINVAL, "%u disks, the limit is %u", config->nr_disks,
				  DISK_MAX);
	if (strlen(config->state_dir) >= APPLY_DIR_MAX)
		return reason_set(why, ENAMETOOLONG,
				  "the path of the state has %zu bytes, limit %u",
				  strlen(config->state_dir), APPLY_DIR_MAX - 1);
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	strcpy(a->state_dir, config->state_dir);
	pthread_mutex_init(&a->lock, NULL);
	a->settled = UINT64_MAX;
	a->generation = config->generation;
	a->log_key = config->log_key;
	a->related = config->relation && config->nr_disks;
	if (a->related)
		a->relation = *config->relation;
	err = begin(a, config, why);
	if (err) {
		a->state = 0; /* no marker of ours: none to say how the disks look */
		apply_close(a);
		return err;
	}
	*ret = a;
	return 0;
}

/* Best effort: without it the next one to look knows less. */
static void say_how_they_look(struct apply *a)
{
	struct apply_marker marker = marker_of(a, a->state);

	if (!regions_stamp_closed(&marker.stamp, a->disks, a->nr_disks))
		(void)apply_marker_write(a->state_dir, &marker);
}

void apply_close(struct apply *a)
{
	if (!a)
		return;
	if (a->related && a->state)
		say_how_they_look(a);
	for (unsigned int i = 0; i < a->nr_disks; i++)
		target_close(&a->targets[i]);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

bool apply_is_broken(const struct apply *a)
{
	return __atomic_load_n(&a->error, __ATOMIC_RELAXED) != 0;
}

uint64_t apply_bytes(const struct apply *a)
{
	return __atomic_load_n(&a->bytes, __ATOMIC_RELAXED);
}

static int refuse_if_broken(const struct apply *a, struct reason *why)
{
	if (!apply_is_broken(a))
		return 0;
	return reason_set(why, EIO, "the standby's disks are of no use since an error: %s",
			  strerrordesc_np(-a->error));
}

/* What was being applied is there in part: nothing that could follow would make it right. */
static int become_broken(struct apply *a, int err)
{
	__atomic_store_n(&a->error, err, __ATOMIC_RELAXED);
	a->before = a->state;
	/* The marker is there already; that it says why is a courtesy to the operator. */
	(void)set_state(a, APPLY_FAILED, NULL);
	return err;
}

static int apply_one(struct apply *a, const struct disk_record *r, struct reason *why)
{
	int err = target_change(&a->targets[r->disk], r);

	if (err) {
		reason_set(why, -err, "%s of %llu bytes at %llu of %s: %s", disk_op_name(r->op),
			   (unsigned long long)r->length, (unsigned long long)r->offset,
			   a->disks[r->disk].path, strerrordesc_np(-err));
		a->lost |= r->op == CONTROL_DISK_FLUSH;
		return become_broken(a, err);
	}
	__atomic_fetch_add(&a->bytes, r->length, __ATOMIC_RELAXED);
	return 0;
}

int apply_record(struct apply *a, const struct disk_record *r, struct reason *why)
{
	int err = refuse_if_broken(a, why);

	if (!err)
		err = disk_record_check(r, a->disks, a->nr_disks, why);
	return err ? err : apply_one(a, r, why);
}

static int flush_all(struct apply *a, struct reason *why)
{
	for (unsigned int i = 0; i < a->nr_disks; i++) {
		int err = disk_is_drbd(&a->disks[i]) ? 0 : target_flush(&a->targets[i]);

		if (err) {
			reason_set(why, -err, "flush of %s: %s", a->disks[i].path,
				   strerrordesc_np(-err));
			a->lost = true;
			return become_broken(a, err);
		}
	}
	return 0;
}

int apply_sync(struct apply *a, struct reason *why)
{
	int err = refuse_if_broken(a, why);

	if (!err)
		err = flush_all(a, why);
	if (!err && fault_at("apply.synced"))
		err = reason_set(why, EIO, "fault point apply.synced");
	if (!err && a->related) {
		err = regions_create(a->state_dir, &a->relation, a->disks, a->nr_disks, false);
		if (err)
			reason_set(why, -err, "%s/%s cannot be written: %s", a->state_dir,
				   REGIONS_NAME, strerrordesc_np(-err));
	}
	if (!err && fault_at("apply.following"))
		err = reason_set(why, EIO, "fault point apply.following");
	return err ? err : set_state(a, APPLY_FOLLOWING, why);
}

int apply_reclaim(struct apply *a, struct disk_log *log, struct reason *why)
{
	int err = refuse_if_broken(a, why);

	if (err || !disk_log_is_durable(log))
		return err;
	err = flush_all(a, why);
	if (!err && fault_at("log.flushed"))
		err = reason_set(why, EIO, "fault point log.flushed");
	return err ? err : disk_log_reclaim(log, why);
}

/* All records are looked at before the first is applied: a bad one changes nothing (P4). */
static int check_epoch(struct apply *a, struct disk_log *log, uint64_t epoch, struct reason *why)
{
	struct disk_log_iter it = { .epoch = epoch };
	struct disk_record r;
	int err;

	while (!(err = disk_log_next(log, &it, &r))) {
		err = disk_record_check(&r, a->disks, a->nr_disks, why);
		if (err)
			return err;
	}
	if (err == -ENOENT)
		return reason_set(why, ENOENT, "epoch %llu is not whole in the disk log",
				  (unsigned long long)epoch);
	return 0;
}

/* Locked. */
static void release(struct apply *a, struct disk_log *log)
{
	uint64_t oldest;

	while (disk_log_oldest(log, &oldest) && oldest <= MIN(a->applied, a->settled))
		disk_log_release(log, oldest);
}

int apply_epoch(struct apply *a, struct disk_log *log, uint64_t epoch, struct reason *why)
{
	struct disk_log_iter it = { .epoch = epoch };
	struct disk_record r;
	int err = refuse_if_broken(a, why);

	if (!err && a->state != APPLY_FOLLOWING)
		err = reason_set(why, EBUSY, "the initial copy has not been synced");
	if (!err && !a->last && disk_log_reclaim_due(log))
		err = apply_reclaim(a, log, why);
	if (!err)
		err = check_epoch(a, log, epoch, why);
	if (err)
		return err;
	while (!disk_log_next(log, &it, &r)) {
		err = disk_is_drbd(&a->disks[r.disk]) ? 0 : apply_one(a, &r, why);
		if (err)
			return err;
	}
	if (fault_at("log.applied"))
		return reason_set(why, EIO, "fault point log.applied");
	pthread_mutex_lock(&a->lock);
	a->applied = epoch;
	release(a, log);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

bool apply_keeps(const struct apply *a)
{
	for (unsigned int i = 0; i < a->nr_disks; i++)
		if (disk_is_drbd(&a->disks[i]))
			return true;
	return false;
}

void apply_settled(struct apply *a, struct disk_log *log, uint64_t epoch)
{
	pthread_mutex_lock(&a->lock);
	a->settled = MAX(a->settled, epoch);
	release(a, log);
	pthread_mutex_unlock(&a->lock);
}

static int write_again(const struct apply *a, const struct disk_record *r, int fd,
		       struct reason *why)
{
	const struct target t = { .fd = fd };
	int err = target_change(&t, r);

	if (!err)
		return 0;
	return reason_set(why, -err, "%s of %llu bytes at %llu of %s: %s", disk_op_name(r->op),
			  (unsigned long long)r->length, (unsigned long long)r->offset,
			  a->disks[r->disk].path, strerrordesc_np(-err));
}

int apply_kept(struct apply *a, struct disk_log *log, unsigned int disk, int fd, struct reason *why)
{
	const struct disk_record flush = { .op = CONTROL_DISK_FLUSH, .disk = (uint16_t)disk };
	struct disk_record r;
	uint64_t epoch;
	int err = 0;

	if (!disk_log_oldest(log, &epoch))
		return 0;
	for (; epoch <= a->applied && !err; epoch++) {
		struct disk_log_iter it = { .epoch = epoch };

		while (!err && !disk_log_next(log, &it, &r))
			if (r.disk == disk)
				err = write_again(a, &r, fd, why);
	}
	return err ? err : write_again(a, &flush, fd, why);
}

int apply_read(const struct apply *a, unsigned int disk, uint64_t offset, void *ret, size_t len)
{
	return disk < a->nr_disks ? target_read(&a->targets[disk], offset, ret, len) : -EINVAL;
}

int apply_again(struct apply *a, struct reason *why)
{
	a->last = true;
	if (!apply_is_broken(a))
		return 0;
	if (a->before != APPLY_FOLLOWING)
		return refuse_if_broken(a, why);
	__atomic_store_n(&a->error, 0, __ATOMIC_RELAXED);
	return set_state(a, APPLY_FOLLOWING, why);
}

bool apply_has_lost(const struct apply *a)
{
	return a->lost;
}

int apply_finish(struct apply *a, struct reason *why)
{
	int err = refuse_if_broken(a, why);

	if (!err && a->state != APPLY_FOLLOWING)
		err = reason_set(why, EBUSY, "the initial copy has not been synced");
	if (!err && fault_at("apply.finish"))
		err = reason_set(why, EIO, "fault point apply.finish");
	if (!err) {
		err = apply_marker_remove(a->state_dir);
		a->state = err ? a->state : 0;
		if (err)
			reason_set(why, -err, "%s/%s cannot be removed: %s", a->state_dir,
				   APPLY_MARKER_NAME, strerrordesc_np(-err));
	}
	/* Without a marker nobody looks at it. */
	if (!err)
		(void)log_file_remove(a->state_dir);
	apply_close(a);
	return err;
}
