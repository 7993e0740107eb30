/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/epoch.h: when epochs end in both modes, what may be in flight, what a lying peer may not
 * acknowledge, and that the guest is slowed and stopped before anything overflows.
 */
#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/err.h"
#include "ha/epoch.h"

#define MS NS_PER_MS

static const struct epoch_config remus = {
	.mode = EPOCH_REMUS,
	.interval_ns = 100 * MS,
	.min_interval_ns = 10 * MS,
	.max_in_flight = 2,
	.dirty_high = 1000,
	.arena_pages = 4000,
	.queue_high = 50,
	.queue_full = 90,
};

static struct epoch_actions act;

static int feed(struct epoch *epoch, uint64_t ms, struct epoch_event ev)
{
	return epoch_step(epoch, &ev, ms * MS, &act);
}
#define FEED(epoch, ms, what, ...)                                                                 \
	feed((epoch), (ms), (struct epoch_event){ .kind = EPOCH_EV_##what, ##__VA_ARGS__ })

/* Takes and sends the checkpoint that was just asked for. */
static void take(struct epoch *epoch, uint64_t ms, uint64_t number)
{
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
	assert_int_equal(act.epoch, number);
	assert_int_equal(FEED(epoch, ms, CAPTURED, .dirty = 10), 0);
	assert_int_equal(FEED(epoch, ms, SENT, .epoch = number), 0);
}

static void open_running(struct epoch *epoch, const struct epoch_config *config)
{
	assert_int_equal(epoch_open(epoch, config), 0);
	assert_int_equal(FEED(epoch, 0, START), 0);
	assert_int_equal(act.why, EPOCH_WHY_FIRST);
	take(epoch, 1, 1);
	assert_int_equal(FEED(epoch, 2, ACK, .epoch = 1), 0);
	assert_int_equal(act.set, EPOCH_DO_FREE);
	assert_int_equal(act.acked, 1);
	assert_int_equal(act.acked_captured_ns, 1 * MS);
}

static void test_remus_ends_by_the_interval(void **state)
{
	struct epoch epoch;

	(void)state;
	open_running(&epoch, &remus);
	assert_int_equal(act.deadline_ns, 101 * MS);
	FEED(&epoch, 50, OUTPUT);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 100, TICK);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 101, TICK);
	assert_int_equal(act.why, EPOCH_WHY_INTERVAL);
	assert_int_equal(act.deadline_ns, UINT64_MAX);
	FEED(&epoch, 102, TICK); /* asked once */
	assert_int_equal(act.set, 0);
}

static void test_kemari_ends_by_output(void **state)
{
	struct epoch_config kemari = remus;
	struct epoch epoch;

	(void)state;
	kemari.mode = EPOCH_KEMARI;
	open_running(&epoch, &kemari);
	FEED(&epoch, 5, OUTPUT);
	assert_int_equal(act.set, 0);
	assert_int_equal(act.deadline_ns, 11 * MS); /* min_interval after the boundary */
	FEED(&epoch, 11, TICK);
	assert_int_equal(act.why, EPOCH_WHY_OUTPUT);
	take(&epoch, 12, 2);
	assert_int_equal(act.deadline_ns, 112 * MS); /* no output: the interval */
	FEED(&epoch, 40, OUTPUT);
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
	assert_int_equal(act.slot, 1);
}

static void test_early_ends(void **state)
{
	struct epoch epoch;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 5, LOAD, .dirty = 1000, .hold_percent = 60);
	assert_int_equal(act.set, 0); /* not before min_interval */
	FEED(&epoch, 11, LOAD, .dirty = 1000);
	assert_int_equal(act.why, EPOCH_WHY_DIRTY);
	take(&epoch, 12, 2);
	FEED(&epoch, 22, LOAD, .hold_percent = 60);
	assert_int_equal(act.why, EPOCH_WHY_HOLD_QUEUE);

	open_running(&epoch, &remus);
	FEED(&epoch, 5, LOAD, .disk_percent = 95); /* would overflow */
	assert_int_equal(act.why, EPOCH_WHY_DISK_RING);
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
}

