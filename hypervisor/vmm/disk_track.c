/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_track.h. Invariants, of each disk's sets:
 *	recent | old is a subset of `file`, and `file` is on stable storage;
 *	a write under way is in `recent`, or was begun in the other phase, and then its regions
 *	stay in `old`, since neither is forgotten nor rotated again before it has ended.
 *
 * Phases. A write counts itself into `under_way` of the phase it began in; a rotation empties
 * `recent`, then changes the phase. A write that has seen its region in `recent` before that
 * is of the old phase, and puts the region there again when it ends. One that begins in the
 * new phase finds `recent` emptied. That a write counts itself into a phase that has just
 * ended it notices by looking again.
 *
 * Threads: begin and end read `recent` and count without the lock; all sets change under it.
 * Whoever finds `writing` false writes the file for all who wait, without the lock; `file` does
 * not change meanwhile. The bitmaps' memory is fixed from disk_track_add() on.
 */
#include "hypervisor/vmm/disk_track.h"

#include <pthread.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/fault.h"

struct track_disk {
	int fd; /* to sync, and to look at */
	uint64_t bytes;
	unsigned int shift;
	uint64_t count; /* regions */
	uint64_t *recent, *old, *file;
	uint64_t *wanted; /* to be in the file, by those who wait */
	uint64_t *next;	  /* the file as it is being written; the writer's */
};

struct disk_track {
	pthread_mutex_t lock;
	pthread_cond_t written; /* `writing` has become false */
	struct track_disk disk[REGION_DISKS_MAX];
	unsigned int nr_disks;
	bool on;	       /* atomic */
	unsigned int phase;    /* 0 or 1; atomic */
	uint64_t under_way[2]; /* atomic */

	/* The lock's. */
	int fd; /* the region file, -1: none */
	struct region_header header;
	struct region_stamp stamp;
	bool broken;  /* the file is spoilt */
	bool blocked; /* and not even that could be done: no write may be made */
	bool lost;    /* a sync of a disk has failed: Linux says so once */
	bool writing;
	uint64_t changes; /* of `old`, other than by forgetting */
};

/* Some regions of one disk: a range of them, or of a whole bitmap those that are set. */
struct some {
	unsigned int disk;
	uint64_t first, end;
	const uint64_t *bits; /* NULL: all in the range */
};

static bool is_in(const struct some *s, uint64_t region)
{
	return !s->bits || bitmap_test(s->bits, region);
}

/* --- disks ---------------------------------------------------------------------------- */

int disk_track_open(struct disk_track **ret)
{
	struct disk_track *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->written, NULL);
	t->fd = -1;
	*ret = t;
	return 0;
}

int disk_track_add(struct disk_track *t, int fd, uint64_t bytes)
{
	size_t words = bitmap_words(region_count(bytes));
	struct track_disk *d;

	if (t->nr_disks == REGION_DISKS_MAX) {
		close(fd);
		return -E2BIG;
	}
	d = &t->disk[t->nr_disks];
	*d = (struct track_disk){ .fd = fd, .bytes = bytes };
	d->shift = region_shift(bytes);
	d->count = region_count(bytes);
	d->recent = calloc(5 * words, sizeof(uint64_t)); /* one piece for all */
	if (!d->recent) {
		close(fd);
		return -ENOMEM;
	}
	d->old = d->recent + words;
	d->file = d->old + words;
	d->wanted = d->file + words;
	d->next = d->wanted + words;
	t->nr_disks++;
	return 0;
}

/* --- the file ------------------------------------------------------------------------- */

/* Locked. Nobody may take the file for what it was. */
static void spoil(struct disk_track *t)
{
	static const uint8_t zeroes[REGION_BLOCK_BYTES];

	t->broken = true;
	t->blocked = fault_at("track.spoil") ||
		     ((region_block_write(t->fd, 0, zeroes) || fdatasync(t->fd)) &&
		      (ftruncate(t->fd, 0) || fsync(t->fd)));
}

/* The blocks of `next` that differ from the file. */
static int write_changed(struct disk_track *t)
{
	uint8_t block[REGION_BLOCK_BYTES];

	for (unsigned int i = 0; i < t->nr_disks; i++) {
		struct track_disk *d = &t->disk[i];

		for (uint64_t n = 0; n < region_block_count(d->bytes); n++) {
			size_t first = n * REGION_BLOCK_BITS / BITMAP_WORD_BITS;
			size_t words = MIN(bitmap_words(d->count) - first,
					   (size_t)REGION_BLOCK_BITS / BITMAP_WORD_BITS);

			if (!memcmp(d->next + first, d->file + first, words * sizeof(uint64_t)))
				continue;
			region_block_encode(&t->header, i, n, d->next, block);
			if (fault_at("track.write") ||
			    region_block_write(t->fd, region_block_offset(&t->header, i, n), block))
				return -EIO;
		}
	}
	return 0;
}

