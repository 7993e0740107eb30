/* SPDX-License-Identifier: Apache-2.0 */
/* netbuf/plug.h: epochs, leases, the end, the death of a process, the limit; see plug_world.h. */
#include "tests/unit/plug_world.h"

static void every_frame_waits_for_its_epoch(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;
	uint8_t marks[2 * NR_KINDS];

	need_plug();
	for (unsigned int i = 0; i < 2 * NR_KINDS; i++) {
		marks[i] = (uint8_t)(i + 1);
		guest_sends(w, i % 2, i / 2, marks[i]);
	}
	lan_hears_nothing(w);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 0, 1, 99);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_release(w->nb, 0, 0, &done), 0);
	assert_int_equal(done.frames, 0);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	assert_int_equal(done.frames, 2 * NR_KINDS);
	/* Those of one device in order; the two devices in any. */
	for (unsigned int i = 0, next[2] = { 1, 2 }; i < 2 * NR_KINDS; i++) {
		int heard = lan_hears(w, 2000);

		assert_int_equal(heard, next[heard % 2 == 0]);
		next[heard % 2 == 0] += 2;
	}
	lan_hears_nothing(w);
	assert_int_equal(netbuf_mark(w->nb, 1), -EINVAL);
	assert_int_equal(netbuf_mark(w->nb, 2), 0);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 99 }, 1);
}

static void epochs_in_flight(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	for (uint8_t epoch = 1; epoch <= 3; epoch++) {
		guest_sends(w, 0, epoch % NR_KINDS, epoch);
		assert_int_equal(netbuf_mark(w->nb, epoch), 0);
	}
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 1 }, 1);
	assert_int_equal(netbuf_release(w->nb, 3, 0, &done), 0);
	assert_int_equal(lan_hears(w, 2000) + lan_hears(w, 2000), 2 + 3);
	lan_hears_nothing(w);
}

/* More than there are lanes: late, never early, and all of them in the end. (Two lanes that
 * go at one instant may overtake one another on two processors.) */
static void many_epochs_in_flight(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;
	int nr = 0, sum = 0, heard;

	need_plug();
	for (uint8_t epoch = 1; epoch <= 100; epoch++) {
		guest_sends(w, 0, epoch % NR_KINDS, epoch);
		assert_int_equal(netbuf_mark(w->nb, epoch), 0);
		if (epoch <= 7)
			continue;
		assert_int_equal(netbuf_release(w->nb, epoch - 7u, 0, &done), 0);
		while ((heard = lan_hears(w, 0)) >= 0) {
			assert_true(heard <= epoch - 7);
			sum += heard;
			nr++;
		}
	}
	assert_int_equal(netbuf_release(w->nb, 100, 0, &done), 0);
	assert_int_equal(netbuf_mark(w->nb, 101), 0);
	assert_int_equal(netbuf_release(w->nb, 101, 0, &done), 0);
	while ((heard = lan_hears(w, 200)) >= 0) {
		sum += heard;
		nr++;
	}
	assert_int_equal(nr, 100);
	assert_int_equal(sum, 100 * 101 / 2);
}

static void the_lease(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	guest_sends(w, 0, 0, 1);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	assert_int_equal(netbuf_release(w->nb, 1, clock_now_ns() - 1, &done), -ETIME);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_release(w->nb, 1, clock_now_ns() + NS_PER_S, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 1 }, 1);
}

static void an_end_leaves_nothing(void **state)
{
	struct world *w = *state;

	need_plug();
	assert_int_not_equal(ours_left(), 0);
	for (uint8_t epoch = 1; epoch <= 3; epoch++) {
		guest_sends(w, 0, epoch, epoch);
		assert_int_equal(netbuf_mark(w->nb, epoch), 0);
	}
	guest_sends(w, 0, 1, 4);
	assert_int_equal(netbuf_stop(w->nb), 0);
	lan_hears_only(w, (uint8_t[]){ 1, 2, 3, 4 }, 4);
	assert_int_equal(ours_left(), 0);
	guest_sends(w, 0, 2, 5);
	lan_hears_only(w, (uint8_t[]){ 5 }, 1);
	/* And again from the start. */
	assert_int_equal(netbuf_start(w->nb, LIMIT), 0);
	guest_sends(w, 0, 2, 6);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_stop(w->nb), 0);
	lan_hears_only(w, (uint8_t[]){ 6 }, 1);
}

