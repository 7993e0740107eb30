/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/verify.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "ha/hashes.h"
#include "ha/platform.h"
#include "ha/stage.h"

#define UNITS_MAX  PROTO_HASHES_MAX /* pages or chunks of one piece */
#define COPY_BYTES (UNITS_MAX * PLATFORM_PAGE_BYTES)
#define LOOK_NS	   (5 * NS_PER_MS)   /* of the sender's time, */
#define LOOK_SHARE 4u		     /* or this part of the time since the last one, idle */
#define LOOK_STEP  16u		     /* units between two looks at the clock */
#define AGAIN_NS   (300 * NS_PER_MS) /* to the second look at a disk */
#define STUCK_IDLE 2u  /* looks in vain, before it is done in the moment of an epoch's sending */
#define STUCK_MAX  60u /* and before it is given up */

_Static_assert(PROTO_CHUNKS_MAX *PROTO_CHUNK_BYTES <= COPY_BYTES, "a look fits its copy");

/* What is known of a page or chunk of the piece. */
enum unit {
	OPEN,	 /* nothing */
	SUSPECT, /* it has differed once */
	FOUND,	 /* it differs, and is told of */
	MENDED,	 /* what it has to be was sent */
	DONE,
};

struct piece {
	bool memory;
	unsigned int disk;
	uint64_t first; /* gfn, or number of the chunk */
	uint32_t count;
};

struct verify {
	struct verify_config config;

	pthread_mutex_t lock;
	struct verify_report report;	      /* lock */
	bool asked, answered;		      /* lock */
	struct message question;	      /* lock; without its tail */
	uint8_t differ[PROTO_HASHES_MAX / 8]; /* lock */

	/* The sender's, while `report` says that it is running. */
	struct piece piece;
	uint8_t unit[UNITS_MAX]; /* enum unit */
	uint32_t left;		 /* of the piece, not done */
	unsigned int stuck;	 /* looks in a row that have told nothing */
	uint64_t next_ns;	 /* no look before */
	bool looking;		 /* there is a question */
	bool may_mend;		 /* what is, is marked */
	uint32_t look_first, look_count;
	uint64_t looked_ns; /* the last of it was read */
	uint64_t touched[UNITS_MAX / 64], exact[UNITS_MAX / 64], fresh[UNITS_MAX / 64];
	uint8_t hashes[UNITS_MAX * PROTO_HASH_BYTES];
	uint8_t *copy; /* COPY_BYTES: what was hashed, a unit beside the other */
};

/* --- the main thread and the receiver ------------------------------------------------------ */

int verify_open(const struct verify_config *config, struct verify **ret)
{
	struct verify *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v->config = *config;
	pthread_mutex_init(&v->lock, NULL);
	*ret = v;
	return 0;
}

void verify_close(struct verify *v)
{
	if (!v)
		return;
	pthread_mutex_destroy(&v->lock);
	free(v->copy);
	free(v);
}

/* DRBD compares its own disks. */
static uint64_t disk_bytes(const struct verify *v, unsigned int disk)
{
	return disk_is_drbd(&v->config.disks[disk]) ? 0 : v->config.disks[disk].bytes;
}

int verify_begin(struct verify *v, const struct verify_order *order, uint64_t number)
{
	struct verify_report r = { .state = VERIFY_RUNNING, .number = number, .order = *order };
	int err = 0;

	r.began_ns = clock_now_ns();
	if (order->memory)
		r.memory.bytes = v->config.platform->memory_bytes;
	for (unsigned int i = 0; order->disks && i < v->config.nr_disks; i++) {
		r.disks.bytes += disk_bytes(v, i);
		r.on_drbd += disk_is_drbd(&v->config.disks[i]);
	}
	pthread_mutex_lock(&v->lock);
	if (v->report.state == VERIFY_RUNNING)
		err = -EBUSY;
	else if (!(v->copy = malloc(COPY_BYTES)))
		err = -ENOMEM;
	if (!err) {
		v->piece = (struct piece){ .memory = order->memory };
		v->left = v->stuck = 0;
		v->next_ns = 0;
		v->report = r;
	}
	pthread_mutex_unlock(&v->lock);
	return err;
}

