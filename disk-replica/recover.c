/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/recover.h"

#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/log_file.h"
#include "disk-replica/marker.h"
#include "disk-replica/recover_read.h"
#include "disk-replica/regions.h"
#include "disk-replica/target.h"

struct recovery {
	const struct recover_config *config;
	struct apply_marker marker;
	struct log_file *file;
	struct log_scan scan;
	struct disk_info disks[DISK_MAX];
	struct target targets[DISK_MAX];
	unsigned int nr_open;
};

/* Whose log it is: a wrong one would be applied to the wrong disks without a complaint. */
static int check_file(struct recovery *r, struct reason *why)
{
	const struct recover_config *c = r->config;
	const struct log_file_info *i = &r->file->info;

	if (memcmp(i->uuid, c->uuid, sizeof(i->uuid)))
		return reason_set(why, EXDEV, "%s/%s is of another VM", c->state_dir,
				  LOG_FILE_NAME);
	if (i->generation != r->marker.generation)
		return reason_set(why, ESTALE, "%s/%s is of generation %llu, the disks of %llu",
				  c->state_dir, LOG_FILE_NAME, (unsigned long long)i->generation,
				  (unsigned long long)r->marker.generation);
	if (i->key != r->marker.log_key)
		return reason_set(why, ESTALE, "%s/%s is not the log that the disks follow",
				  c->state_dir, LOG_FILE_NAME);
	if (i->nr_disks != c->nr_disks)
		return reason_set(why, EINVAL, "%s/%s is of %u disks, the VM has %u", c->state_dir,
				  LOG_FILE_NAME, i->nr_disks, c->nr_disks);
	return 0;
}

static int open_disks(struct recovery *r, struct reason *why)
{
	for (unsigned int i = 0; i < r->config->nr_disks; i++) {
		int err;

		r->disks[i] = r->config->disks[i];
		r->disks[i].bytes = r->file->info.bytes[i];
		err = target_open(&r->disks[i], &r->targets[i], why);
		if (err)
			return err;
		r->nr_open++;
	}
	return 0;
}

static int apply_change(struct recovery *r, const struct log_reader *at, struct reason *why)
{
	struct disk_record change = recover_change(at);
	int err =
		fault_at("recover.apply") ? -EIO : target_change(&r->targets[change.disk], &change);

	if (!err)
		return 0;
	return reason_set(why, -err, "%s of %llu bytes at %llu of %s: %s", disk_op_name(change.op),
			  (unsigned long long)change.length, (unsigned long long)change.offset,
			  r->disks[change.disk].path, strerrordesc_np(-err));
}

static int apply_all(struct recovery *r, struct reason *why)
{
	cleanup_free struct log_reader *at = malloc(sizeof(*at));
	uint64_t pos = r->file->tail.position;
	int err = at ? 0 : -ENOMEM;

	for (; !err && pos < r->scan.end; pos += at->record.size) {
		err = recover_read(r->file, pos, at);
		if (err)
			return reason_set(why, EIO, "the disk log has changed at %llu",
					  (unsigned long long)pos);
		/* Flushed is all of it, once, at the end. */
		if (log_record_is_change(&at->record) && at->record.kind != CONTROL_DISK_FLUSH)
			err = apply_change(r, at, why);
	}
	return err;
}

static int flush(struct recovery *r, struct reason *why)
{
	for (unsigned int i = 0; i < r->nr_open; i++) {
		int err = fault_at("recover.flush") ? -EIO : target_flush(&r->targets[i]);

		if (err)
			return reason_set(why, -err, "flush of %s: %s", r->disks[i].path,
					  strerrordesc_np(-err));
	}
	return 0;
}

static int write_marker(struct recovery *r, const struct apply_marker *m, struct reason *why)
{
	int err = apply_marker_write(r->config->state_dir, m);

	if (err)
		return reason_set(why, -err, "%s/%s cannot be written: %s", r->config->state_dir,
				  APPLY_MARKER_NAME, strerrordesc_np(-err));
	r->marker = *m;
	return 0;
}

/* Nobody else has written to the disks; from now on we do, as of this boot of the host. */
static int begin(struct recovery *r, struct reason *why)
{
	struct apply_marker m = r->marker;
	int err = regions_check_disks(&m.stamp, r->disks, r->nr_open, why);

	if (err)
		return err;
	m.stamp = (struct region_stamp){ .state = REGION_OPEN };
	regions_boot_id(m.stamp.boot);
	return fault_at("recover.begin") ? reason_set(why, EIO, "fault point recover.begin")
					 : write_marker(r, &m, why);
}

static int mark(struct recovery *r, struct reason *why)
{
	struct apply_marker m = r->marker;

	m.state = APPLY_CONSISTENT;
	m.epoch = r->scan.epoch;
	m.wall_ns = clock_wall_ns();
	m.log_key = 0;
	/* How they look now is how they were left: whoever looks next may know by it. */
	(void)regions_stamp_closed(&m.stamp, r->disks, r->nr_open);
	return fault_at("recover.mark") ? reason_set(why, EIO, "fault point recover.mark")
					: write_marker(r, &m, why);
}

static int recover(struct recovery *r, struct reason *why)
{
	int err = log_file_open(r->config->state_dir, &r->file, why);

	if (!err)
		err = check_file(r, why);
	if (!err)
		err = open_disks(r, why);
	if (!err)
		err = recover_scan(r->file, r->disks, &r->scan, why);
	if (!err)
		err = begin(r, why);
	if (!err)
		err = apply_all(r, why);
	if (!err)
		err = flush(r, why);
	if (!err)
		err = mark(r, why);
	for (unsigned int i = 0; i < r->nr_open; i++)
		target_close(&r->targets[i]);
	log_file_close(r->file);
	return err;
}

int recover_disks(const struct recover_config *config, struct recovered *ret, struct reason *why)
{
	struct recovery r = { .config = config };
	struct recovered done = { 0 };
	int err = apply_marker_read(config->state_dir, &r.marker);

	if (err == -ENOENT) {
		*ret = done;
		return 0;
	}
	if (err)
		return reason_set(why, -err, "%s/%s cannot be read", config->state_dir,
				  APPLY_MARKER_NAME);
	if (r.marker.state == APPLY_FOLLOWING && r.marker.log_key) {
		err = recover(&r, why);
		if (err)
			return err;
		done.epochs = r.scan.epochs;
		done.changes = r.scan.changes;
		done.dropped = r.scan.broken - r.scan.end;
	}
	done.consistent = r.marker.state == APPLY_CONSISTENT;
	if (done.consistent) {
		done.generation = r.marker.generation;
		done.epoch = r.marker.epoch;
		done.wall_ns = r.marker.wall_ns;
	}
	*ret = done;
	return 0;
}
