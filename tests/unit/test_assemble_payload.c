/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As test_assemble.c, with frames that are right by number and checksum: epochs of which
 * something is left out, doubled, in another order or claimed, and pages, disk changes and
 * state that do not fit the VM.
 */
#include "tests/unit/assemble_expect.h"

#include "base/cursor.h"

/* --- pages, disks and state that do not fit --------------------------------------------- */

/* `extra` behind a page that is right, which must not be taken either. */
static void say_pages(unsigned int codec, uint32_t raw_len, unsigned int count, struct packet extra)
{
	uint8_t *at = world_room(PROTO_PAGES_HEAD + 4 + PAGE + extra.len);
	struct cursor c = cursor_over(at, PROTO_PAGES_HEAD + 4 + PAGE + extra.len);

	cursor_put_u8(&c, (uint8_t)codec);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, (uint16_t)count);
	cursor_put_u32(&c, raw_len ? raw_len : (uint32_t)(4 + PAGE + extra.len));
	cursor_put_u8(&c, PROTO_PAGE_WHOLE);
	cursor_put_u8(&c, 1 << 1); /* page 1 */
	cursor_put_u16(&c, PAGE);
	world_noise(cursor_put_room(&c, PAGE), PAGE);
	cursor_put_bytes(&c, extra.bytes, extra.len);
	assert_true(cursor_done(&c));
	say_raw(PROTO_PAGES, at, (uint32_t)(PROTO_PAGES_HEAD + 4 + PAGE + extra.len));
}

/* Steps are from page 1 on, doubled. */
static const struct page_case {
	const char *name, *codes;
	unsigned int codec;
	uint32_t raw_len;
	unsigned int count;
	uint8_t record[14];
	size_t len;
} page_cases[] = {
	{ "a page beyond memory", "BAD_PAGES", 0, 0, 2, { 0, 46 << 1, 0, 0 }, 4 },
	{ "a page far beyond memory",
	  "BAD_PAGES",
	  0,
	  0,
	  2,
	  { 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0 },
	  13 },
	{ "a page before memory", "BAD_PAGES", 0, 0, 2, { 0, 5, 0, 0 }, 4 },
	{ "a page in a hole", "BAD_PAGES", 0, 0, 2, { 0, (HOLE - 2) << 1, 0, 0 }, 4 },
	{ "a record of no kind", "BAD_PAGES", 0, 0, 2, { 7, 0, 0, 0 }, 4 },
	{ "a zero page with bytes", "BAD_PAGES", 0, 0, 2, { 0, 0, 1, 0, 9 }, 5 },
	{ "a delta out of its page", "BAD_PAGES", 0, 0, 2, { 2, 0, 5, 0, 0xff, 0xf, 9, 0, 1 }, 9 },
	{ "a record cut short", "BAD_PAGES", 0, 0, 2, { 1, 0, 0, 16, 9 }, 5 },
	{ "bytes behind the records", "BAD_PAGES", 0, 0, 1, { 1, 2, 3 }, 3 },
	{ "no records", "BAD_PAGES", 0, 0, 0, { 0 }, 0 },
	{ "too many records", "BAD_PAGES", 0, 0, 257, { 0 }, 0 },
	{ "more bytes than it says", "BAD_PAGES", 0, 4000, 1, { 0 }, 0 },
	{ "what is not lz4", "BAD_PAGES", CODEC_LZ4, 5000, 1, { 0 }, 0 },
	{ "more than a frame holds", "TOO_LARGE", CODEC_LZ4, 1 << 21, 1, { 0 }, 0 },
	{ "a codec that was not chosen", "BAD_CODEC", CODEC_ZSTD, 0, 1, { 0 }, 0 },
	{ "no codec at all", "BAD_CODEC", 200, 0, 1, { 0 }, 0 },
};

static void say_disk(uint16_t disk, uint64_t offset, uint64_t length, uint32_t tail_len)
{
	static uint8_t payload[18 + 512];
	struct cursor c = cursor_over(payload, sizeof(payload));

	cursor_put_u16(&c, disk);
	cursor_put_u64(&c, offset);
	cursor_put_u64(&c, length);
	say_raw(tail_len ? PROTO_DISK_WRITE : PROTO_DISK_DISCARD, payload, 18 + tail_len);
}

static void say_state(uint32_t offset, uint32_t total, uint32_t len)
{
	uint8_t payload[8 + 6000] = { 0 };
	struct cursor c = cursor_over(payload, sizeof(payload));

	cursor_put_u32(&c, offset);
	cursor_put_u32(&c, total);
	say_raw(PROTO_STATE, payload, 8 + len);
}

