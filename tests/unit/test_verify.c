/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/verify.h between two small hosts, by the rules of the sender: a guest writes to memory and
 * disks all the while, its backup is exactly what the epochs carried, and what is damaged of it
 * is found, and nothing else is; repaired, it is the guest's again. Then ha/check.h: what is asked
 * of the backup that may not be.
 */
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/err.h"
#include "ha/check.h"
#include "ha/hashes.h"
#include "ha/platform.h"
#include "ha/stage.h"
#include "ha/verify.h"

#define PAGES	(PROTO_HASHES_MAX + 300)
#define HOLE	(PROTO_HASHES_MAX - 7) /* no memory here */
#define PAGE	PLATFORM_PAGE_BYTES
#define CHUNK	PROTO_CHUNK_BYTES
#define SEED	UINT64_C(99)
#define RECORDS 4096u
#define EPOCHS	3000u
#define SPARED	64u /* bytes of each page and chunk that the guest leaves alone */

static const struct disk_info disks[2] = { { .bytes = 5 * CHUNK }, { .bytes = 2 * CHUNK + 512 } };

/* [0] the primary's, [1] the backup's; as of the last boundary, which deltas refer to. */
static uint8_t *memory[2], *disk[2][2];
static uint8_t *memory_was, *disk_was[2];
static uint64_t dirty[PAGES / 64 + 1];
static bool forgotten[PAGES]; /* goes whole, if it goes; else as a delta */
static struct change {
	struct disk_record r;
	uint8_t bytes[64];
} change[RECORDS]; /* in the mirror */
static unsigned int changes, drained, bounded, marks;
static unsigned int hot;     /* pages that are written all the time */
static bool warm;	     /* what is damaged is written now and then */
static unsigned int slow_us; /* what it takes to read a page */

/* What the open epoch carries. */
static struct {
	unsigned int pages, writes;
	struct {
		uint64_t gfn;
		bool whole;
		uint8_t bytes[PAGE];
	} page[PAGES];
	struct {
		struct disk_record r;
		uint8_t bytes[CHUNK];
	} write[RECORDS];
	struct message question;
	uint8_t hashes[PROTO_HASHES_MAX * PROTO_HASH_BYTES];
} * sent;

static const void *page_of(struct platform *p, uint64_t gfn)
{
	uint8_t *base = p->priv;

	if (slow_us)
		usleep(slow_us);
	return gfn < PAGES && gfn != HOLE ? base + gfn * PAGE : NULL;
}

static const struct platform_ops ops = { .name = "test", .page = page_of };
static struct platform side[2];

static unsigned int dice(unsigned int n)
{
	return (unsigned int)random() % n;
}

static void write_page(uint64_t gfn)
{
	for (unsigned int i = 0; i < 8; i++)
		memory[0][gfn * PAGE + SPARED + dice(PAGE - SPARED)]++;
	bitmap_set(dirty, gfn);
}

static void write_disk(unsigned int d, uint64_t offset)
{
	struct change *c = &change[changes++ % RECORDS];

	assert_true(changes - drained < RECORDS);
	for (unsigned int i = 0; i < sizeof(c->bytes); i++)
		c->bytes[i] = (uint8_t)random();
	memcpy(disk[0][d] + offset, c->bytes, sizeof(c->bytes));
	c->r = (struct disk_record){ .op = CONTROL_DISK_WRITE,
				     .disk = (uint16_t)d,
				     .offset = offset,
				     .length = sizeof(c->bytes),
				     .data = c->bytes };
}

static void guest_runs(void)
{
	for (unsigned int i = 0; i < hot; i++) {
		if (dice(3))
			continue;
		write_page(i * 11);
		write_page(PROTO_HASHES_MAX + i);
	}
	for (unsigned int i = dice(4); i; i--) {
		write_page(dice(HOLE));
		write_disk(dice(2), dice(2 * CHUNK - 64));
	}
	if (warm && !dice(10))
		write_page(3);
	if (warm && !dice(10))
		write_disk(0, 4 * CHUNK + 512 + dice(CHUNK - 1024));
}

static void carry_write(const struct disk_record *r)
{
	unsigned int n = sent->writes++;

	assert_true(n < RECORDS);
	sent->write[n].r = *r;
	memcpy(sent->write[n].bytes, r->data, r->length);
}