static void test_acknowledgements_in_order(void **state)
{
	struct epoch epoch;

	(void)state;
	open_running(&epoch, &remus);
	assert_int_equal(FEED(&epoch, 3, ACK, .epoch = 1), -EPROTO);
	assert_int_equal(FEED(&epoch, 3, ACK, .epoch = 2), -EPROTO);
	assert_int_equal(FEED(&epoch, 3, ACK, .epoch = UINT64_MAX), -EPROTO);
	FEED(&epoch, 101, TICK);
	FEED(&epoch, 102, CAPTURED, .dirty = 1);
	assert_int_equal(FEED(&epoch, 103, ACK, .epoch = 2), -EPROTO); /* not sent */
	assert_int_equal(FEED(&epoch, 103, SENT, .epoch = 2), 0);
	assert_int_equal(epoch_in_flight(&epoch), 1);
	assert_int_equal(FEED(&epoch, 104, ACK, .epoch = 2), 0);
	assert_int_equal(epoch_in_flight(&epoch), 0);
	assert_int_equal(act.acked_captured_ns, 102 * MS);
}

static void test_no_checkpoint_without_a_slot(void **state)
{
	struct epoch epoch;
	uint32_t before = 0;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 101, TICK);
	take(&epoch, 101, 2);
	FEED(&epoch, 201, TICK);
	take(&epoch, 201, 3);
	assert_int_equal(epoch_in_flight(&epoch), 2);
	for (uint64_t ms = 301; ms < 801; ms += 100) {
		FEED(&epoch, ms, TICK);
		assert_false(act.set & (EPOCH_DO_CHECKPOINT | EPOCH_DO_PAUSE));
		assert_true(act.throttle >= before);
		assert_int_equal(act.deadline_ns, (ms + 100) * MS);
		before = act.throttle;
	}
	assert_true(before >= 40);
	FEED(&epoch, 801, LOAD, .hold_percent = 95);
	assert_true(act.set & EPOCH_DO_PAUSE);
	FEED(&epoch, 802, LOAD, .hold_percent = 95);
	assert_false(act.set & EPOCH_DO_PAUSE); /* said once */
	FEED(&epoch, 900, ACK, .epoch = 2);
	assert_int_equal(act.set & ~(uint32_t)EPOCH_DO_THROTTLE,
			 EPOCH_DO_FREE | EPOCH_DO_CHECKPOINT);
	FEED(&epoch, 901, CAPTURED);
	assert_true(act.set & EPOCH_DO_RESUME);
}

static void test_brake_is_taken_off(void **state)
{
	struct epoch epoch;
	uint64_t ms = 1001;

	(void)state;
	open_running(&epoch, &remus);
	epoch.throttle = 80;
	for (uint64_t n = 2; n < 12; n++, ms += 100) {
		FEED(&epoch, ms, TICK);
		take(&epoch, ms, n);
		FEED(&epoch, ms, ACK, .epoch = n);
	}
	assert_int_equal(epoch.throttle, 0);
}

static void test_too_much_is_sent_in_rounds(void **state)
{
	struct epoch epoch;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 20, LOAD, .dirty = 9000);
	assert_int_equal(act.set, EPOCH_DO_ROUND);
	assert_int_equal(act.epoch, 2);
	FEED(&epoch, 30, TICK);
	assert_int_equal(act.set, 0);
	/* Converges: a smaller round, then the checkpoint. */
	FEED(&epoch, 60, ROUND_DONE, .dirty = 5000);
	assert_int_equal(act.set, EPOCH_DO_ROUND);
	FEED(&epoch, 110, ROUND_DONE, .dirty = 100);
	assert_int_equal(act.set, EPOCH_DO_CHECKPOINT);
	/* The estimate was wrong. */
	FEED(&epoch, 111, TOO_LARGE, .dirty = 8000);
	assert_true(act.set & EPOCH_DO_ROUND);
	/* The third round of an epoch is sent while the guest is stopped: it is bounded. */
	assert_true(epoch.paused);
	FEED(&epoch, 200, ROUND_DONE, .dirty = 0);
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
	FEED(&epoch, 201, CAPTURED);
	assert_true(act.set & EPOCH_DO_RESUME);
}