void verify_get(struct verify *v, struct verify_report *ret)
{
	pthread_mutex_lock(&v->lock);
	*ret = v->report;
	pthread_mutex_unlock(&v->lock);
}

static bool answers(const struct message *q, const struct message *m)
{
	if (q->type == PROTO_PAGE_HASHES)
		return m->type == PROTO_PAGES_LACKED && m->pages.gfn == q->pages.gfn &&
		       m->pages.count == q->pages.count;
	return m->type == PROTO_DISK_DIFFERS && m->chunks.disk == q->chunks.disk &&
	       m->chunks.offset == q->chunks.offset && m->chunks.count == q->chunks.count;
}

bool verify_asks(struct verify *v)
{
	bool asks;

	pthread_mutex_lock(&v->lock);
	asks = v->asked;
	pthread_mutex_unlock(&v->lock);
	return asks;
}

int verify_answered(struct verify *v, const struct message *m, struct refusal *why)
{
	int r = 0;

	pthread_mutex_lock(&v->lock);
	if (!v->asked || v->answered || !answers(&v->question, m)) {
		r = refusal_set(why, PROTO_UNEXPECTED, "%s, which answers nothing that was asked",
				proto_type_name(m->type));
	} else {
		memcpy(v->differ, m->tail, m->tail_len);
		v->answered = true;
	}
	pthread_mutex_unlock(&v->lock);
	return r;
}

/* --- the sender: what is next -------------------------------------------------------------- */

static void end(struct verify *v, enum verify_state state, const char *reason)
{
	pthread_mutex_lock(&v->lock);
	v->report.state = state;
	v->report.ended_ns = clock_now_ns();
	snprintf(v->report.reason, sizeof(v->report.reason), "%s", reason);
	free(v->copy);
	v->copy = NULL;
	pthread_mutex_unlock(&v->lock);
}

static bool is_running(struct verify *v)
{
	bool running;

	pthread_mutex_lock(&v->lock);
	running = v->report.state == VERIFY_RUNNING;
	pthread_mutex_unlock(&v->lock);
	return running;
}

static const void *page_of(const struct verify *v, uint64_t gfn)
{
	struct platform *p = v->config.platform;

	return gfn < p->nr_gfns ? p->ops->page(p, gfn) : NULL;
}

static bool next_pages(struct verify *v, struct piece *p)
{
	p->first += p->count;
	p->count = 0;
	while (p->first < v->config.platform->nr_gfns && !page_of(v, p->first))
		p->first++;
	while (p->count < UNITS_MAX && page_of(v, p->first + p->count))
		p->count++;
	return p->count != 0;
}

static bool next_chunks(struct verify *v, struct piece *p)
{
	for (p->first += p->count; p->disk < v->config.nr_disks; p->disk++, p->first = 0) {
		uint64_t chunks =
			(disk_bytes(v, p->disk) + PROTO_CHUNK_BYTES - 1) / PROTO_CHUNK_BYTES;

		if (p->first >= chunks)
			continue;
		p->count = (uint32_t)MIN(chunks - p->first, PROTO_CHUNKS_MAX);
		return true;
	}
	return false;
}

/* False: that was all. */
static bool next_piece(struct verify *v)
{
	struct piece *p = &v->piece;
	bool found = p->memory && next_pages(v, p);

	if (!found && p->memory)
		*p = (struct piece){ 0 };
	if (!found && v->report.order.disks)
		found = next_chunks(v, p);
	memset(v->unit, OPEN, sizeof(v->unit));
	v->left = found ? p->count : 0;
	v->stuck = 0;
	return found;
}

static struct verify_place place_of(const struct verify *v, uint32_t i)
{
	const struct piece *p = &v->piece;
	struct verify_place at = { .memory = p->memory, .disk = p->disk };