static void drain(struct verify *v, unsigned int limit)
{
	for (; drained < limit; drained++) {
		const struct disk_record *r = &change[drained % RECORDS].r;

		verify_record(v, r);
		carry_write(r);
	}
}

static int send_question(void *opaque, struct message *m)
{
	(void)opaque;
	assert_int_equal(sent->question.type, 0);
	memcpy(sent->hashes, m->tail, m->tail_len);
	sent->question = *m;
	return 0;
}

static void carry_page(uint64_t gfn, const void *bytes)
{
	unsigned int n = sent->pages++;

	sent->page[n].gfn = gfn;
	sent->page[n].whole = forgotten[gfn];
	memcpy(sent->page[n].bytes, bytes, PAGE);
	forgotten[gfn] = false;
}

static int send_page(void *opaque, uint64_t gfn, const void *bytes)
{
	(void)opaque;
	forgotten[gfn] = true;
	if (bytes)
		carry_page(gfn, bytes);
	return 0;
}

static int send_write(void *opaque, const struct disk_record *r)
{
	(void)opaque;
	carry_write(r);
	return 0;
}

static int read_disk(void *opaque, unsigned int d, uint64_t offset, void *ret, size_t len)
{
	(void)opaque;
	assert_true(offset + len <= disks[d].bytes);
	memcpy(ret, disk[0][d] + offset, len);
	return 0;
}

static bool is_busy(void *opaque)
{
	(void)opaque;
	return !dice(200);
}

static const struct verify_door door = { send_question, send_page, send_write,
					 read_disk,	is_busy,   NULL };

/* A page that is not forgotten changes where it was written alone. */
static void apply_epoch(void)
{
	for (unsigned int i = 0; i < sent->writes; i++)
		memcpy(disk[1][sent->write[i].r.disk] + sent->write[i].r.offset,
		       sent->write[i].bytes, sent->write[i].r.length);
	for (unsigned int i = 0; i < sent->pages; i++) {
		size_t at = sent->page[i].gfn * PAGE;

		for (size_t b = 0; b < PAGE; b++)
			if (sent->page[i].whole || sent->page[i].bytes[b] != memory_was[at + b])
				memory[1][at + b] = sent->page[i].bytes[b];
	}
}

static void answer(struct verify *v)
{
	uint8_t bits[PROTO_HASHES_MAX / 8] = { 0 };
	struct message q = sent->question, m = { .tail = bits };
	bool pages = q.type == PROTO_PAGE_HASHES;
	struct cursor c = cursor_over(sent->hashes, sizeof(sent->hashes));
	uint32_t count = pages ? q.pages.count : q.chunks.count;
	struct refusal why;

	if (!q.type)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = q.chunks.offset + (uint64_t)i * CHUNK;
		const void *bytes =
			pages ? page_of(&side[1], q.pages.gfn + i) : disk[1][q.chunks.disk] + at;
		size_t len = pages ? PAGE : MIN((uint64_t)CHUNK, disks[q.chunks.disk].bytes - at);

		assert_non_null(bytes);
		if (!hashes_same(&c, SEED, bytes, len))
			bits[i / 8] |= (uint8_t)(1u << i % 8);
	}
	m.type = pages ? PROTO_PAGES_LACKED : PROTO_DISK_DIFFERS;
	m.tail_len = (count + 7) / 8;
	if (pages)
		m.pages = q.pages;
	else
		m.chunks = q.chunks;
	assert_true(verify_asks(v));
	assert_int_equal(verify_answered(v, &m, &why), 0);
	assert_int_equal(verify_answered(v, &m, &why), -EPROTO);
}

/* Boundaries: the second may be cut before the first is sent. */
static struct cut {
	struct stage_slot slot;
	uint64_t gfn[PAGES];
	unsigned int limit; /* of changes */
} cut[2];
static uint64_t epoch_sent;

static void capture(struct cut *c, uint64_t epoch)
{
	struct stage_slot *s = &c->slot;

	c->limit = changes;
	s->epoch = epoch;
	s->gfn = c->gfn;
	s->nr_pages = 0;
	s->captured_ns = clock_now_ns();
	bitmap_for_each (gfn, dirty, PAGES) {
		memcpy(s->pages + s->nr_pages * PAGE, memory[0] + gfn * PAGE, PAGE);
		c->gfn[s->nr_pages++] = gfn;
	}
	memset(dirty, 0, sizeof(dirty));
}