/* Locked, and again when it returns: one write of the file for all who want something. */
static void write_wanted(struct disk_track *t)
{
	int err;

	for (unsigned int i = 0; i < t->nr_disks; i++) {
		struct track_disk *d = &t->disk[i];

		memcpy(d->next, d->file, bitmap_bytes(d->count));
		bitmap_or(d->next, d->wanted, d->count);
		memset(d->wanted, 0, bitmap_bytes(d->count));
	}
	t->writing = true;
	pthread_mutex_unlock(&t->lock);
	err = write_changed(t);
	if (!err && (fault_at("track.sync") || fdatasync(t->fd)))
		err = -EIO;
	pthread_mutex_lock(&t->lock);
	for (unsigned int i = 0; i < t->nr_disks && !err; i++)
		memcpy(t->disk[i].file, t->disk[i].next, bitmap_bytes(t->disk[i].count));
	if (err)
		spoil(t);
	t->writing = false;
	pthread_cond_broadcast(&t->written);
}

/* Locked: asks for what the file lacks; false: nothing. */
static bool want(struct disk_track *t, const struct some *s)
{
	struct track_disk *d = &t->disk[s->disk];
	bool lacks = false;

	for (uint64_t r = s->first; r < s->end; r++) {
		if (!is_in(s, r) || bitmap_test(d->file, r))
			continue;
		bitmap_set(d->wanted, r);
		lacks = true;
	}
	return lacks;
}

/* Locked throughout, but not while it waits. When it returns the file has them durably, or
 * tracking is off or broken. */
static void make_durable(struct disk_track *t, const struct some *s)
{
	while (t->on && !t->broken && want(t, s)) {
		if (t->writing)
			pthread_cond_wait(&t->written, &t->lock);
		else
			write_wanted(t);
	}
}

static void await_written(struct disk_track *t)
{
	while (t->writing)
		pthread_cond_wait(&t->written, &t->lock);
}

/* --- writes --------------------------------------------------------------------------- */

static bool all_recent(const struct track_disk *d, const struct some *s)
{
	for (uint64_t r = s->first; r < s->end; r++) {
		uint64_t word = __atomic_load_n(&d->recent[r / BITMAP_WORD_BITS], __ATOMIC_SEQ_CST);

		if (!(word >> (r % BITMAP_WORD_BITS) & 1))
			return false;
	}
	return true;
}

/* Durable, then in `recent`. */
static int mark_recent(struct disk_track *t, const struct some *s)
{
	struct track_disk *d = &t->disk[s->disk];
	bool blocked;

	if (all_recent(d, s))
		return 0;
	pthread_mutex_lock(&t->lock);
	make_durable(t, s);
	if (t->on && !t->broken)
		for (uint64_t r = s->first; r < s->end; r++)
			bitmap_set_atomic(d->recent, r);
	blocked = t->blocked;
	pthread_mutex_unlock(&t->lock);
	return blocked ? -EIO : 0;
}

static struct some regions_of(const struct disk_track *t, const struct disk_track_write *w)
{
	const struct track_disk *d = &t->disk[w->disk];
	struct some s = { .disk = w->disk };

	if (!w->length || w->offset >= d->bytes)
		return s;
	s.first = w->offset >> d->shift;
	s.end = ((w->offset + MIN(w->length, d->bytes - w->offset) - 1) >> d->shift) + 1;
	return s;
}

/* Counts the write into the present phase: the one that it still is once counted. */
static unsigned int enter_phase(struct disk_track *t)
{
	for (;;) {
		unsigned int phase = __atomic_load_n(&t->phase, __ATOMIC_SEQ_CST);

		__atomic_fetch_add(&t->under_way[phase], 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&t->phase, __ATOMIC_SEQ_CST) == phase)
			return phase;
		__atomic_fetch_sub(&t->under_way[phase], 1, __ATOMIC_SEQ_CST);
	}
}

int disk_track_begin(struct disk_track *t, struct disk_track_write *w, unsigned int disk,
		     uint64_t offset, uint64_t length)
{
	struct some s;
	int err;

	assert(disk < t->nr_disks);
	*w = (struct disk_track_write){ .disk = disk, .offset = offset, .length = length };
	if (!__atomic_load_n(&t->on, __ATOMIC_SEQ_CST))
		return 0;
	w->phase = enter_phase(t);
	w->tracked = true;
	s = regions_of(t, w);
	err = mark_recent(t, &s);
	if (err)
		__atomic_fetch_sub(&t->under_way[w->phase], 1, __ATOMIC_SEQ_CST);
	return err;
}

