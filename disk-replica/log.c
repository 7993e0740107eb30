/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h: a ring of records in one arena. Positions only grow; a record is whole, so one that
 * does not fit before the arena's end is preceded by padding. An epoch is a range of
 * positions; room comes back at the tail.
 *
 * The appender alone writes between head and the room's end, so it copies data in without
 * the lock, and publishes under it. It alone writes the file, too: in pieces as they gather,
 * the rest with the seal. So a sync is an fdatasync and nothing else.
 */
#include "disk-replica/log.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/log_file.h"
#include "disk-replica/log_record.h"

#define PIECE_BYTES (UINT64_C(1) << 20) /* written to the file together */

struct range {
	uint64_t epoch;
	uint64_t begin, end;
};

struct disk_log {
	uint8_t *arena;
	uint64_t limit;
	struct log_file *file; /* NULL: in memory */
	/* The appender's. */
	bool open, dropped;
	uint64_t open_epoch, open_begin, open_records;
	uint64_t written;     /* up to here it is in the file */
	uint64_t sealed_next; /* one past the newest epoch that was sealed */
	pthread_mutex_t lock;
	pthread_cond_t released;
	/* Guarded by lock. */
	uint64_t head;
	uint64_t tail;
	uint64_t applied; /* end of what is released; the tail, unless there is a file */
	uint64_t applied_epoch;
	uint64_t changed; /* end of the newest sealed epoch that changed a disk */
	uint64_t synced;  /* up to here it is durable */
	uint64_t durable; /* the newest epoch whose seal is */
	uint64_t peak;
	struct range sealed[DISK_LOG_EPOCHS];
	unsigned int first_sealed, nr_sealed;
};

static uint8_t *at(const struct disk_log *log, uint64_t pos)
{
	return log->arena + pos % log->limit;
}

static int allocate(struct disk_log *log, struct reason *why)
{
	log->arena = mmap(NULL, log->limit, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (log->arena != MAP_FAILED)
		return 0;
	log->arena = NULL;
	return reason_set(why, ENOMEM, "no memory for a disk log of %llu bytes",
			  (unsigned long long)log->limit);
}

int disk_log_open(uint64_t limit_bytes, struct log_file *file, struct disk_log **ret,
		  struct reason *why)
{
	struct disk_log *log = NULL;
	int err = 0;

	if (limit_bytes < DISK_LOG_MIN || limit_bytes > DISK_LOG_MAX)
		err = reason_set(why, EINVAL, "a disk log of %llu bytes: %llu to %llu",
				 (unsigned long long)limit_bytes, (unsigned long long)DISK_LOG_MIN,
				 (unsigned long long)DISK_LOG_MAX);
	if (!err) {
		log = calloc(1, sizeof(*log));
		err = log ? 0 : -ENOMEM;
	}
	if (err) {
		log_file_close(file);
		return err;
	}
	log->file = file;
	log->limit = file ? file->info.limit : limit_bytes & ~(uint64_t)4095;
	log->durable = file ? file->tail.epoch : 0;
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->released, NULL);
	err = allocate(log, why);
	if (err) {
		disk_log_close(log);
		return err;
	}
	*ret = log;
	return 0;
}