/* What the backup has is the boundary's (P2), but for single bytes that a test has damaged. */
static void check_alike(const uint8_t *a, const uint8_t *b, size_t len)
{
	unsigned int differ = 0;

	if (!memcmp(a, b, len))
		return;
	for (size_t i = 0; i < len; i++)
		differ += a[i] != b[i];
	assert_in_range(differ, 0, 1);
}

static void bound(const struct cut *c)
{
	for (uint64_t i = 0; i < c->slot.nr_pages; i++)
		memcpy(memory_was + c->gfn[i] * PAGE, c->slot.pages + i * PAGE, PAGE);
	for (; bounded < c->limit; bounded++) {
		const struct disk_record *r = &change[bounded % RECORDS].r;

		memcpy(disk_was[r->disk] + r->offset, r->data, r->length);
	}
	for (uint64_t gfn = 0; gfn < PAGES; gfn++)
		check_alike(memory_was + gfn * PAGE, memory[1] + gfn * PAGE, PAGE);
	for (unsigned int d = 0; d < 2; d++)
		for (uint64_t at = 0; at < disks[d].bytes; at += 512)
			check_alike(disk_was[d] + at, disk[1][d] + at, 512);
}

static void send_epoch(struct verify *v, struct cut *c)
{
	epoch_sent = c->slot.epoch;
	drain(v, c->limit);
	assert_int_equal(verify_epoch(v, &door, &c->slot), 0);
	guest_runs();
	for (uint64_t i = 0; i < c->slot.nr_pages; i++)
		carry_page(c->gfn[i], c->slot.pages + i * PAGE);
	apply_epoch();
	bound(c);
	answer(v);
	sent->pages = sent->writes = 0;
	sent->question.type = 0;
}

static void run_two_epochs(struct verify *v, uint64_t epoch)
{
	bool early = dice(2);

	for (unsigned int n = 0; n < 2; n++) {
		for (unsigned int i = dice(3); i && !(n && early); i--) {
			guest_runs();
			drain(v, changes - dice(changes - drained + 1));
			if (verify_due(v, clock_now_ns()))
				assert_int_equal(verify_idle(v, &door), 0);
		}
		guest_runs();
		if (!n || !early)
			capture(&cut[n], epoch + n);
		guest_runs();
		if (!n && early)
			capture(&cut[1], epoch + 1);
		guest_runs();
		send_epoch(v, &cut[n]);
	}
}

static int mark(void *opaque, uint64_t epoch, const struct verify_place *part)
{
	(void)opaque;
	assert_true(epoch == epoch_sent && !part->memory && part->bytes);
	return ++marks % 2 ? -EAGAIN : 0;
}

static void verify_some(bool with_disks, bool repair, struct verify_report *ret)
{
	struct verify_order order = { .memory = true, .disks = with_disks, .repair = repair };
	struct verify_config config = {
		.platform = &side[0], .disks = disks, .nr_disks = 2, .seed = SEED, .mark = mark
	};
	struct verify *v;

	assert_int_equal(verify_open(&config, &v), 0);
	assert_int_equal(verify_begin(v, &order, 7), 0);
	assert_int_equal(verify_begin(v, &order, 8), -EBUSY);
	for (uint64_t epoch = 1; epoch < EPOCHS; epoch += 2) {
		run_two_epochs(v, epoch);
		verify_get(v, ret);
		if (ret->state != VERIFY_RUNNING)
			break;
		if (with_disks)
			usleep(1000); /* which it looks at again, after a moment */
	}
	assert_int_equal(ret->state, VERIFY_DONE);
	assert_int_equal(ret->memory.done_bytes, (PAGES - 1) * PAGE);
	assert_int_equal(ret->disks.done_bytes, with_disks ? disks[0].bytes + disks[1].bytes : 0);
	/* The guest stands still. */
	run_two_epochs(v, EPOCHS);
	verify_close(v);
	memcpy(memory[0], memory_was, PAGES * PAGE);
	for (unsigned int d = 0; d < 2; d++)
		memcpy(disk[0][d], disk_was[d], disks[d].bytes);
	memset(dirty, 0, sizeof(dirty));
	drained = bounded = changes;
}

