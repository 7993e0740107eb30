/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h: a ring of entries in one arena. Positions only grow; an entry is whole, so one
 * that does not fit before the arena's end is preceded by padding. The entries of an
 * epoch are chained, because those of several epochs may lie mixed; room comes back at
 * the tail, once everything before it has been freed. So every step is O(1) a record.
 *
 * The appender alone writes between head and the room's end, so it copies data in without
 * the lock, and publishes the entry under it.
 */
#include "disk-replica/log.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/fault.h"

#define NO_ENTRY UINT64_MAX

struct entry {
	uint64_t size; /* with this header; a multiple of its size */
	uint64_t next; /* position of the epoch's next entry */
	uint64_t offset;
	uint64_t length;
	uint32_t op;
	uint16_t disk;
	uint16_t freed;
	uint8_t reserved[24];
};
_Static_assert(sizeof(struct entry) == DISK_LOG_RECORD_OVERHEAD, "an entry's header");

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_SEALED };

struct slot {
	enum slot_state state;
	uint64_t epoch;
	uint64_t first;
	uint64_t last;
};

struct disk_log {
	uint8_t *arena;
	uint64_t limit;
	pthread_mutex_t lock;
	/* Guarded by lock. */
	uint64_t head;
	uint64_t tail;
	uint64_t peak;
	struct slot slots[DISK_LOG_EPOCHS];
	uint64_t sealed_next; /* one past the newest epoch that was sealed */
	bool dropped;
};

static struct entry *entry_at(const struct disk_log *log, uint64_t pos)
{
	return (struct entry *)(void *)(log->arena + pos % log->limit);
}

