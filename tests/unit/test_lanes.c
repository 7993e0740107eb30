/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netbuf/lanes.h: what may go when, and, over many random histories, that no frame is let go of
 * before its epoch is acknowledged and every one is in the end.
 */
#include "tests/lib/test.h"

#include "base/err.h"
#include "netbuf/lanes.h"

static unsigned int release(struct lanes *l, uint64_t epoch)
{
	unsigned int n = 0, lane;

	while ((lane = lanes_due(l, epoch)) != LANE_NONE) {
		lanes_let_go(l, lane);
		lanes_free(l, lane);
		n++;
	}
	return n;
}

static void one_after_the_other(void **state)
{
	struct lanes l;

	(void)state;
	lanes_begin(&l, 0, 0, 0);
	for (uint64_t epoch = 1; epoch <= 10; epoch++) {
		assert_int_equal(lanes_mark(&l, epoch, lanes_next(&l), epoch), 0);
		assert_int_equal(release(&l, epoch - 1), 0);
		assert_int_equal(release(&l, epoch), 1);
	}
	assert_int_equal(lanes_mark(&l, 10, LANE_NONE, 0), -EINVAL);
	assert_int_equal(lanes_mark(&l, 0, LANE_NONE, 0), -EINVAL);
}

static void several_in_flight(void **state)
{
	struct lanes l;

	(void)state;
	lanes_begin(&l, 2, 0, 0);
	for (uint64_t epoch = 1; epoch < LANES; epoch++)
		assert_int_equal(lanes_mark(&l, epoch, lanes_next(&l), 0), 0);
	/* None is free: the frames of this epoch and the next share a lane. */
	assert_int_equal(lanes_next(&l), LANE_NONE);
	assert_int_equal(lanes_mark(&l, LANES, LANE_NONE, 0), 0);
	assert_int_equal(release(&l, 1), 1);
	assert_int_equal(release(&l, LANES), LANES - 2);
	assert_int_equal(lanes_mark(&l, LANES + 1, lanes_next(&l), 0), 0);
	assert_int_equal(release(&l, LANES), 0);
	assert_int_equal(release(&l, LANES + 1), 1);
}

static void a_lane_that_drains(void **state)
{
	struct lanes l;

	(void)state;
	lanes_begin(&l, 0, 0, 0);
	for (uint64_t epoch = 1; epoch < LANES; epoch++)
		lanes_mark(&l, epoch, lanes_next(&l), 0);
	lanes_let_go(&l, lanes_due(&l, 1));
	/* Not empty yet: not opened again, and in nobody's way. */
	assert_int_equal(lanes_next(&l), LANE_NONE);
	assert_int_equal(lanes_due(&l, 2), 1);
	lanes_free(&l, 0);
	assert_int_equal(lanes_next(&l), 0);
}

static void what_an_earlier_owner_left(void **state)
{
	struct lanes l;

	(void)state;
	lanes_begin(&l, 1, 1u << 0 | 1u << 3, 0);
	assert_int_equal(release(&l, 1000), 0);
	assert_int_equal(lanes_mark(&l, 7, lanes_next(&l), 0), 0);
	assert_int_equal(release(&l, 6), 0);
	assert_int_equal(lanes_due(&l, 7), 3);
	assert_int_equal(release(&l, 7), 3);
}

/* A frame is {epoch in which it was sent, lane}; the oracle knows nothing of lanes' states. */
static void random_history(unsigned int seed)
{
	struct {
		uint64_t epoch;
		unsigned int lane;
	} frame[2000];
	unsigned int nr = 0, out = 0;
	uint64_t epoch = 1, acked = 0;
	struct lanes l;

	srand(seed);
	lanes_begin(&l, (unsigned int)rand() % LANES, 0, 0);
	for (unsigned int step = 0; step < 1500 || (out < nr && step < 3000); step++) {
		unsigned int what = (unsigned int)rand() % 4, lane;

		if (what == 0 && step < 1500) {
			frame[nr].epoch = epoch;
			frame[nr++].lane = l.open;
		} else if (what == 1) {
			lane = rand() % 8 ? lanes_next(&l) : LANE_NONE;
			assert_int_equal(lanes_mark(&l, epoch++, lane, step), 0);
		} else if (what == 2 && acked + 1 < epoch) {
			acked++;
		}
		lane = lanes_due(&l, acked);
		if (lane == LANE_NONE)
			continue;
		lanes_let_go(&l, lane);
		for (unsigned int i = out; i < nr; i++) {
			if (frame[i].lane != lane)
				continue;
			assert_true(frame[i].epoch <= acked);
			assert_int_equal(i, out); /* in order */
			frame[out++].lane = LANE_NONE;
		}
		lanes_free(&l, lane);
	}
	assert_int_equal(out, nr);
}

static void never_early_and_always_at_last(void **state)
{
	(void)state;
	for (unsigned int seed = 1; seed <= 500; seed++)
		random_history(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(several_in_flight),
		cmocka_unit_test(a_lane_that_drains),
		cmocka_unit_test(what_an_earlier_owner_left),
		cmocka_unit_test(never_early_and_always_at_last),
	};

	return test_main(tests);
}