static void verify_all(bool repair, struct verify_report *ret)
{
	verify_some(true, repair, ret);
}

static int begin(void **state)
{
	(void)state;
	srandom(4711);
	sent = calloc(1, sizeof(*sent));
	for (int i = 0; i < 2; i++) {
		cut[i].slot.pages = calloc(PAGES, PAGE);
		memory[i] = calloc(PAGES, PAGE);
		disk[i][0] = calloc(1, disks[0].bytes);
		disk[i][1] = calloc(1, disks[1].bytes);
		side[i] = (struct platform){ .ops = &ops,
					     .nr_gfns = PAGES,
					     .memory_bytes = (PAGES - 1) * PAGE,
					     .priv = memory[i] };
	}
	memory_was = calloc(PAGES, PAGE);
	disk_was[0] = calloc(1, disks[0].bytes);
	disk_was[1] = calloc(1, disks[1].bytes);
	changes = drained = bounded = marks = hot = 0;
	warm = false;
	return sent && cut[1].slot.pages && disk_was[1] ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		free(cut[i].slot.pages);
		free(memory[i]);
		free(disk[i][0]);
		free(disk[i][1]);
	}
	free(memory_was);
	free(disk_was[0]);
	free(disk_was[1]);
	free(sent);
	return 0;
}

static void test_clean(void **state)
{
	struct verify_report r;

	(void)state;
	hot = 20;
	verify_all(true, &r);
	assert_int_equal(r.memory.different + r.disks.different, 0);
	assert_int_equal(verify_report_left(&r), 0);
	assert_memory_equal(memory[0], memory[1], PAGES * PAGE);
}

static void damage(void)
{
	memory[1][3 * PAGE + 9] ^= 4;
	memory[1][(HOLE + 1) * PAGE] ^= 4;
	memory[1][(HOLE + 2) * PAGE] ^= 4;
	disk[1][0][4 * CHUNK + 5] ^= 1;
	disk[1][1][disks[1].bytes - 1] ^= 1;
}

static void test_damage(void **state)
{
	struct verify_report r;

	(void)state;
	damage();
	verify_all(false, &r);
	assert_int_equal(r.memory.different, 3);
	assert_int_equal(r.disks.different, 2);
	assert_int_equal(r.memory.repaired + r.disks.repaired, 0);
	assert_int_equal(verify_report_left(&r), 5);
	assert_int_equal(r.nr_places, 4); /* two pages are side by side */
	assert_int_equal(r.place[1].offset, (HOLE + 1) * (uint64_t)PAGE);
	assert_int_equal(r.place[1].bytes, 2 * PAGE);
	assert_int_equal(r.place[3].offset, 2 * CHUNK);
	assert_int_equal(r.place[3].bytes, 512);
	assert_int_equal(marks, 0);
}

static void test_repair(void **state)
{
	struct verify_report r;

	(void)state;
	warm = true;
	damage();
	verify_all(true, &r);
	assert_int_equal(r.memory.different, 3);
	assert_int_equal(r.memory.repaired, 3);
	assert_int_equal(r.disks.different, 2);
	assert_int_equal(r.disks.repaired, 2);
	assert_int_equal(verify_report_left(&r), 0);
	assert_true(marks >= 2);
	assert_memory_equal(memory[0], memory[1], PAGES * PAGE);
	verify_all(false, &r);
	assert_int_equal(r.memory.different + r.disks.different, 0);
}

/* Written in every epoch: such a page is compared by the epoch's own copy. */
static void test_hot_damage(void **state)
{
	struct verify_report r;

	(void)state;
	hot = 40;
	for (unsigned int n = 0; n < 20; n++) {
		for (unsigned int i = 0; i < 10; i++)
			memory[1][i * 11 * PAGE + i] ^= 1;
		verify_some(false, true, &r);
		assert_int_equal(r.memory.different, 10);
		assert_int_equal(verify_report_left(&r), 0);
		assert_memory_equal(memory[0], memory[1], PAGES * PAGE);
	}
}