static const struct {
	const char *name, *codes;
	uint16_t disk;
	uint64_t offset, length;
	uint32_t tail_len; /* 0: a discard */
} disk_cases[] = {
	{ "a write over a disk's end", "BAD_PAYLOAD", 0, DISK_BYTES - 511, 512, 512 },
	{ "a write beyond a disk", "BAD_PAYLOAD", 1, UINT64_MAX / 4, 512, 512 },
	{ "a write beyond any disk", "BAD_PAYLOAD", 1, UINT64_MAX - 511, 512, 512 },
	{ "a discard over a disk's end", "BAD_PAYLOAD", 0, 512, DISK_BYTES, 0 },
	{ "a disk that is not there", "BAD_PAYLOAD", NR_DISKS, 0, 512, 512 },
	{ "a disk that cannot be", "BAD_PAYLOAD", PROTO_DISKS_MAX, 0, 512, 512 },
	{ "a write with less than it says", "BAD_PAYLOAD", 0, 0, 512, 511 },
	{ "a write of nothing", "BAD_PAYLOAD", 0, 0, 0, 1 },
};

/* Behind the first half, if `second`. */
static const struct {
	const char *name, *codes;
	bool second;
	uint32_t offset, total, len;
} state_cases[] = {
	{ "state that overlaps", "BAD_PAYLOAD", true, STATE_BYTES / 2 - 1, STATE_BYTES, 100 },
	{ "state with a gap", "BAD_PAYLOAD", true, STATE_BYTES / 2 + 1, STATE_BYTES, 100 },
	{ "state again from its beginning", "BAD_PAYLOAD", true, 0, STATE_BYTES, 100 },
	{ "state of another length", "BAD_PAYLOAD", true, STATE_BYTES / 2, STATE_BYTES + 1, 100 },
	{ "state beyond its length", "BAD_PAYLOAD", true, STATE_BYTES / 2, STATE_BYTES,
	  STATE_BYTES / 2 + 1 },
	{ "state larger than any", "BAD_PAYLOAD", false, 0, PROTO_STATE_MAX + 1, 100 },
	{ "state of nothing", "BAD_PAYLOAD", false, 0, 100, 0 },
};

/* --- an epoch that is changed behind its digest, or with it ----------------------------- */

static void promise(struct plan *p)
{
	struct frame_stream s = world.out;
	struct frame_digest d;

	for (unsigned int i = 0; i < p->nr; i++)
		if (frame_is_data(p->m[i].type))
			message_frame(&s, &p->m[i]);
	d = frame_stream_digest(&s, p->epoch);
	p->m[AT_END].end.frames = d.frames;
	p->m[AT_END].end.digest = d.value;
}

static void leave_out(struct plan *p, unsigned int at)
{
	p->nr--;
	memmove(&p->m[at], &p->m[at + 1], (p->nr - at) * sizeof(p->m[0]));
}

static void put_twice(struct plan *p, unsigned int at)
{
	memmove(&p->m[at + 1], &p->m[at], (p->nr - at) * sizeof(p->m[0]));
	p->nr++;
}

static void no_pages(struct plan *p)
{
	leave_out(p, AT_PAGES2);
}

static void no_write(struct plan *p)
{
	leave_out(p, AT_WRITE2);
}

static void no_flush(struct plan *p)
{
	leave_out(p, AT_FLUSH);
}

static void half_a_state(struct plan *p)
{
	leave_out(p, AT_STATE2);
}

static void no_state(struct plan *p)
{
	leave_out(p, AT_STATE2);
	leave_out(p, AT_STATE);
}

static void pages_twice(struct plan *p)
{
	put_twice(p, AT_PAGES);
}

static void write_twice(struct plan *p)
{
	put_twice(p, AT_WRITE);
}

static void state_twice(struct plan *p)
{
	put_twice(p, AT_STATE);
}

static void pages_swapped(struct plan *p)
{
	struct message first = p->m[AT_PAGES];

	p->m[AT_PAGES] = p->m[AT_PAGES2];
	p->m[AT_PAGES2] = first;
}

static void writes_swapped(struct plan *p)
{
	struct message first = p->m[AT_WRITE];

	p->m[AT_WRITE] = p->m[AT_ZEROES];
	p->m[AT_ZEROES] = first;
}

static void end_first(struct plan *p)
{
	struct message end = p->m[AT_END];

	p->m[0] = end;
	p->nr = 1;
}

static void more_pages(struct plan *p)
{
	p->m[AT_END].end.pages++;
}

static void fewer_changes(struct plan *p)
{
	p->m[AT_END].end.disk_ops--;
}

static void more_state(struct plan *p)
{
	p->m[AT_END].end.state_bytes++;
}

static void another_digest(struct plan *p)
{
	p->m[AT_END].end.digest ^= UINT64_C(1) << 63;
}

static void more_frames(struct plan *p)
{
	p->m[AT_END].end.frames++;
}

static void first_copy(struct plan *p)
{
	p->m[AT_WRITE2].type = PROTO_DISK_DATA;
}

static void older_generation(struct plan *p)
{
	p->m[AT_PAGES2].generation = GENERATION - 1;
}