	at.bytes = p->memory ? PLATFORM_PAGE_BYTES : PROTO_CHUNK_BYTES;
	at.offset = (p->first + i) * at.bytes;
	if (!p->memory)
		at.bytes = MIN(at.bytes, v->config.disks[p->disk].bytes - at.offset);
	return at;
}

static uint8_t *copy_of(const struct verify *v, uint32_t i)
{
	return v->copy + (size_t)i * (v->piece.memory ? PLATFORM_PAGE_BYTES : PROTO_CHUNK_BYTES);
}

/* --- the sender: a look -------------------------------------------------------------------- */

/* The epoch's own copy of a page, or NULL; `at` is where the last one was found. */
static const void *slot_page(const struct stage_slot *slot, uint64_t gfn, uint64_t *at)
{
	while (*at < slot->nr_pages && slot->gfn[*at] < gfn)
		++*at;
	return *at < slot->nr_pages && slot->gfn[*at] == gfn
		       ? slot->pages + *at * PLATFORM_PAGE_BYTES
		       : NULL;
}

static int read_unit(struct verify *v, const struct verify_door *door,
		     const struct stage_slot *slot, uint32_t i, uint64_t *slot_at)
{
	struct verify_place at = place_of(v, i);
	const void *page = NULL;

	if (!at.memory)
		return door->read(door->opaque, at.disk, at.offset, copy_of(v, i), at.bytes);
	if (slot)
		page = slot_page(slot, v->piece.first + i, slot_at);
	if (page)
		bitmap_set(v->exact, i);
	memcpy(copy_of(v, i), page ?: page_of(v, v->piece.first + i), PLATFORM_PAGE_BYTES);
	return 0;
}

/*
 * There is one look in about two epochs. Where those take long, on a slow host or with a long
 * interval, a fixed time a look would never come to an end; idle, the sender yields when it is
 * needed.
 */
static uint64_t deadline_of(const struct verify *v, const struct stage_slot *slot)
{
	uint64_t now = clock_now_ns();
	uint64_t since = v->looked_ns && !slot ? now - v->looked_ns : 0;

	return now + MAX(LOOK_NS, since / LOOK_SHARE);
}

/* From the first unit that is open to the last, as far as time allows. */
static int read_units(struct verify *v, const struct verify_door *door,
		      const struct stage_slot *slot)
{
	struct cursor c = cursor_over(v->hashes, sizeof(v->hashes));
	uint64_t deadline = deadline_of(v, slot), slot_at = 0;
	uint32_t first = 0, last = v->piece.count, i;
	int err;

	while (v->unit[first] == DONE)
		first++;
	while (v->unit[last - 1] == DONE)
		last--;
	memset(v->touched, 0, sizeof(v->touched));
	memset(v->exact, 0, sizeof(v->exact));
	for (i = first; i < last; i++) {
		bool may_stop = i > first && (!v->piece.memory || i % LOOK_STEP == 0);

		if (may_stop && ((!slot && door->busy(door->opaque)) || clock_now_ns() >= deadline))
			break;
		err = read_unit(v, door, slot, i, &slot_at);
		if (err)
			return err;
		hashes_put(&c, v->config.seed, copy_of(v, i), place_of(v, i).bytes);
	}
	v->look_first = first;
	v->look_count = i - first;
	v->looked_ns = clock_now_ns();
	return 0;
}

static int ask(struct verify *v, const struct verify_door *door)
{
	struct verify_place at = place_of(v, v->look_first);
	struct message m = { .type = at.memory ? PROTO_PAGE_HASHES : PROTO_DISK_HASHES,
			     .tail = v->hashes,
			     .tail_len = v->look_count * PROTO_HASH_BYTES };

	if (at.memory)
		m.pages = (struct proto_pages){ v->piece.first + v->look_first, v->look_count };
	else
		m.chunks = (struct proto_chunks){ (uint16_t)at.disk, at.offset, v->look_count };
	pthread_mutex_lock(&v->lock);
	v->question = m;
	v->asked = true;
	v->answered = false;
	pthread_mutex_unlock(&v->lock);
	v->looking = true;
	return door->send(door->opaque, &m);
}

