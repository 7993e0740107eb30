/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's uncommitted epochs: only sealed ones are seen (P2), the bound holds back or
 * refuses, and a takeover drops what is not sealed.
 */
#include <pthread.h>
#include "tests/lib/test.h"

#include "base/err.h"
#include "ha/pending.h"

#define LIMIT (4u << 20)

static int open_pending(struct pending **ret)
{
	const struct pending_config config = { .memory_bytes = LIMIT };

	return pending_open(&config, ret);
}

static void add_pages(struct pending *p, struct pending_epoch *e, unsigned int n)
{
	uint8_t page[4096];

	for (unsigned int i = 0; i < n; i++) {
		struct page_record r = { .gfn = e->epoch * 1000 + i,
					 .kind = PROTO_PAGE_WHOLE,
					 .bytes = page,
					 .len = sizeof(page) };

		memset(page, (int)(e->epoch + i), sizeof(page));
		assert_int_equal(pending_add(p, e, &r), 0);
	}
}

static void arrive(struct pending *p, uint64_t epoch, unsigned int pages)
{
	struct pending_epoch *e;

	assert_int_equal(pending_current(p, epoch, &e), 0);
	add_pages(p, e, pages);
	pending_complete(p, e);
}

static void records_come_back_in_order(void **state)
{
	struct pending *p;
	struct pending_epoch *e;
	struct pending_iter it;
	struct page_record r;
	unsigned int n = 0;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	arrive(p, 7, 300);
	assert_true(pending_seal(p, 7));
	e = pending_take(p);
	assert_int_equal(e->epoch, 7);
	it = pending_records(e);
	while (pending_next(&it, &r)) {
		assert_int_equal(r.gfn, 7000 + n);
		assert_int_equal(r.len, 4096);
		assert_int_equal(r.bytes[4095], (uint8_t)(7 + n));
		n++;
	}
	assert_int_equal(n, 300);
	pending_release(p, e);
	assert_int_equal(pending_bytes(p), 0);
	pending_close(p);
}

static void only_sealed_is_taken(void **state)
{
	struct pending *p;
	struct pending_epoch *e;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	arrive(p, 1, 1);
	arrive(p, 2, 1);
	assert_false(pending_seal(p, 3));
	assert_true(pending_seal(p, 1));
	assert_int_equal(pending_current(p, 3, &e), 0);
	add_pages(p, e, 1);
	pending_drop_unsealed(p); /* the takeover: 2 is whole and 3 partial, neither was acked */
	assert_false(pending_seal(p, 2));
	e = pending_take(p);
	assert_int_equal(e->epoch, 1);
	pending_release(p, e);
	assert_null(pending_take(p));
	pending_close(p);
}

static int fill(struct pending *p)
{
	uint8_t page[4096] = { 0 };
	struct page_record r = { .kind = PROTO_PAGE_WHOLE, .bytes = page, .len = sizeof(page) };
	struct pending_epoch *e;
	int err = pending_current(p, 1, &e);

	for (unsigned int i = 0; i < 10000 && !err; i++)
		err = pending_add(p, e, &r);
	return err;
}

static void an_epoch_that_fills_the_bound_is_refused(void **state)
{
	struct pending *p;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	assert_int_equal(fill(p), -EFBIG);
	assert_true(pending_bytes(p) <= LIMIT);
	pending_close(p);
}

/* What does not fit the memory lies in a file, comes back from it, and leaves none behind. */
static void a_large_epoch_goes_on_in_a_file(void **state)
{
	char dir[] = "/tmp/pollux-test.XXXXXX";
	struct pending_config config = { LIMIT, 4 * LIMIT, dir };
	struct pending *p;
	struct pending_epoch *e;
	struct pending_iter it;
	struct page_record r;
	unsigned int n;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(pending_open(&config, &p), 0);
	for (uint64_t epoch = 1; epoch <= 2; epoch++) {
		arrive(p, epoch, 3000);
		assert_true(pending_bytes(p) > 2 * LIMIT);
		assert_true(pending_seal(p, epoch));
		e = pending_take(p);
		it = pending_records(e);
		for (n = 0; pending_next(&it, &r); n++) {
			assert_int_equal(r.gfn, epoch * 1000 + n);
			assert_int_equal(r.bytes[4095], (uint8_t)(epoch + n));
		}
		assert_int_equal(n, 3000);
		pending_release(p, e);
		assert_int_equal(pending_bytes(p), 0);
	}
	assert_int_equal(rmdir(dir), 0);
	pending_close(p);
}

/* Its bound holds too, and a file that cannot be made is said. */
static void the_file_has_a_bound(void **state)
{
	struct pending_config config = { LIMIT, LIMIT, "/tmp" };
	struct pending *p;

	(void)state;
	assert_int_equal(pending_open(&config, &p), 0);
	assert_int_equal(fill(p), -EFBIG);
	assert_true(pending_bytes(p) <= 2 * LIMIT);
	pending_close(p);
	config.dir = "/nowhere";
	assert_int_equal(pending_open(&config, &p), 0);
	assert_int_equal(fill(p), -ENOENT);
	pending_close(p);
}

static void *commit_one(void *opaque)
{
	struct pending_epoch *e = pending_take(opaque);

	pending_release(opaque, e);
	return NULL;
}

/* The receiver waits at the bound while there is something to commit, then goes on. */
static void a_slow_commit_holds_back_the_receiver(void **state)
{
	struct pending *p;
	struct pending_epoch *e;
	pthread_t commit;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	arrive(p, 1, 900);
	assert_int_equal(pending_current(p, 2, &e), 0);
	assert_true(pending_seal(p, 1));
	assert_int_equal(pthread_create(&commit, NULL, commit_one, p), 0);
	add_pages(p, e, 900);
	pthread_join(commit, NULL);
	assert_true(pending_bytes(p) <= LIMIT);
	pending_close(p);
}

static void *wait_idle(void *opaque)
{
	return (void *)(intptr_t)pending_wait_idle(opaque);
}

/* What the receiver waits for is whole and not sealed, and whoever would seal it wants to
 * join the receiver: letting go must not wait for either. */
static void a_lost_link_lets_the_receiver_go(void **state)
{
	struct pending *p;
	pthread_t receiver;
	void *result;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	assert_int_equal(pending_wait_idle(p), 0);
	arrive(p, 1, 1);
	assert_int_equal(pthread_create(&receiver, NULL, wait_idle, p), 0);
	pending_drop_unsealed(p);
	pthread_join(receiver, &result);
	assert_int_equal((intptr_t)result, -ECANCELED);
	pending_close(p);
}

static void frames_of_two_epochs_do_not_mix(void **state)
{
	struct pending *p;
	struct pending_epoch *e;

	(void)state;
	assert_int_equal(open_pending(&p), 0);
	assert_int_equal(pending_current(p, 1, &e), 0);
	assert_int_equal(pending_current(p, 2, &e), -EPROTO);
	pending_drop_all(p);
	assert_int_equal(pending_current(p, 1, &e), -ECANCELED);
	pending_close(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_back_in_order),
		cmocka_unit_test(only_sealed_is_taken),
		cmocka_unit_test(an_epoch_that_fills_the_bound_is_refused),
		cmocka_unit_test(a_large_epoch_goes_on_in_a_file),
		cmocka_unit_test(the_file_has_a_bound),
		cmocka_unit_test(a_slow_commit_holds_back_the_receiver),
		cmocka_unit_test(a_lost_link_lets_the_receiver_go),
		cmocka_unit_test(frames_of_two_epochs_do_not_mix),
	};

	return test_main(tests);
}
