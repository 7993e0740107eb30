/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup that holds committed epochs, and a peer that sends garbage, or frames that are cut off,
 * replayed, reordered, left out or flipped in a bit: the link ends with the reason's name, and
 * memory, disks and state stay those of the last committed epoch, byte for byte, whether a
 * takeover follows or a power cut. SEED=number repeats a run.
 *
 * timeout: 900
 */
#include "tests/unit/assemble_expect.h"

/* --- frames on the wire ----------------------------------------------------------------- */

static struct packet on_wire(const struct message *m)
{
	return tapped(message_frame(&world.out, m));
}

static void wire_garbage(const struct plan *p)
{
	struct packet g = { .bytes = world_room(200), .len = 200 };

	world_noise(g.bytes, g.len);
	g.bytes[0] = 0xee;
	say_plan(p, 0, AT_PAGES2);
	wire_send(g);
}

/* What a peer sends that speaks TLS, or speaks it anew. */
static void wire_tls_hello(const struct plan *p)
{
	struct packet g = { .bytes = world_room(96), .len = 96 };

	memset(g.bytes, 0, g.len);
	memcpy(g.bytes, (uint8_t[]){ 0x16, 0x03, 0x01, 0x00, 0x5b, 0x01 }, 6);
	say_plan(p, 0, AT_PAGES2);
	wire_send(g);
}

static void wire_cut(const struct plan *p)
{
	struct packet f;

	say_plan(p, 0, AT_PAGES);
	f = on_wire(&p->m[AT_PAGES]);
	f.len /= 2;
	wire_send(f);
}

static void wire_flipped(const struct plan *p)
{
	struct packet f;

	say_plan(p, 0, AT_PAGES);
	f = on_wire(&p->m[AT_PAGES]);
	f.bytes[f.len / 2] ^= 4;
	wire_send(f);
	say_plan(p, AT_PAGES2, p->nr);
}

static void wire_replay_of_pages(const struct plan *p)
{
	say_plan(p, 0, AT_PAGES);
	wire_send(world.sent[2][AT_PAGES]);
	say_plan(p, AT_PAGES, p->nr);
}

static void wire_replay_of_end(const struct plan *p)
{
	wire_send(world.sent[COMMITTED][AT_END]);
	say_plan(p, 0, p->nr);
}

/* Which of four frames are sent, in which order. */
static void wire_mixed(const struct plan *p, const char *order)
{
	struct packet f[4];

	say_plan(p, 0, AT_ZEROES);
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++)
		f[i] = on_wire(&p->m[AT_ZEROES + i]);
	for (; *order; order++)
		wire_send(f[*order - '0']);
	say_plan(p, AT_ZEROES + ARRAY_SIZE(f), p->nr);
}

static void wire_swapped(const struct plan *p)
{
	wire_mixed(p, "0213");
}

static void wire_left_out(const struct plan *p)
{
	wire_mixed(p, "012");
}

static void wire_doubled(const struct plan *p)
{
	wire_mixed(p, "01223");
}

static void wire_ends_amid_an_epoch(const struct plan *p)
{
	say_plan(p, 0, AT_END);
}

/* More than what the log gathers before it writes: some of the epoch is in its file. */
static void wire_ends_amid_a_large_epoch(const struct plan *p)
{
	static const uint8_t piece[PIECE] = { 1 };
	struct message m = { .type = PROTO_DISK_WRITE,
			     .epoch = NEXT,
			     .disk = { .length = PIECE },
			     .tail = piece,
			     .tail_len = PIECE };

	say_plan(p, 0, p->nr - 1);
	for (unsigned int i = 0; i < 20; i++) {
		m.disk.offset = i % 4 * PIECE;
		say(&m);
	}
}

/* --- frames by a peer that numbers, sums and seals them as it likes ---------------------- */

static void peer_garbage(const struct plan *p)
{
	struct packet g = { .bytes = world_room(200), .len = 200 };

	world_noise(g.bytes, g.len);
	g.bytes[0] = 0xee;
	say_plan(p, 0, AT_PAGES2);
	wire_send(tapped(g));
}

