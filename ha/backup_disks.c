/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/backup_disks.h"

#include "disk-replica/apply.h"
#include "disk-replica/log.h"
#include "disk-replica/log_file.h"
#include "disk-replica/recover.h"
#include "disk-replica/region_sets.h"
#include "disk-replica/sources.h"
#include "ha/backup.h"
#include "ha/durable.h"
#include "ha/harden.h"

/* The new log takes the place of the old one. Until the new copy begins, the disks are at least
 * a whole epoch; where that cannot be had, the copy makes them good. */
static void recover(struct engine *e)
{
	struct backup *b = e->side;
	struct recover_config config = { .state_dir = e->settings.record_dir,
					 .disks = b->disks,
					 .nr_disks = b->nr_disks };
	struct recovered done;
	struct reason why = { 0 };
	int r;

	memcpy(config.uuid, e->settings.uuid, sizeof(config.uuid));
	r = recover_disks(&config, &done, &why);
	if (r)
		engine_event(e, "recovery-failed", "%s", why.text);
	else if (done.consistent)
		engine_event(e, "recovered",
			     "the disks are those of epoch %llu, generation %llu: %llu epochs with "
			     "%llu changes from the log",
			     (unsigned long long)done.epoch, (unsigned long long)done.generation,
			     (unsigned long long)done.epochs, (unsigned long long)done.changes);
}

static int open_log(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	uint64_t limit = MAX(DISK_LOG_PER_RING * e->settings.disk_ring_bytes, DISK_LOG_MIN);
	struct log_file_info info = { .generation = e->role.own.generation,
				      .limit = limit,
				      .nr_disks = b->nr_disks };
	struct log_file *file = NULL;
	int r = 0;

	memcpy(info.uuid, e->settings.uuid, sizeof(info.uuid));
	for (unsigned int i = 0; i < b->nr_disks; i++)
		info.bytes[i] = b->disks[i].bytes;
	if (e->settings.commit_disk)
		r = log_file_create(e->settings.record_dir, &info, &file, why);
	else
		log_file_remove(e->settings.record_dir); /* nobody would look at it */
	return r ? r : disk_log_open(limit, file, &b->log, why);
}

/* Those that a server here will serve to the VM are filled where they lie. */
static int list_disks(struct backup *b, struct reason *why)
{
	struct sources *s = calloc(1, sizeof(*s));
	int r = s ? sources_open(b->control, s, why) : -ENOMEM;

	if (!r) {
		memcpy(b->disks, s->disks, sizeof(b->disks));
		b->nr_disks = s->nr_disks;
		sources_close(s);
	}
	free(s);
	return r;
}

int backup_open_disks(struct engine *e, struct reason *why)
{
	struct backup *b = e->side;
	struct apply_config config = { .disks = b->disks,
				       .state_dir = e->settings.record_dir,
				       .generation = e->role.own.generation };
	struct region_header relation = { .generation = e->role.own.generation };
	struct harden_config harden = { .mailbox = e->mailbox };
	int r = list_disks(b, why);

	config.nr_disks = b->nr_disks;
	if (r || !b->nr_disks)
		return r;
	recover(e);
	r = open_log(e, why);
	if (r)
		return r;
	config.log_key = disk_log_key(b->log);
	if (region_token_from_text(e->settings.disk_token, relation.token)) {
		snprintf(relation.peer, sizeof(relation.peer), "%s", e->settings.peer);
		config.relation = &relation;
	}
	r = apply_open(&config, &b->apply, why);
	if (!r)
		r = backup_drbd_open(e, why);
	if (!r)
		r = durable_open(b->disks, b->nr_disks, &b->durable);
	if (r || !e->settings.commit_disk)
		return r;
	harden.log = b->log;
	harden.apply = b->apply;
	r = harden_open(&harden, &b->harden);
	return r ? reason_set(why, -r, "the thread that syncs: %s", strerror(-r)) : 0;
}