/* After an epoch that did not fit, half of each is sent early, until they are small again. */
static void test_rounds_come_early_after_one_too_large(void **state)
{
	struct epoch epoch;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 101, TICK);
	FEED(&epoch, 102, TOO_LARGE, .dirty = 5000);
	assert_true(act.set & EPOCH_DO_ROUND);
	FEED(&epoch, 110, ROUND_DONE, .dirty = 100);
	take(&epoch, 111, 2);
	FEED(&epoch, 112, ACK, .epoch = 2);

	assert_int_equal(act.deadline_ns, 161 * MS);
	FEED(&epoch, 160, TICK);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 161, TICK);
	assert_int_equal(act.set, EPOCH_DO_ROUND);
	assert_int_equal(act.epoch, 3);
	FEED(&epoch, 190, ROUND_DONE, .dirty = 900);
	assert_int_equal(act.set, 0);
	assert_int_equal(act.deadline_ns, 211 * MS);
	FEED(&epoch, 211, TICK);
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
	assert_int_equal(FEED(&epoch, 212, CAPTURED, .dirty = 2500), 0);
	FEED(&epoch, 212, SENT, .epoch = 3);
	assert_int_equal(act.deadline_ns, 262 * MS);

	FEED(&epoch, 262, TICK);
	assert_int_equal(act.set, EPOCH_DO_ROUND);
	FEED(&epoch, 270, ROUND_DONE, .dirty = 10);
	FEED(&epoch, 312, TICK);
	assert_int_equal(FEED(&epoch, 313, CAPTURED, .dirty = 2000), 0);
	FEED(&epoch, 313, SENT, .epoch = 4);
	FEED(&epoch, 314, ACK, .epoch = 4);

	/* Half of a slot: the whole would have fitted. */
	assert_int_equal(act.deadline_ns, 413 * MS);
	FEED(&epoch, 380, TICK);
	assert_int_equal(act.set, 0);
}

static void test_early_rounds_wait_for_a_slot(void **state)
{
	struct epoch_config alone = remus;
	struct epoch epoch;

	(void)state;
	alone.max_in_flight = 1;
	open_running(&epoch, &alone);
	FEED(&epoch, 20, LOAD, .dirty = 9000);
	FEED(&epoch, 30, ROUND_DONE, .dirty = 0);
	FEED(&epoch, 101, TICK);
	take(&epoch, 102, 2);
	assert_int_equal(act.deadline_ns, 202 * MS);
	FEED(&epoch, 170, TICK);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 180, ACK, .epoch = 2);
	assert_int_equal(act.set, EPOCH_DO_FREE | EPOCH_DO_ROUND);
	/* It was too much all the same: what is left is sent in rounds, as ever. */
	FEED(&epoch, 190, ROUND_DONE, .dirty = 5000);
	assert_int_equal(act.set, EPOCH_DO_ROUND);
	assert_int_equal(epoch.throttle, 0);
	FEED(&epoch, 195, ROUND_DONE, .dirty = 10);
	FEED(&epoch, 202, TICK);
	take(&epoch, 203, 3);
	assert_true(epoch.early);
}

static void test_rounds_that_do_not_converge_end(void **state)
{
	struct epoch epoch;
	uint32_t rounds = 1;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 20, LOAD, .dirty = 9000);
	while (!epoch.paused) {
		FEED(&epoch, 20 + 10 * rounds, ROUND_DONE, .dirty = 8000);
		assert_true(act.set & EPOCH_DO_ROUND);
		assert_true(++rounds <= EPOCH_MAX_ROUNDS + 1);
	}
	assert_int_equal(rounds, EPOCH_MAX_ROUNDS + 1);
	assert_true(epoch.throttle > 0);
	FEED(&epoch, 200, ROUND_DONE, .dirty = 0);
	assert_true(act.set & EPOCH_DO_CHECKPOINT);
	FEED(&epoch, 201, CAPTURED);
	assert_true(act.set & EPOCH_DO_RESUME);
}

static void test_stall_stops_the_guest_and_stop_frees_it(void **state)
{
	struct epoch epoch;
	uint64_t ms;

	(void)state;
	open_running(&epoch, &remus);
	FEED(&epoch, 101, TICK); /* a capture is under way */
	FEED(&epoch, 101, STALL);
	FEED(&epoch, 102, CAPTURED); /* and comes to nothing */
	assert_int_equal(epoch.captured, 1);
	assert_int_equal(FEED(&epoch, 103, ACK, .epoch = 1), -EPROTO);
	for (ms = 103; ms < 5000 && !epoch.paused; ms += 100) {
		FEED(&epoch, ms, TICK);
		assert_false(act.set & EPOCH_DO_CHECKPOINT);
	}
	assert_in_range(ms, 900, 1400);
	FEED(&epoch, ms, STOP);
	assert_int_equal(act.set, EPOCH_DO_RESUME | EPOCH_DO_THROTTLE);
	assert_int_equal(act.throttle, 0);
	assert_int_equal(act.deadline_ns, UINT64_MAX);
	assert_int_equal(FEED(&epoch, ms, ACK, .epoch = 2), -EPROTO);
	FEED(&epoch, ms, START);
	assert_int_equal(act.epoch, 1); /* a new copy, numbered anew */
}