static void peer_cuts(const struct plan *p)
{
	struct packet f;

	say_plan(p, 0, AT_PAGES);
	f = message_frame(&world.out, &p->m[AT_PAGES]);
	f.len = PROTO_HEADER_BYTES + 900;
	wire_send(tapped(f));
}

static void peer_too_long(const struct plan *p)
{
	struct packet f = message_frame(&world.out, &p->m[0]);

	memcpy(f.bytes + 12, (uint8_t[]){ 1, 0, 0x10, 0 }, 4);
	wire_send(tapped(f));
}

static void peer_of_another_session(const struct plan *p)
{
	say_plan(p, 0, AT_PAGES);
	world.out.seed++;
	say_plan(p, AT_PAGES, p->nr);
}

static void peer_replays_pages(const struct plan *p)
{
	say_plan(p, 0, AT_PAGES);
	frame_stream_start(&world.out, 2);
	say(&world.plans[2].m[AT_PAGES]);
}

static void peer_replays_end(const struct plan *p)
{
	(void)p;
	frame_stream_start(&world.out, COMMITTED);
	say(&world.plans[COMMITTED].m[AT_END]);
}

static void peer_replays_epoch(const struct plan *p)
{
	(void)p;
	frame_stream_start(&world.out, COMMITTED);
	say_plan(&world.plans[COMMITTED], 0, AT_END + 1);
}

/* The epoch as it is, by the number of a later one. */
static void peer_leaves_out_epochs(const struct plan *p, uint64_t epochs)
{
	struct plan later = *p;

	for (unsigned int i = 0; i < later.nr; i++)
		later.m[i].epoch += epochs;
	frame_stream_start(&world.out, NEXT + epochs);
	say_plan(&later, 0, later.nr);
}

static void peer_leaves_out_one_epoch(const struct plan *p)
{
	peer_leaves_out_epochs(p, 1);
}

static void peer_leaves_out_many_epochs(const struct plan *p)
{
	peer_leaves_out_epochs(p, PROTO_EPOCHS_OPEN);
}

static void peer_interleaves_epochs(const struct plan *p)
{
	struct message early = p->m[AT_WRITE];

	early.epoch++;
	say_plan(p, 0, AT_PAGES);
	say(&early);
	say_plan(p, AT_PAGES, p->nr);
}

static void peer_hashes_another_epoch(const struct plan *p)
{
	struct message hash = p->m[AT_HASH];

	hash.epoch += 5;
	say(&hash);
	say_plan(p, 0, p->nr);
}

static void peer_ends_at_once(const struct plan *p)
{
	struct message end = p->m[AT_END];

	end.end = (struct proto_epoch_end){ 0 };
	say(&end);
}

static void peer_cuts_its_end(const struct plan *p)
{
	say_plan(p, 0, AT_END);
	say_raw(PROTO_EPOCH_END, "fifteen bytes..", 15);
}

static void peer_of_unknown_type(const struct plan *p)
{
	struct packet f = message_frame(&world.out, &p->m[0]);

	f.bytes[6] = 99;
	wire_send(tapped(f));
}

static void say_type(const struct plan *p, enum proto_type type, const void *tail, uint32_t len)
{
	struct message m = { .type = type, .tail = tail, .tail_len = len };

	if (type == PROTO_HELLO)
		m.hello = (struct proto_hello){ .version_max = 1,
						.version_min = 1,
						.kind = PROTO_KIND_BULK,
						.session = SESSION,
						.memory_bytes = GFNS * PAGE,
						.generation = GENERATION,
						.page_bytes = PAGE,
						.vm = "db" };
	else if (type != PROTO_BYE)
		m.pages.count = 1;
	say_plan(p, 0, AT_PAGES);
	say(&m);
	say_plan(p, AT_PAGES, p->nr);
}

static void peer_says_hello(const struct plan *p)
{
	say_type(p, PROTO_HELLO, NULL, 0);
}