/* More places than are named. */
static void test_many(void **state)
{
	struct verify_report r;

	(void)state;
	for (unsigned int i = 0; i < VERIFY_PLACES_MAX + 1; i++)
		memory[1][2 * i * PAGE] ^= 1;
	verify_all(true, &r);
	assert_true(r.more && r.nr_places == VERIFY_PLACES_MAX);
	assert_int_equal(verify_report_left(&r), 0);
}

static bool is_idle(void *opaque)
{
	(void)opaque;
	return false;
}

/* Pages of a look when nothing else is to be sent. */
static unsigned int idle_look(struct verify *v)
{
	struct verify_door idle = door;

	idle.busy = is_idle;
	slow_us = 1000;
	assert_true(verify_due(v, clock_now_ns()));
	assert_int_equal(verify_idle(v, &idle), 0);
	slow_us = 0;
	return sent->question.pages.count;
}

/* Where epochs take long a look may, so that it comes to an end there, too. */
static void test_long_epochs(void **state)
{
	struct verify_order order = { .memory = true };
	struct verify_config config = { .platform = &side[0], .seed = SEED };
	struct verify *v;

	(void)state;
	assert_int_equal(verify_open(&config, &v), 0);
	assert_int_equal(verify_begin(v, &order, 1), 0);
	assert_in_range(idle_look(v), 1, 16);
	capture(&cut[0], 1);
	send_epoch(v, &cut[0]);
	usleep(1000000);
	capture(&cut[0], 2);
	send_epoch(v, &cut[0]);
	assert_in_range(idle_look(v), 33, PROTO_HASHES_MAX);
	verify_close(v);
}

static void test_questions(void **state)
{
	struct check_config config = { .platform = &side[1], .disks = disks, .nr_disks = 2 };
	static uint8_t hashes[PROTO_HASHES_MAX * PROTO_HASH_BYTES];
	struct message m = { .type = PROTO_PAGE_HASHES, .epoch = 5, .tail = hashes }, back;
	struct refusal why;
	struct check *c;

	(void)state;
	assert_int_equal(check_open(&config, &c), 0);
	check_begin(c, SEED);
	m.pages = (struct proto_pages){ .gfn = HOLE - 1, .count = 2 };
	assert_int_equal(check_ask(c, &m, &why), -EPROTO);
	assert_int_equal(why.code, PROTO_BAD_PAGES);
	m.pages = (struct proto_pages){ .gfn = UINT64_MAX - 2, .count = 2 };
	assert_int_equal(check_ask(c, &m, &why), -EPROTO);
	m.type = PROTO_DISK_HASHES;
	m.chunks = (struct proto_chunks){ .disk = 2, .count = 1 };
	assert_int_equal(check_ask(c, &m, &why), -EPROTO);
	m.chunks = (struct proto_chunks){ .disk = 1, .offset = CHUNK, .count = 3 };
	assert_int_equal(check_ask(c, &m, &why), -EPROTO);
	m.type = PROTO_PAGE_HASHES;
	m.pages = (struct proto_pages){ .gfn = 0, .count = 2 };
	assert_false(check_compare(c, 5));
	assert_int_equal(check_ask(c, &m, &why), 0);
	assert_int_equal(check_ask(c, &m, &why), -EPROTO);
	assert_int_equal(why.code, PROTO_UNEXPECTED);
	assert_false(check_compare(c, 4));
	assert_false(check_answer(c, &back));
	assert_true(check_compare(c, 5));
	assert_true(check_answer(c, &back));
	assert_int_equal(back.type, PROTO_PAGES_LACKED);
	assert_int_equal(((const uint8_t *)back.tail)[0], 3); /* these hashes are nobody's */
	assert_false(check_answer(c, &back));
	check_stop(c);
	assert_int_equal(check_ask(c, &m, &why), 0);
	assert_false(check_compare(c, 5));
	check_close(c);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_clean, begin, end),
		cmocka_unit_test_setup_teardown(test_damage, begin, end),
		cmocka_unit_test_setup_teardown(test_repair, begin, end),
		cmocka_unit_test_setup_teardown(test_hot_damage, begin, end),
		cmocka_unit_test_setup_teardown(test_many, begin, end),
		cmocka_unit_test_setup_teardown(test_long_epochs, begin, end),
		cmocka_unit_test_setup_teardown(test_questions, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