static int look(struct verify *v, const struct verify_door *door, const struct stage_slot *slot)
{
	char text[120];
	int err;

	if (!v->left && !next_piece(v)) {
		end(v, VERIFY_DONE, "");
		return 0;
	}
	err = read_units(v, door, slot);
	if (err) {
		snprintf(text, sizeof(text), "disk %u cannot be read here: %s", v->piece.disk,
			 strerror(-err));
		end(v, VERIFY_BROKEN, text);
		return 0;
	}
	if (!v->piece.memory && v->config.cap)
		v->next_ns = v->looked_ns +
			     (uint64_t)v->look_count * PROTO_CHUNK_BYTES * NS_PER_S / v->config.cap;
	return ask(v, door);
}

bool verify_due(struct verify *v, uint64_t now_ns)
{
	return is_running(v) && !v->looking && v->stuck < STUCK_IDLE && now_ns >= v->next_ns;
}

int verify_idle(struct verify *v, const struct verify_door *door)
{
	return look(v, door, NULL);
}

/* --- the sender: what the guest has written ------------------------------------------------ */

static void touch_page(struct verify *v, uint64_t gfn)
{
	if (gfn >= v->piece.first && gfn - v->piece.first < v->piece.count) {
		bitmap_set(v->touched, gfn - v->piece.first);
		bitmap_set(v->fresh, gfn - v->piece.first);
	}
}

void verify_round(struct verify *v, const uint64_t *pages)
{
	if (!v->looking || !v->piece.memory)
		return;
	for (uint64_t i = 0; i < v->piece.count; i++)
		if (bitmap_test(pages, v->piece.first + i))
			bitmap_set(v->touched, i);
}

void verify_record(struct verify *v, const struct disk_record *r)
{
	const struct piece *p = &v->piece;

	if (!v->looking || p->memory || r->disk != p->disk || !r->length)
		return;
	for (uint32_t i = 0; i < p->count; i++) {
		struct verify_place at = place_of(v, i);

		if (r->offset < at.offset + at.bytes && at.offset < r->offset + r->length)
			bitmap_set(v->touched, i);
	}
}

/* --- the sender: the answer ---------------------------------------------------------------- */

static struct verify_count *count_of(struct verify *v)
{
	return v->piece.memory ? &v->report.memory : &v->report.disks;
}

/* `alike`: by the last look. The lock is held for the counts alone: sending may wait. */
static void set_unit(struct verify *v, uint32_t i, enum unit to, bool alike)
{
	struct verify_place at = place_of(v, i);
	enum unit from = v->unit[i];

	v->unit[i] = to;
	v->stuck = 0;
	v->left -= to == DONE;
	pthread_mutex_lock(&v->lock);
	if (from != FOUND && to == FOUND)
		verify_report_found(&v->report, &at);
	if (to == DONE && alike && (from == FOUND || from == MENDED))
		verify_report_repaired(&v->report, &at);
	if (to == DONE)
		count_of(v)->done_bytes += at.bytes;
	pthread_mutex_unlock(&v->lock);
}

/* Its copy is what this boundary holds, or the epoch has the page itself. */
static bool can_mend(const struct verify *v, uint32_t i)
{
	return !bitmap_test(v->touched, i) || (v->piece.memory && bitmap_test(v->fresh, i));
}

static int mend(struct verify *v, const struct verify_door *door, uint32_t i)
{
	struct verify_place at = place_of(v, i);
	struct disk_record r = { .op = CONTROL_DISK_WRITE,
				 .disk = (uint16_t)at.disk,
				 .offset = at.offset,
				 .length = at.bytes,
				 .data = copy_of(v, i) };

	set_unit(v, i, MENDED, false);
	if (!at.memory)
		return door->write(door->opaque, &r);
	return door->page(door->opaque, v->piece.first + i,
			  bitmap_test(v->fresh, i) ? NULL : copy_of(v, i));
}