static void newer_generation(struct plan *p)
{
	p->m[AT_PAGES2].generation = GENERATION + 1;
}

/* `promised`: the digest is that of the epoch as it was. */
static const struct {
	const char *name, *codes;
	bool promised;
	void (*edit)(struct plan *p);
} edit_cases[] = {
	{ "pages left out", "BAD_DIGEST", true, no_pages },
	{ "pages left out of the digest too", "BAD_DIGEST", false, no_pages },
	{ "a write left out", "BAD_DIGEST", true, no_write },
	{ "a write left out of the digest too", "BAD_DIGEST", false, no_write },
	{ "a flush left out", "BAD_DIGEST", true, no_flush },
	{ "half a state", "BAD_DIGEST", true, half_a_state },
	{ "half a state, and its digest", "BAD_DIGEST", false, half_a_state },
	{ "no state, and its digest", "BAD_DIGEST", false, no_state },
	{ "pages twice", "BAD_DIGEST", true, pages_twice },
	{ "pages twice in the digest too", "BAD_DIGEST", false, pages_twice },
	{ "a write twice", "BAD_DIGEST", true, write_twice },
	{ "a write twice in the digest too", "BAD_DIGEST", false, write_twice },
	{ "state twice", "BAD_PAYLOAD", true, state_twice },
	{ "pages swapped", "BAD_DIGEST", true, pages_swapped },
	{ "changes of a disk swapped", "BAD_DIGEST", true, writes_swapped },
	{ "an end before its data", "BAD_DIGEST", true, end_first },
	{ "an end that claims a page more", "BAD_DIGEST", true, more_pages },
	{ "an end that claims a change less", "BAD_DIGEST", true, fewer_changes },
	{ "an end that claims more state", "BAD_DIGEST", true, more_state },
	{ "an end with another digest", "BAD_DIGEST", true, another_digest },
	{ "an end that claims a frame more", "BAD_DIGEST", true, more_frames },
	{ "a first copy after the first epoch", "UNEXPECTED", true, first_copy },
	{ "an older generation", "STALE_GENERATION", true, older_generation },
	{ "a newer generation", "NEWER_GENERATION", true, newer_generation },
};

/* --- tests ------------------------------------------------------------------------------ */

static void test_epochs(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++)
		for (unsigned int i = 0; i < ARRAY_SIZE(edit_cases); i++) {
			open_next(&p, WAY_TLS(way));
			if (edit_cases[i].promised)
				promise(&p);
			edit_cases[i].edit(&p);
			say_plan(&p, 0, p.nr);
			expect_untouched(edit_cases[i].name, edit_cases[i].codes, WAY_POWER(way));
			world_close();
		}
}

/* Right by lz4, but for the length that it says. */
static void test_another_length(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++) {
		uint8_t *at;
		uint32_t len;

		open_next(&p, WAY_TLS(way));
		len = p.m[AT_PAGES].tail_len;
		at = memcpy(world_room(len), p.m[AT_PAGES].tail, len);
		at[4] ^= 1; /* of raw_len */
		say_plan(&p, 0, AT_PAGES);
		say_raw(PROTO_PAGES, at, len);
		expect_untouched("pages of another length", "BAD_PAGES", WAY_POWER(way));
		world_close();
	}
}

static void test_pages(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++)
		for (unsigned int i = 0; i < ARRAY_SIZE(page_cases); i++) {
			const struct page_case *c = &page_cases[i];
			uint8_t record[sizeof(c->record)];

			open_next(&p, WAY_TLS(way));
			say_plan(&p, 0, AT_PAGES2);
			memcpy(record, c->record, sizeof(record));
			say_pages(c->codec, c->raw_len, c->count,
				  (struct packet){ record, c->len });
			expect_untouched(c->name, c->codes, WAY_POWER(way));
			world_close();
		}
}

static void test_disks(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++)
		for (unsigned int i = 0; i < ARRAY_SIZE(disk_cases); i++) {
			open_next(&p, WAY_TLS(way));
			say_plan(&p, 0, AT_FLUSH);
			say_disk(disk_cases[i].disk, disk_cases[i].offset, disk_cases[i].length,
				 disk_cases[i].tail_len);
			expect_untouched(disk_cases[i].name, disk_cases[i].codes, WAY_POWER(way));
			world_close();
		}
}

static void test_states(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++)
		for (unsigned int i = 0; i < ARRAY_SIZE(state_cases); i++) {
			open_next(&p, WAY_TLS(way));
			say_plan(&p, 0, AT_STATE + state_cases[i].second);
			say_state(state_cases[i].offset, state_cases[i].total, state_cases[i].len);
			expect_untouched(state_cases[i].name, state_cases[i].codes, WAY_POWER(way));
			world_close();
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epochs),	       cmocka_unit_test(test_pages),
		cmocka_unit_test(test_another_length), cmocka_unit_test(test_disks),
		cmocka_unit_test(test_states),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, open_all, hosts_close);
}