static void peer_asks_with_hashes(const struct plan *p)
{
	say_type(p, PROTO_PAGE_HASHES, "sixteen bytes...", PROTO_HASH_BYTES);
}

static void peer_answers_as_a_backup(const struct plan *p)
{
	say_type(p, PROTO_PAGES_LACKED, "\1", 1);
}

static void peer_says_goodbye(const struct plan *p)
{
	say_type(p, PROTO_BYE, NULL, 0);
}

static void peer_on_heart(const struct plan *p)
{
	struct packet f;

	say_plan(p, 0, AT_PAGES);
	frame_stream_start(&world.heart_out, NEXT);
	f = message_frame(&world.heart_out, &p->m[AT_PAGES]);
	assert_int_equal(write(world.heart, f.bytes, f.len), f.len);
}

/* `tls`: what it is called where what lies on the wire is encrypted. */
static const struct {
	const char *name, *codes, *tls;
	void (*send)(const struct plan *p);
} send_cases[] = {
	{ "garbage on the wire", "BAD_MAGIC", "TLS_NOT_SPOKEN", wire_garbage },
	{ "TLS on the wire", "TLS_NOT_SPOKEN", NULL, wire_tls_hello },
	{ "a frame cut on the wire", "TRUNCATED", "CLOSED", wire_cut },
	{ "a bit flipped on the wire", "BAD_CHECKSUM", "TLS_FAILED", wire_flipped },
	{ "pages replayed on the wire", "BAD_SEQUENCE", "TLS_FAILED", wire_replay_of_pages },
	{ "an end replayed on the wire", "BAD_SEQUENCE", "TLS_FAILED", wire_replay_of_end },
	{ "frames swapped on the wire", "BAD_SEQUENCE", "TLS_FAILED", wire_swapped },
	{ "a frame left out on the wire", "BAD_SEQUENCE", "TLS_FAILED", wire_left_out },
	{ "a frame doubled on the wire", "BAD_SEQUENCE", "TLS_FAILED", wire_doubled },
	{ "an end amid an epoch", "CLOSED", NULL, wire_ends_amid_an_epoch },
	{ "an end amid a large epoch", "CLOSED", NULL, wire_ends_amid_a_large_epoch },
	{ "garbage", "BAD_MAGIC", NULL, peer_garbage },
	{ "a frame cut", "TRUNCATED", NULL, peer_cuts },
	{ "a frame too long", "TOO_LARGE", NULL, peer_too_long },
	{ "another session", "BAD_CHECKSUM", NULL, peer_of_another_session },
	{ "pages of an older epoch", "BAD_EPOCH", NULL, peer_replays_pages },
	{ "the last epoch's end again", "BAD_EPOCH", NULL, peer_replays_end },
	{ "the last epoch again", "BAD_EPOCH", NULL, peer_replays_epoch },
	{ "an epoch left out", "BAD_EPOCH", NULL, peer_leaves_out_one_epoch },
	{ "many epochs left out", "BAD_EPOCH", NULL, peer_leaves_out_many_epochs },
	{ "an epoch amid another", "BAD_EPOCH", NULL, peer_interleaves_epochs },
	{ "a hash of another epoch", "BAD_EPOCH", NULL, peer_hashes_another_epoch },
	{ "an end of nothing", "BAD_DIGEST", NULL, peer_ends_at_once },
	{ "an end cut short", "BAD_PAYLOAD", NULL, peer_cuts_its_end },
	{ "a type that is none", "BAD_TYPE", NULL, peer_of_unknown_type },
	{ "HELLO again", "UNEXPECTED", NULL, peer_says_hello },
	{ "hashes that nobody asked for", "UNEXPECTED", NULL, peer_asks_with_hashes },
	{ "a backup's answer", "UNEXPECTED", NULL, peer_answers_as_a_backup },
	{ "goodbye amid an epoch", "CLOSED", NULL, peer_says_goodbye },
	{ "pages on the other connection", "UNEXPECTED", NULL, peer_on_heart },
};