/* An ordinary checkpoint first; the last when nothing is in flight; then nothing more. */
static void open_last(struct epoch *epoch)
{
	open_running(epoch, &remus);
	FEED(epoch, 20, LAST);
	assert_int_equal(act.set, EPOCH_DO_CHECKPOINT);
	assert_int_equal(act.why, EPOCH_WHY_LAST);
	take(epoch, 21, 2);
	assert_int_equal(act.set, 0); /* although a slot is free */
	FEED(epoch, 22, TICK);
	assert_int_equal(act.set, 0);
	FEED(epoch, 23, ACK, .epoch = 2);
	assert_int_equal(act.set, EPOCH_DO_FREE | EPOCH_DO_CHECKPOINT | EPOCH_DO_STAY);
}

static void test_last_epoch(void **state)
{
	struct epoch epoch;

	(void)state;
	open_last(&epoch);
	assert_false(epoch.still);
	take(&epoch, 24, 3);
	assert_true(epoch.still);
	assert_int_equal(act.deadline_ns, UINT64_MAX);
	FEED(&epoch, 500, LOAD, .dirty = 2000);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 501, ACK, .epoch = 3);
	assert_int_equal(act.set, EPOCH_DO_FREE);
	assert_true(epoch.still);
	/* Not the last after all. */
	FEED(&epoch, 502, RUN_ON);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON | EPOCH_DO_CHECKPOINT);
	assert_int_equal(act.why, EPOCH_WHY_INTERVAL);
	assert_int_equal(act.epoch, 4);
	take(&epoch, 503, 4);
	assert_false(epoch.still);
}

/* A guest that stands still for a switchover is let go by whatever ends it. */
static void test_last_epoch_undone(void **state)
{
	struct epoch epoch;

	(void)state;
	open_last(&epoch);
	take(&epoch, 24, 3);
	FEED(&epoch, 25, STALL);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON);

	open_last(&epoch);
	take(&epoch, 24, 3);
	FEED(&epoch, 25, STOP);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON);

	open_last(&epoch); /* undone while its checkpoint is taken */
	FEED(&epoch, 24, RUN_ON);
	assert_int_equal(act.set, 0);
	FEED(&epoch, 25, CAPTURED, .dirty = 1);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON);
	assert_false(epoch.still);

	open_last(&epoch);
	FEED(&epoch, 24, STALL);
	FEED(&epoch, 25, CAPTURED, .dirty = 1);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON);

	open_last(&epoch);
	FEED(&epoch, 24, STOP);
	FEED(&epoch, 25, CAPTURED, .dirty = 1);
	assert_int_equal(act.set, EPOCH_DO_RUN_ON);

	/* It did not fit: a round, while the guest runs, then the last anew. */
	open_last(&epoch);
	FEED(&epoch, 24, TOO_LARGE, .dirty = 5000);
	assert_true(act.set & EPOCH_DO_ROUND);
	FEED(&epoch, 30, ROUND_DONE, .dirty = 10);
	assert_int_equal(act.set, EPOCH_DO_CHECKPOINT | EPOCH_DO_STAY);
}

static void test_open_refuses(void **state)
{
	struct epoch_config c;
	struct epoch epoch;

	(void)state;
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		c = remus;                                                                         \
		change;                                                                            \
		assert_int_equal(epoch_open(&epoch, &c), -EINVAL);                                 \
	} while (0)
	REFUSED(c.interval_ns = 0);
	REFUSED(c.min_interval_ns = c.interval_ns + 1);
	REFUSED(c.max_in_flight = 0);
	REFUSED(c.max_in_flight = EPOCH_MAX_IN_FLIGHT + 1);
	REFUSED(c.arena_pages = 0);
	REFUSED(c.queue_high = 95);
	REFUSED(c.queue_full = 101);
	REFUSED(c.mode = (enum epoch_mode)7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remus_ends_by_the_interval),
		cmocka_unit_test(test_kemari_ends_by_output),
		cmocka_unit_test(test_early_ends),
		cmocka_unit_test(test_acknowledgements_in_order),
		cmocka_unit_test(test_no_checkpoint_without_a_slot),
		cmocka_unit_test(test_brake_is_taken_off),
		cmocka_unit_test(test_too_much_is_sent_in_rounds),
		cmocka_unit_test(test_rounds_come_early_after_one_too_large),
		cmocka_unit_test(test_early_rounds_wait_for_a_slot),
		cmocka_unit_test(test_rounds_that_do_not_converge_end),
		cmocka_unit_test(test_stall_stops_the_guest_and_stop_frees_it),
		cmocka_unit_test(test_last_epoch),
		cmocka_unit_test(test_last_epoch_undone),
		cmocka_unit_test(test_open_refuses),
	};

	return test_main(tests);
}