int disk_log_open(uint64_t limit_bytes, struct disk_log **ret, struct reason *why)
{
	uint64_t limit = limit_bytes & ~(uint64_t)4095;
	struct disk_log *log;

	if (limit_bytes < DISK_LOG_MIN || limit_bytes > DISK_LOG_MAX)
		return reason_set(why, EINVAL, "a disk log of %llu bytes: %llu to %llu",
				  (unsigned long long)limit_bytes, (unsigned long long)DISK_LOG_MIN,
				  (unsigned long long)DISK_LOG_MAX);
	log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->arena = mmap(NULL, limit, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (log->arena == MAP_FAILED) {
		free(log);
		return reason_set(why, ENOMEM, "no memory for a disk log of %llu bytes",
				  (unsigned long long)limit);
	}
	log->limit = limit;
	pthread_mutex_init(&log->lock, NULL);
	*ret = log;
	return 0;
}

void disk_log_close(struct disk_log *log)
{
	if (!log)
		return;
	munmap(log->arena, log->limit);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

static struct slot *find_slot(struct disk_log *log, uint64_t epoch)
{
	for (unsigned int i = 0; i < DISK_LOG_EPOCHS; i++)
		if (log->slots[i].state != SLOT_FREE && log->slots[i].epoch == epoch)
			return &log->slots[i];
	return NULL;
}

/* The slot of an epoch that may still get records, made if need be. */
static int open_slot(struct disk_log *log, uint64_t epoch, struct slot **ret, struct reason *why)
{
	struct slot *slot;

	if (log->dropped)
		return reason_set(why, EPROTO, "epoch %llu: the log takes no more",
				  (unsigned long long)epoch);
	if (epoch < log->sealed_next)
		return reason_set(why, EPROTO, "epoch %llu is closed, the next is %llu",
				  (unsigned long long)epoch, (unsigned long long)log->sealed_next);
	slot = find_slot(log, epoch);
	for (unsigned int i = 0; i < DISK_LOG_EPOCHS && !slot; i++)
		if (log->slots[i].state == SLOT_FREE)
			slot = &log->slots[i];
	if (!slot)
		return reason_set(why, ENOSPC, "the disk log holds %u epochs, its limit",
				  DISK_LOG_EPOCHS);
	if (slot->state == SLOT_FREE)
		*slot = (struct slot){ SLOT_OPEN, epoch, NO_ENTRY, NO_ENTRY };
	*ret = slot;
	return 0;
}

/* Bytes to pass over before an entry of `size`, or -ENOSPC. */
static int find_room(const struct disk_log *log, uint64_t size, uint64_t *ret_pad,
		     struct reason *why)
{
	uint64_t to_end = log->limit - log->head % log->limit;
	uint64_t pad = size > to_end ? to_end : 0;
	uint64_t used = log->head - log->tail;

	if (fault_at("disk.log") || pad + size > log->limit - used)
		return reason_set(why, ENOSPC, "the disk log has %llu of %llu bytes in use",
				  (unsigned long long)used, (unsigned long long)log->limit);
	*ret_pad = pad;
	return 0;
}

static void write_entry(struct disk_log *log, uint64_t pos, uint64_t size,
			const struct disk_record *r)
{
	struct entry *e = entry_at(log, pos);

	*e = (struct entry){
		.size = size,
		.next = NO_ENTRY,
		.offset = r->offset,
		.length = r->length,
		.op = r->op,
		.disk = r->disk,
	};
	if (r->op == CONTROL_DISK_WRITE)
		memcpy(e + 1, r->data, r->length);
}

static void publish(struct disk_log *log, struct slot *slot, uint64_t pos, uint64_t pad)
{
	if (pad) {
		struct entry *e = entry_at(log, log->head);

		e->size = pad;
		e->freed = true;
	}
	if (slot->last == NO_ENTRY)
		slot->first = pos;
	else
		entry_at(log, slot->last)->next = pos;
	slot->last = pos;
	log->head = pos + entry_at(log, pos)->size;
	log->peak = MAX(log->peak, log->head - log->tail);
}

static uint64_t entry_size(const struct disk_record *r)
{
	uint64_t data = r->op == CONTROL_DISK_WRITE ? r->length : 0;
	uint64_t unit = sizeof(struct entry);

	return unit + (data + unit - 1) / unit * unit;
}

int disk_log_append(struct disk_log *log, uint64_t epoch, const struct disk_record *r,
		    struct reason *why)
{
	uint64_t size, pad = 0, pos;
	struct slot *slot;
	int err;

	if (r->op == CONTROL_DISK_WRITE && r->length > DISK_DATA_MAX)
		return reason_set(why, EPROTO, "write of %llu bytes, the limit is %u",
				  (unsigned long long)r->length, DISK_DATA_MAX);
	size = entry_size(r);
	pthread_mutex_lock(&log->lock);
	err = find_room(log, size, &pad, why);
	if (!err)
		err = open_slot(log, epoch, &slot, why);
	pos = log->head + pad;
	pthread_mutex_unlock(&log->lock);
	if (err)
		return err;
	write_entry(log, pos, size, r);
	pthread_mutex_lock(&log->lock);
	publish(log, slot, pos, pad);
	pthread_mutex_unlock(&log->lock);
	return 0;
}

static bool older_is_open(const struct disk_log *log, uint64_t epoch)
{
	for (unsigned int i = 0; i < DISK_LOG_EPOCHS; i++)
		if (log->slots[i].state == SLOT_OPEN && log->slots[i].epoch < epoch)
			return true;
	return false;
}

int disk_log_seal(struct disk_log *log, uint64_t epoch, struct reason *why)
{
	struct slot *slot;
	int err = 0;

	pthread_mutex_lock(&log->lock);
	if (older_is_open(log, epoch))
		err = reason_set(why, EPROTO, "epoch %llu ends before one that is older",
				 (unsigned long long)epoch);
	if (!err)
		err = open_slot(log, epoch, &slot, why);
	if (!err) {
		slot->state = SLOT_SEALED;
		log->sealed_next = epoch + 1;
	}
	pthread_mutex_unlock(&log->lock);
	return err;
}

/* With the lock: the slot's entries are free, and so is what that sets free at the tail. */
static void free_slot(struct disk_log *log, struct slot *slot)
{
	for (uint64_t pos = slot->first; pos != NO_ENTRY;) {
		struct entry *e = entry_at(log, pos);

		e->freed = true;
		pos = e->next;
	}
	slot->state = SLOT_FREE;
	while (log->tail < log->head && entry_at(log, log->tail)->freed)
		log->tail += entry_at(log, log->tail)->size;
}

void disk_log_drop_partial(struct disk_log *log)
{
	pthread_mutex_lock(&log->lock);
	log->dropped = true;
	for (unsigned int i = 0; i < DISK_LOG_EPOCHS; i++)
		if (log->slots[i].state == SLOT_OPEN)
			free_slot(log, &log->slots[i]);
	pthread_mutex_unlock(&log->lock);
}

static bool oldest(const struct disk_log *log, uint64_t *ret)
{
	const struct slot *first = NULL;

	for (unsigned int i = 0; i < DISK_LOG_EPOCHS; i++) {
		const struct slot *s = &log->slots[i];

		if (s->state == SLOT_SEALED && (!first || s->epoch < first->epoch))
			first = s;
	}
	if (first)
		*ret = first->epoch;
	return first;
}

bool disk_log_oldest(struct disk_log *log, uint64_t *ret_epoch)
{
	bool found;

	pthread_mutex_lock(&log->lock);
	found = oldest(log, ret_epoch);
	pthread_mutex_unlock(&log->lock);
	return found;
}

int disk_log_next(struct disk_log *log, struct disk_log_iter *it, struct disk_record *ret)
{
	const struct entry *e;
	struct slot *slot;

	if (!it->started) {
		pthread_mutex_lock(&log->lock);
		slot = find_slot(log, it->epoch);
		if (slot && slot->state == SLOT_SEALED) {
			it->next = slot->first;
			it->started = true;
		}
		pthread_mutex_unlock(&log->lock);
		if (!it->started)
			return -ENOENT;
	}
	if (it->next == NO_ENTRY)
		return -ENODATA;
	e = entry_at(log, it->next);
	*ret = (struct disk_record){
		.op = e->op,
		.disk = e->disk,
		.offset = e->offset,
		.length = e->length,
		.data = e->op == CONTROL_DISK_WRITE ? e + 1 : NULL,
	};
	it->next = e->next;
	return 0;
}

void disk_log_release(struct disk_log *log, uint64_t epoch)
{
	uint64_t first = 0;

	pthread_mutex_lock(&log->lock);
	if (oldest(log, &first)) {
		assert(first == epoch);
		free_slot(log, find_slot(log, epoch));
	}
	pthread_mutex_unlock(&log->lock);
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