void disk_log_close(struct disk_log *log)
{
	if (!log)
		return;
	if (log->arena)
		munmap(log->arena, log->limit);
	log_file_close(log->file);
	pthread_cond_destroy(&log->released);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

/* --- appending ---------------------------------------------------------------------- */

/* The epoch that gets a record, or its seal: the one that is open, or a new one. */
static int open_epoch(struct disk_log *log, uint64_t epoch, struct reason *why)
{
	if (log->dropped)
		return reason_set(why, EPROTO, "epoch %llu: the log takes no more",
				  (unsigned long long)epoch);
	if (epoch < log->sealed_next)
		return reason_set(why, EPROTO, "epoch %llu is closed, the next is %llu",
				  (unsigned long long)epoch, (unsigned long long)log->sealed_next);
	if (log->open && log->open_epoch != epoch)
		return reason_set(why, EPROTO, "epoch %llu before %llu has ended",
				  (unsigned long long)epoch, (unsigned long long)log->open_epoch);
	if (log->open)
		return 0;
	log->open = true;
	log->open_epoch = epoch;
	log->open_begin = log->head;
	log->open_records = 0;
	return 0;
}

/* Bytes to pass over before a record of `size`, or -ENOSPC. `spare` stays free behind it. */
static int find_room(struct disk_log *log, uint64_t size, uint64_t spare, uint64_t *ret_pad,
		     struct reason *why)
{
	uint64_t to_end = log->limit - log->head % log->limit;
	uint64_t pad = size > to_end ? to_end : 0, used;

	pthread_mutex_lock(&log->lock);
	used = log->head - log->tail;
	pthread_mutex_unlock(&log->lock);
	if (fault_at("disk.log") || pad + size + spare > log->limit - used)
		return reason_set(why, ENOSPC, "the disk log has %llu of %llu bytes in use",
				  (unsigned long long)used, (unsigned long long)log->limit);
	*ret_pad = pad;
	return 0;
}

static void put(struct disk_log *log, struct log_record *r, const void *data, uint64_t len)
{
	uint8_t *to = at(log, r->position);

	r->generation = log->file ? log->file->info.generation : 0;
	if (len) {
		memcpy(to + LOG_RECORD_UNIT, data, len);
		memset(to + LOG_RECORD_UNIT + len, 0, r->size - LOG_RECORD_UNIT - len);
	}
	log_record_encode(r, len ? to + LOG_RECORD_UNIT : NULL,
			  log->file ? &log->file->info.key : NULL, to);
}

static void put_pad(struct disk_log *log, uint64_t epoch, uint64_t size)
{
	struct log_record r = {
		.kind = LOG_PAD, .epoch = epoch, .position = log->head, .size = size
	};

	put(log, &r, NULL, 0);
}

static void publish(struct disk_log *log, uint64_t head)
{
	pthread_mutex_lock(&log->lock);
	log->head = head;
	log->peak = MAX(log->peak, head - log->tail);
	pthread_mutex_unlock(&log->lock);
}

/* Everything up to the head into the file, lap by lap. */
static int write_out(struct disk_log *log, bool seal, struct reason *why)
{
	while (log->file && log->written < log->head) {
		uint64_t to_end = log->limit - log->written % log->limit;
		uint64_t n = MIN(log->head - log->written, to_end);
		bool last = seal && log->written + n == log->head;
		int err = log_file_write(log->file, log->written, at(log, log->written), n, last);

		if (err)
			return reason_set(why, -err, "the disk log cannot be written: %s",
					  strerrordesc_np(-err));
		log->written += n;
	}
	return 0;
}

int disk_log_append(struct disk_log *log, uint64_t epoch, const struct disk_record *r,
		    struct reason *why)
{
	struct log_record record = { .kind = (uint8_t)r->op,
				     .disk = r->disk,
				     .epoch = epoch,
				     .offset = r->offset,
				     .length = r->length };
	uint64_t pad;
	int err;

	if (r->op == CONTROL_DISK_WRITE && r->length > DISK_DATA_MAX)
		return reason_set(why, EPROTO, "write of %llu bytes, the limit is %u",
				  (unsigned long long)r->length, DISK_DATA_MAX);
	record.size = log_record_size(r);
	/* An epoch that has records can always be sealed. */
	err = find_room(log, record.size, LOG_RECORD_UNIT, &pad, why);
	if (!err)
		err = open_epoch(log, epoch, why);
	if (err)
		return err;
	if (pad)
		put_pad(log, epoch, pad);
	record.position = log->head + pad;
	put(log, &record, r->data, r->op == CONTROL_DISK_WRITE ? r->length : 0);
	log->open_records++;
	publish(log, record.position + record.size);
	return log->head - log->written < PIECE_BYTES ? 0 : write_out(log, false, why);
}

/* What is read knows nothing of it before the file has it: else it could be applied. */
static void publish_seal(struct disk_log *log, uint64_t epoch)
{
	pthread_mutex_lock(&log->lock);
	log->sealed[(log->first_sealed + log->nr_sealed++) % DISK_LOG_EPOCHS] =
		(struct range){ epoch, log->open_begin, log->head };
	if (log->open_records)
		log->changed = log->head;
	pthread_mutex_unlock(&log->lock);
}

int disk_log_seal(struct disk_log *log, uint64_t epoch, struct reason *why)
{
	struct log_record r = {
		.kind = LOG_SEAL, .epoch = epoch, .position = log->head, .size = LOG_RECORD_UNIT
	};
	uint64_t pad;
	bool full;
	int err;

	pthread_mutex_lock(&log->lock);
	full = log->nr_sealed == DISK_LOG_EPOCHS;
	r.length = log->durable;
	pthread_mutex_unlock(&log->lock);
	err = open_epoch(log, epoch, why);
	if (!err && full)
		err = reason_set(why, ENOSPC, "the disk log holds %u epochs, its limit",
				 DISK_LOG_EPOCHS);
	if (!err)
		err = find_room(log, r.size, 0, &pad, why);
	if (err)
		return err;
	r.offset = log->open_records;
	put(log, &r, NULL, 0);
	publish(log, r.position + r.size);
	err = write_out(log, true, why);
	if (err)
		return err;
	log->open = false;
	log->sealed_next = epoch + 1;
	publish_seal(log, epoch);
	return 0;
}

void disk_log_drop_partial(struct disk_log *log)
{
	log->dropped = true;
	if (log->open)
		publish(log, log->open_begin);
	log->open = false;
}

/* --- the file ----------------------------------------------------------------------- */

int disk_log_sync(struct disk_log *log, struct reason *why)
{
	uint64_t changed, newest;
	bool needed;
	int err;

	if (!log->file)
		return 0;
	pthread_mutex_lock(&log->lock);
	changed = log->changed;
	needed = changed > log->synced;
	newest = log->nr_sealed
			 ? log->sealed[(log->first_sealed + log->nr_sealed - 1) % DISK_LOG_EPOCHS]
				   .epoch
			 : log->durable;
	pthread_mutex_unlock(&log->lock);
	err = needed ? log_file_sync(log->file) : 0;
	if (err)
		return reason_set(why, -err, "the disk log cannot be synced: %s",
				  strerrordesc_np(-err));
	pthread_mutex_lock(&log->lock);
	log->synced = MAX(log->synced, changed);
	/* Of a seal that no sync has covered a later one may not claim that it is there. */
	if (needed)
		log->durable = MAX(log->durable, newest);
	pthread_mutex_unlock(&log->lock);
	return 0;
}

bool disk_log_reclaim_due(struct disk_log *log)
{
	bool due;

	pthread_mutex_lock(&log->lock);
	due = log->applied - log->tail > log->limit / 4;
	pthread_mutex_unlock(&log->lock);
	return due;
}

int disk_log_reclaim(struct disk_log *log, struct reason *why)
{
	struct log_file_tail tail;
	int err;

	pthread_mutex_lock(&log->lock);
	tail = (struct log_file_tail){ log->applied, log->applied_epoch };
	pthread_mutex_unlock(&log->lock);
	if (!log->file || tail.position == log->tail)
		return 0;
	err = log_file_set_tail(log->file, &tail);
	if (err)
		return reason_set(why, -err, "the disk log's tail cannot be written: %s",
				  strerrordesc_np(-err));
	pthread_mutex_lock(&log->lock);
	log->tail = tail.position;
	pthread_mutex_unlock(&log->lock);
	return 0;
}

/* --- reading ------------------------------------------------------------------------ */

bool disk_log_oldest(struct disk_log *log, uint64_t *ret_epoch)
{
	bool found;

	pthread_mutex_lock(&log->lock);
	found = log->nr_sealed;
	if (found)
		*ret_epoch = log->sealed[log->first_sealed].epoch;
	pthread_mutex_unlock(&log->lock);
	return found;
}

static bool start(struct disk_log *log, struct disk_log_iter *it)
{
	pthread_mutex_lock(&log->lock);
	for (unsigned int i = 0; i < log->nr_sealed && !it->started; i++) {
		const struct range *r = &log->sealed[(log->first_sealed + i) % DISK_LOG_EPOCHS];

		if (r->epoch == it->epoch)
			*it = (struct disk_log_iter){ r->epoch, r->begin, r->end, true };
	}
	pthread_mutex_unlock(&log->lock);
	return it->started;
}

int disk_log_next(struct disk_log *log, struct disk_log_iter *it, struct disk_record *ret)
{
	struct log_record r;

	if (!it->started && !start(log, it))
		return -ENOENT;
	while (it->next < it->end) {
		const uint8_t *head = at(log, it->next);
		int err = log_record_decode(head, &r);

		assert(!err);
		it->next += r.size;
		if (!log_record_is_change(&r))
			continue;
		*ret = (struct disk_record){
			.op = r.kind,
			.disk = r.disk,
			.offset = r.offset,
			.length = r.length,
			.data = r.kind == CONTROL_DISK_WRITE ? head + LOG_RECORD_UNIT : NULL,
		};
		return 0;
	}
	return -ENODATA;
}

void disk_log_release(struct disk_log *log, uint64_t epoch)
{
	pthread_mutex_lock(&log->lock);
	if (log->nr_sealed) {
		const struct range *r = &log->sealed[log->first_sealed];

		assert(r->epoch == epoch);
		log->applied = r->end;
		log->applied_epoch = r->epoch;
		if (!log->file)
			log->tail = r->end;
		log->first_sealed = (log->first_sealed + 1) % DISK_LOG_EPOCHS;
		log->nr_sealed--;
		pthread_cond_broadcast(&log->released);
	}
	pthread_mutex_unlock(&log->lock);
}

bool disk_log_wait_release(struct disk_log *log, uint64_t wait_ns)
{
	uint64_t until_ns = clock_wall_ns() + wait_ns, oldest;
	const struct timespec until = { .tv_sec = (time_t)(until_ns / NS_PER_S),
					.tv_nsec = (long)(until_ns % NS_PER_S) };
	bool released = false;

	pthread_mutex_lock(&log->lock);
	if (log->nr_sealed) {
		oldest = log->sealed[log->first_sealed].epoch;
		pthread_cond_timedwait(&log->released, &log->lock, &until);
		released = !log->nr_sealed || log->sealed[log->first_sealed].epoch != oldest;
	}
	pthread_mutex_unlock(&log->lock);
	return released;
}

/* --- what it is --------------------------------------------------------------------- */

bool disk_log_is_durable(const struct disk_log *log)
{
	return log->file;
}

uint64_t disk_log_key(const struct disk_log *log)
{
	return log->file ? log->file->info.key : 0;
}

uint64_t disk_log_used(struct disk_log *log)
{
	uint64_t used;

	pthread_mutex_lock(&log->lock);
	used = log->head - log->tail;
	pthread_mutex_unlock(&log->lock);
	return used;
}

uint64_t disk_log_limit(const struct disk_log *log)
{
	return log->limit;
}

uint64_t disk_log_peak(struct disk_log *log)
{
	uint64_t peak;

	pthread_mutex_lock(&log->lock);
	peak = log->peak;
	pthread_mutex_unlock(&log->lock);
	return peak;
}