/* --- tests ------------------------------------------------------------------------------ */

/* The same epoch, whole: it is what the cases above leave of it that is refused. */
static void test_good_epoch(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++) {
		open_next(&p, WAY_TLS(way));
		say_plan(&p, 0, p.nr);
		await_commit(NEXT);
		expect_broken("a good epoch", "CLOSED");
		(WAY_POWER(way) ? lose_power : take_over)("a good epoch", NEXT);
		world_close();
	}
}

/* It was not acknowledged when the next frame ended the link: it counts as if it had not come. */
static void test_whole_and_not_sealed(void **state)
{
	struct letter l;
	struct plan p;

	(void)state;
	open_next(&p, true);
	say_plan(&p, 0, p.nr);
	l = await();
	assert_int_equal(l.kind, LETTER_EPOCH_WHOLE);
	frame_stream_start(&world.out, 2);
	say(&world.plans[2].m[AT_PAGES]);
	expect_untouched("whole and not sealed", "BAD_EPOCH", false);
	world_close();
}

static void test_frames(void **state)
{
	struct plan p;

	(void)state;
	for (unsigned int way = 0; way < WAYS; way++)
		for (unsigned int i = 0; i < ARRAY_SIZE(send_cases); i++) {
			const char *tls = send_cases[i].tls;

			open_next(&p, WAY_TLS(way));
			send_cases[i].send(&p);
			expect_untouched(send_cases[i].name,
					 WAY_TLS(way) && tls ? tls : send_cases[i].codes,
					 WAY_POWER(way));
			world_close();
		}
}

/* By the field of the header that the bit is in. */
static const char *flipped_codes(size_t at)
{
	static const char *const codes[PROTO_HEADER_BYTES / 4] = {
		"BAD_MAGIC",	"BAD_VERSION BAD_TYPE BAD_CHECKSUM",
		"BAD_FLAGS",	"TOO_LARGE BAD_CHECKSUM TRUNCATED",
		"BAD_CHECKSUM", "BAD_CHECKSUM",
		"BAD_CHECKSUM", "BAD_CHECKSUM",
		"BAD_SEQUENCE", "BAD_SEQUENCE",
		"BAD_CHECKSUM", "BAD_CHECKSUM",
	};

	return at < PROTO_HEADER_BYTES ? codes[at / 4] : "BAD_CHECKSUM";
}

/* Each bit of a header, then some of its payload; the rest of the epoch follows. */
static void test_flips(void **state)
{
	const unsigned int header_bits = PROTO_HEADER_BYTES * 8;
	struct plan p;

	(void)state;
	for (unsigned int i = 0; i < header_bits + 200; i++) {
		struct packet f;
		char name[64];
		size_t bit;

		open_next(&p, false);
		say_plan(&p, 0, AT_PAGES);
		f = on_wire(&p.m[AT_PAGES]);
		bit = i < header_bits
			      ? i
			      : header_bits + world_random((uint32_t)f.len * 8 - header_bits);
		snprintf(name, sizeof(name), "bit %zu of byte %zu flipped", bit % 8, bit / 8);
		f.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		wire_send(f);
		say_plan(&p, AT_PAGES2, p.nr);
		expect_untouched(name, flipped_codes(bit / 8), i % 2);
		world_close();
	}
}

/* The other connection is still there: it is the damage that is told of. */
static void test_named_first(void **state)
{
	struct letter l;
	struct plan p;

	(void)state;
	open_next(&p, true);
	peer_garbage(&p);
	l = await();
	assert_int_equal(l.kind, LETTER_BROKEN);
	assert_true(names(&l, "BAD_MAGIC"));
	world_drop_link();
	take_over("garbage", COMMITTED);
	world_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_epoch),  cmocka_unit_test(test_whole_and_not_sealed),
		cmocka_unit_test(test_frames),	    cmocka_unit_test(test_flips),
		cmocka_unit_test(test_named_first),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, open_all, hosts_close);
}
