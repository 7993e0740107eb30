/* SPDX-License-Identifier: Apache-2.0 */
/* recover.h: what a log's file holds. */
#include "disk-replica/recover.h"

#include "disk-replica/log_file.h"
#include "disk-replica/recover_read.h"

#define LOOK_BYTES (256u << 10)

int recover_read(const struct log_file *f, uint64_t position, struct log_reader *ret)
{
	uint64_t to_end = f->info.limit - position % f->info.limit;
	struct log_record r;
	int err = log_file_read(f, position, ret->bytes, LOG_RECORD_UNIT);

	if (err)
		return err;
	if (log_record_decode(ret->bytes, &r) || r.position != position || r.size > to_end ||
	    r.generation != f->info.generation || (r.kind == LOG_PAD && r.size != to_end))
		return -ENODATA;
	if (r.kind == CONTROL_DISK_WRITE)
		err = log_file_read(f, position + LOG_RECORD_UNIT, ret->bytes + LOG_RECORD_UNIT,
				    r.size - LOG_RECORD_UNIT);
	if (err)
		return err;
	if (!log_record_is_intact(ret->bytes, ret->bytes + LOG_RECORD_UNIT, f->info.key))
		return -ENODATA;
	ret->record = r;
	return 0;
}

struct disk_record recover_change(const struct log_reader *at)
{
	const struct log_record *r = &at->record;

	return (struct disk_record){
		.op = r->kind,
		.disk = r->disk,
		.offset = r->offset,
		.length = r->length,
		.data = r->kind == CONTROL_DISK_WRITE ? at->bytes + LOG_RECORD_UNIT : NULL,
	};
}

/* One record more; -ENODATA: it cannot be part of this log. */
static int take(const struct log_file *f, const struct disk_info *disks, struct log_reader *at,
		struct log_scan *scan, uint64_t *records)
{
	struct disk_record change;
	int err = recover_read(f, scan->broken, at);

	if (err)
		return err;
	/* The ring is no longer than that: what lies behind is the tail again. */
	if (at->record.epoch != scan->epoch + 1 ||
	    at->record.size > f->tail.position + f->info.limit - scan->broken)
		return -ENODATA;
	scan->broken += at->record.size;
	if (at->record.kind == LOG_PAD)
		return 0;
	if (at->record.kind == LOG_SEAL) {
		if (at->record.offset != *records)
			return -EBADMSG;
		scan->epoch++;
		scan->epochs++;
		scan->changes += *records;
		scan->end = scan->broken;
		*records = 0;
		return 0;
	}
	change = recover_change(at);
	++*records;
	return disk_record_check(&change, disks, f->info.nr_disks, NULL) ? -EBADMSG : 0;
}

static bool proves(const struct log_file *f, const uint8_t *head, uint64_t position, uint64_t lost)
{
	struct log_record r;

	return !log_record_decode(head, &r) && r.kind == LOG_SEAL && r.position == position &&
	       r.length >= lost && log_record_is_intact(head, NULL, f->info.key);
}

/* Looks behind the break for a seal that says that what is broken had been durable. */
static int look_for_damage(const struct log_file *f, const struct log_scan *scan, uint8_t *buffer,
			   struct reason *why)
{
	uint64_t stop = f->tail.position + f->info.limit;

	for (uint64_t pos = scan->broken; pos < stop;) {
		uint64_t to_end = f->info.limit - pos % f->info.limit;
		size_t n = (size_t)MIN(MIN(to_end, stop - pos), (uint64_t)LOOK_BYTES);
		int err = log_file_read(f, pos, buffer, n);

		if (err)
			return reason_set(why, -err, "the disk log cannot be read at %llu: %s",
					  (unsigned long long)pos, strerrordesc_np(-err));
		for (size_t i = 0; i < n; i += LOG_RECORD_UNIT)
			if (proves(f, buffer + i, pos + i, scan->epoch + 1))
				return reason_set(why, EBADMSG,
						  "the disk log is damaged: epoch %llu is not "
						  "whole, and was once",
						  (unsigned long long)scan->epoch + 1);
		pos += n;
	}
	return 0;
}

int recover_scan(const struct log_file *f, const struct disk_info *disks, struct log_scan *ret,
		 struct reason *why)
{
	uint64_t stop = f->tail.position + f->info.limit, records = 0;
	struct log_scan scan = { .epoch = f->tail.epoch,
				 .end = f->tail.position,
				 .broken = f->tail.position };
	struct log_reader *at = malloc(sizeof(*at));
	int err = at ? 0 : -ENOMEM;

	while (!err && scan.broken < stop)
		err = take(f, disks, at, &scan, &records);
	if (err == -ENODATA)
		err = look_for_damage(f, &scan, at->bytes, why);
	else if (err == -EBADMSG)
		reason_set(why, EBADMSG,
			   "the disk log is damaged: a record before %llu is intact and fits "
			   "neither epoch %llu nor the disks",
			   (unsigned long long)scan.broken, (unsigned long long)scan.epoch + 1);
	else if (err)
		reason_set(why, -err, "the disk log cannot be read: %s", strerrordesc_np(-err));
	free(at);
	if (err)
		return err;
	*ret = scan;
	return 0;
}