/* The process dies at its worst: an epoch released, one marked, one running. */
static void a_death_and_the_next(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	guest_sends(w, 0, 0, 1);
	assert_int_equal(netbuf_mark(w->nb, 71), 0);
	assert_int_equal(netbuf_release(w->nb, 71, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 1 }, 1);
	guest_sends(w, 0, 1, 2);
	assert_int_equal(netbuf_mark(w->nb, 72), 0);
	guest_sends(w, 0, 2, 3);
	netbuf_close(w->nb);
	guest_sends(w, 0, 1, 4);
	lan_hears_nothing(w);
	assert_int_equal(plug_open(w), 0);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_start(w->nb, LIMIT), 0);
	guest_sends(w, 0, 3, 5);
	assert_int_equal(netbuf_release(w->nb, 1000, 0, &done), 0);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 0, 3, 6);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 2, 3, 4, 5 }, 4);
	netbuf_close(w->nb);
	/* A process that only ends it lets out what was held. */
	assert_int_equal(plug_open(w), 0);
	assert_int_equal(netbuf_stop(w->nb), 0);
	lan_hears_only(w, (uint8_t[]){ 6 }, 1);
	assert_int_equal(ours_left(), 0);
}

static void a_fenced_vm(void **state)
{
	struct world *w = *state;

	need_plug();
	guest_sends(w, 0, 0, 1);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 1, 1, 2);
	assert_int_equal(netbuf_drop(w->nb), 0);
	guest_sends(w, 0, 2, 3);
	lan_hears_nothing(w);
	netbuf_close(w->nb);
	w->nb = NULL;
	guest_sends(w, 1, 1, 4);
	lan_hears_nothing(w);
}

static void a_flood(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;
	struct netbuf_stats s;
	unsigned int sent = 0;

	need_plug();
	guest_sends(w, 0, 0, 1);
	assert_true(wait_for_notice(w, 1000)); /* the first of the epoch */
	assert_false(wait_for_notice(w, 50));
	for (; sent < LIMIT / 2 / 120; sent++)
		guest_sends(w, 0, sent % 5, 2);
	assert_true(wait_for_notice(w, 1000)); /* the limit is near */
	s = stats_now(w);
	assert_true(s.held_bytes > LIMIT / 3 && s.held_bytes <= LIMIT);
	assert_int_equal(s.dropped_frames, 0);
	for (; sent < 2 * LIMIT / 100; sent++)
		guest_sends(w, 0, sent % 5, 2);
	s = stats_now(w);
	assert_true(s.held_bytes <= LIMIT);
	assert_true(s.dropped_frames > 0);
	assert_int_equal(s.held_frames + s.dropped_frames, sent + 1);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	assert_int_equal(done.frames, s.held_frames);
	guest_sends(w, 0, 0, 3);
	/* A slow machine takes its time to let them go. */
	for (unsigned int i = 0; i < 200 && s.held_frames != 1; i++)
		s = stats_now(w);
	assert_int_equal(s.held_frames, 1);
}

/* A refusal says what is missing and leaves nothing behind. */
static void refusals(void **state)
{
	struct plug_config none = { .device = { "nosuchdevice" },
				    .nr_devices = 1,
				    .look_ns = NS_PER_MS };
	struct world w = { 0 };
	struct reason why = { 0 };

	(void)state;
	if (no_network[0])
		skip();
	assert_int_equal(make_network(&w), 0);
	assert_int_not_equal(netbuf_plug_open(&none, &w.nb, &why), 0);
	assert_non_null(strstr(why.text, no_plug[0] ? "sch_plug" : "no device nosuchdevice"));
	assert_null(w.nb);
	assert_int_equal(ours_left(), 0);
	close(w.lan);
	close(w.guest[0]);
	close(w.guest[1]);
}

static void limits(void **state)
{
	struct plug_config c = { .nr_devices = 0, .look_ns = 1 };

	(void)state;
	/* 1 Gbit/s for two tenths of a second. */
	assert_int_equal(plug_limit_bytes(&c, 100 * NS_PER_MS, 0), 25000000);
	assert_int_equal(plug_limit_bytes(&c, 100 * NS_PER_MS, 1 << 26), 1 << 26);
	assert_int_equal(plug_limit_bytes(&c, 3600 * NS_PER_S, 0), 1 << 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),
		cmocka_unit_test(refusals),
		on_plug(every_frame_waits_for_its_epoch),
		on_plug(epochs_in_flight),
		on_plug(many_epochs_in_flight),
		on_plug(the_lease),
		on_plug(an_end_leaves_nothing),
		on_plug(a_death_and_the_next),
		on_plug(a_fenced_vm),
		on_plug(a_flood),
	};

	int failed;

	find_out();
	failed = test_main(tests);
	if (!failed && no_plug[0])
		test_skip_all("%s", no_plug);
	return failed;
}