static int settle_unit(struct verify *v, const struct verify_door *door, uint32_t i, bool differs)
{
	enum unit is = v->unit[i];

	if (is == DONE)
		return 0;
	if (!differs) {
		set_unit(v, i, DONE, true);
		return 0;
	}
	if (bitmap_test(v->touched, i) && !bitmap_test(v->exact, i))
		return 0;
	if (is == OPEN) {
		set_unit(v, i, SUSPECT, false);
		if (!v->piece.memory)
			v->next_ns = MAX(v->next_ns, clock_now_ns() + AGAIN_NS);
		return 0;
	}
	if (is == SUSPECT)
		set_unit(v, i, FOUND, false);
	if (is == MENDED || !v->report.order.repair)
		set_unit(v, i, DONE, false);
	else if (v->may_mend && can_mend(v, i))
		return mend(v, door, i);
	return 0;
}

/* What is mended is known to differ until the backup has it on its disk. */
static int mark(struct verify *v, uint64_t epoch, const uint8_t *differ)
{
	struct verify_place part = { 0 }, at;

	if (v->piece.memory || !v->report.order.repair || !v->config.mark)
		return 0;
	for (uint32_t i = v->look_first; i < v->look_first + v->look_count; i++) {
		uint32_t bit = i - v->look_first;

		if (!(differ[bit / 8] >> bit % 8 & 1) || !can_mend(v, i) ||
		    (v->unit[i] != SUSPECT && v->unit[i] != FOUND))
			continue;
		at = place_of(v, i);
		part = part.bytes ? part : at;
		part.bytes = at.offset + at.bytes - part.offset;
	}
	return part.bytes ? v->config.mark(v->config.opaque, epoch, &part) : 0;
}

/* What changes whenever it is looked at. */
static void give_up(struct verify *v)
{
	uint64_t unsettled = 0;

	for (uint32_t i = 0; i < v->piece.count; i++) {
		if (v->unit[i] == DONE)
			continue;
		unsettled += v->unit[i] == OPEN || v->unit[i] == SUSPECT;
		set_unit(v, i, DONE, false);
	}
	pthread_mutex_lock(&v->lock);
	count_of(v)->unsettled += unsettled;
	pthread_mutex_unlock(&v->lock);
}

static int settle(struct verify *v, const struct verify_door *door, uint64_t epoch,
		  const uint8_t *differ)
{
	char text[120];
	int r = mark(v, epoch, differ);

	v->looking = false;
	v->may_mend = !r;
	if (r && r != -EAGAIN) {
		snprintf(text, sizeof(text), "what is to be repaired cannot be marked: %s",
			 strerror(-r));
		end(v, VERIFY_BROKEN, text);
		return 0;
	}
	v->stuck++;
	r = 0;
	for (uint32_t bit = 0; bit < v->look_count && !r; bit++)
		r = settle_unit(v, door, v->look_first + bit, differ[bit / 8] >> bit % 8 & 1);
	if (v->stuck >= STUCK_MAX)
		give_up(v);
	return r;
}

static bool take_answer(struct verify *v, uint8_t *ret)
{
	bool taken;

	pthread_mutex_lock(&v->lock);
	taken = v->asked && v->answered;
	if (taken) {
		memcpy(ret, v->differ, sizeof(v->differ));
		v->asked = v->answered = false;
	}
	pthread_mutex_unlock(&v->lock);
	return taken;
}

int verify_epoch(struct verify *v, const struct verify_door *door, const struct stage_slot *slot)
{
	uint8_t differ[sizeof(v->differ)];
	int r = 0;

	if (!is_running(v))
		return 0;
	memset(v->fresh, 0, sizeof(v->fresh));
	for (uint64_t n = 0; v->looking && v->piece.memory && n < slot->nr_pages; n++)
		touch_page(v, slot->gfn[n]);
	if (v->looking && slot->captured_ns > v->looked_ns && take_answer(v, differ))
		r = settle(v, door, slot->epoch, differ);
	if (!r && is_running(v) && !v->looking && v->stuck >= STUCK_IDLE &&
	    clock_now_ns() >= v->next_ns)
		r = look(v, door, slot);
	return r;
}