void disk_track_end(struct disk_track *t, struct disk_track_write *w)
{
	struct some s;

	if (!w->tracked)
		return;
	s = regions_of(t, w);
	if (__atomic_load_n(&t->phase, __ATOMIC_SEQ_CST) != w->phase)
		mark_recent(t, &s);
	__atomic_fetch_sub(&t->under_way[w->phase], 1, __ATOMIC_SEQ_CST);
}

/* --- on and off ----------------------------------------------------------------------- */

static int check_header(const struct disk_track *t, const struct region_header *h,
			struct reason *why)
{
	if (h->nr_disks != t->nr_disks)
		return reason_set(why, EINVAL, "the region file is of %u disks, there are %u",
				  h->nr_disks, t->nr_disks);
	for (unsigned int i = 0; i < t->nr_disks; i++)
		if (h->disk_bytes[i] != t->disk[i].bytes)
			return reason_set(why, EINVAL,
					  "the region file is of a disk %u of %llu bytes, "
					  "it has %llu",
					  i, (unsigned long long)h->disk_bytes[i],
					  (unsigned long long)t->disk[i].bytes);
	return 0;
}

/* Locked: no write of the phase before the present one is under way. */
static bool has_drained(const struct disk_track *t)
{
	return !__atomic_load_n(&t->under_way[1 - t->phase], __ATOMIC_SEQ_CST);
}

/* Locked. `recent` first: see the top of this file. */
static void turn(struct disk_track *t)
{
	for (unsigned int i = 0; i < t->nr_disks; i++) {
		struct track_disk *d = &t->disk[i];

		bitmap_or(d->old, d->recent, d->count);
		for (size_t n = 0; n < bitmap_words(d->count); n++)
			__atomic_store_n(&d->recent[n], 0, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&t->phase, 1 - t->phase, __ATOMIC_SEQ_CST);
	t->changes++;
}

/* Nobody believes the file again. */
static void distrust(struct disk_track *t, bool lost)
{
	pthread_mutex_lock(&t->lock);
	await_written(t);
	if (t->on && !t->broken)
		spoil(t);
	t->lost |= lost;
	pthread_mutex_unlock(&t->lock);
}

void disk_track_distrust(struct disk_track *t)
{
	distrust(t, false);
}

/* Locked, nobody writes. */
static int take_file(struct disk_track *t, int fd, struct reason *why)
{
	uint64_t *old[REGION_DISKS_MAX];
	struct region_header header;
	struct region_stamp stamp;
	int err = has_drained(t) ? region_head_read(fd, &header, &stamp, why) : -EAGAIN;

	if (!err)
		err = check_header(t, &header, why);
	if (!err && t->lost)
		err = reason_set(why, EIO,
				 "a sync of a disk has failed: what it holds is not "
				 "known until the VM is started anew");
	if (err)
		return err;
	/* Into `next`: until all of it is read nothing has changed. */
	for (unsigned int i = 0; i < t->nr_disks; i++)
		old[i] = t->disk[i].next;
	err = region_bits_read(fd, &header, old, NULL);
	if (err)
		return reason_set(why, -err, "the region file: %s", strerror(-err));
	turn(t);
	for (unsigned int i = 0; i < t->nr_disks; i++) {
		struct track_disk *d = &t->disk[i];

		memcpy(d->old, d->next, bitmap_bytes(d->count));
		memcpy(d->file, d->next, bitmap_bytes(d->count));
		memset(d->wanted, 0, bitmap_bytes(d->count));
	}
	err_close_fd(&t->fd);
	t->fd = fd;
	t->header = header;
	t->stamp = stamp;
	t->broken = t->blocked = false;
	__atomic_store_n(&t->on, true, __ATOMIC_SEQ_CST);
	return 0;
}

int disk_track_on(struct disk_track *t, int fd, struct reason *why)
{
	int err;

	pthread_mutex_lock(&t->lock);
	await_written(t);
	err = take_file(t, fd, why);
	pthread_mutex_unlock(&t->lock);
	if (err)
		close(fd);
	return err;
}

void disk_track_off(struct disk_track *t)
{
	pthread_mutex_lock(&t->lock);
	await_written(t);
	__atomic_store_n(&t->on, false, __ATOMIC_SEQ_CST);
	err_close_fd(&t->fd);
	t->fd = -1;
	t->broken = t->blocked = false;
	pthread_mutex_unlock(&t->lock);
}

/* Best effort: without it the next one to look knows less, and copies all. */
static void stamp_closed(struct disk_track *t)
{
	uint8_t block[REGION_BLOCK_BYTES];

	t->stamp.state = REGION_CLOSED;
	t->stamp.nr_disks = t->nr_disks;
	for (unsigned int i = 0; i < t->nr_disks; i++)
		if (t->disk[i].fd >= 0 && region_look_take(t->disk[i].fd, &t->stamp.look[i]))
			return;
	region_stamp_encode(&t->header, &t->stamp, block);
	if (!region_block_write(t->fd, REGION_STAMP_OFFSET, block))
		(void)!fdatasync(t->fd);
}

void disk_track_close(struct disk_track *t)
{
	if (!t)
		return;
	if (t->on && !t->broken)
		stamp_closed(t);
	err_close_fd(&t->fd);
	for (unsigned int i = 0; i < t->nr_disks; i++) {
		close(t->disk[i].fd);
		free(t->disk[i].recent);
	}
	pthread_cond_destroy(&t->written);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* --- what a copy is kept by ------------------------------------------------------------ */

static int usable(const struct disk_track *t)
{
	return !t->on ? -ENODATA : t->broken ? -EIO : 0;
}

int disk_track_rotate(struct disk_track *t)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = usable(t);
	if (!err && !has_drained(t))
		err = -EAGAIN;
	if (!err)
		turn(t);
	pthread_mutex_unlock(&t->lock);
	return err;
}

static int check_forget(struct disk_track *t, uint64_t *ret_changes)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = usable(t);
	if (!err && !has_drained(t))
		err = -EAGAIN;
	*ret_changes = t->changes;
	pthread_mutex_unlock(&t->lock);
	return err;
}

/* Locked. The bits may reach the disk when they like: one too many does no harm. */
static int shrink_file(struct disk_track *t)
{
	int err;

	for (unsigned int i = 0; i < t->nr_disks; i++) {
		struct track_disk *d = &t->disk[i];

		memcpy(d->next, d->recent, bitmap_bytes(d->count));
		bitmap_or(d->next, d->old, d->count);
	}
	err = fault_at("track.forget") ? -EIO : write_changed(t);
	if (err) {
		spoil(t);
		return err;
	}
	for (unsigned int i = 0; i < t->nr_disks; i++)
		memcpy(t->disk[i].file, t->disk[i].next, bitmap_bytes(t->disk[i].count));
	return 0;
}

static bool has_old(struct disk_track *t)
{
	bool has = false;

	pthread_mutex_lock(&t->lock);
	for (unsigned int i = 0; i < t->nr_disks && !has; i++)
		has = bitmap_next(t->disk[i].old, t->disk[i].count, 0) < t->disk[i].count;
	pthread_mutex_unlock(&t->lock);
	return has;
}

static int sync_disks(const struct disk_track *t)
{
	if (fault_at("track.disk"))
		return -EIO;
	for (unsigned int i = 0; i < t->nr_disks; i++)
		if (t->disk[i].fd >= 0 && fdatasync(t->disk[i].fd))
			return -errno;
	return 0;
}

int disk_track_forget(struct disk_track *t, unsigned int disk, uint64_t offset)
{
	uint64_t changes;
	int err = check_forget(t, &changes);

	if (err || !has_old(t))
		return err;
	err = sync_disks(t);
	if (err) {
		distrust(t, true);
		return err;
	}
	pthread_mutex_lock(&t->lock);
	await_written(t);
	err = usable(t);
	/* What came into `old` since was not synced above. */
	if (!err && changes != t->changes)
		err = -EAGAIN;
	for (unsigned int i = 0; i < t->nr_disks && !err; i++) {
		struct track_disk *d = &t->disk[i];
		uint64_t end = i < disk	   ? d->count
			       : i == disk ? MIN(offset >> d->shift, d->count)
					   : 0;

		for (uint64_t r = 0; r < end; r++)
			bitmap_clear(d->old, r);
	}
	if (!err)
		err = shrink_file(t);
	pthread_mutex_unlock(&t->lock);
	return err;
}

int disk_track_read(struct disk_track *t, unsigned int disk, uint64_t *ret)
{
	int err;

	if (disk >= t->nr_disks)
		return -EINVAL;
	pthread_mutex_lock(&t->lock);
	err = usable(t);
	if (!err) {
		const struct track_disk *d = &t->disk[disk];

		memcpy(ret, d->old, bitmap_bytes(d->count));
		bitmap_or(ret, d->recent, d->count);
	}
	pthread_mutex_unlock(&t->lock);
	return err;
}

int disk_track_mark(struct disk_track *t, unsigned int disk, const uint64_t *bits)
{
	struct some s = { .disk = disk, .bits = bits };
	int err;

	if (disk >= t->nr_disks)
		return -EINVAL;
	s.end = t->disk[disk].count;
	pthread_mutex_lock(&t->lock);
	make_durable(t, &s);
	err = usable(t);
	if (!err) {
		bitmap_or(t->disk[disk].old, bits, s.end);
		t->changes++;
	}
	pthread_mutex_unlock(&t->lock);
	return err;
}

int disk_track_header(struct disk_track *t, struct region_header *ret)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = usable(t);
	if (!err)
		*ret = t->header;
	pthread_mutex_unlock(&t->lock);
	return err;
}
