/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mailbox: letters of dead links are dropped, and a peer that never stops talking holds
 * back itself and not our own threads.
 */
#include <pthread.h>
#include <unistd.h>
#include "tests/lib/test.h"

#include "ha/mailbox.h"

#define FLOOD	1000u
#define STUCK_S 20 /* a thread that waits for ever ends the test here */

static void *flood(void *opaque)
{
	struct letter l = { .kind = LETTER_HEARTBEAT, .session = 1 };

	for (unsigned int i = 0; i < FLOOD; i++)
		mailbox_post(opaque, &l);
	return NULL;
}

/* Ours is posted although nobody reads, and is found behind what came before it. */
static void a_flood_holds_back_itself_alone(void **state)
{
	struct letter l = { .kind = LETTER_COMMITTED, .epoch = 7 };
	unsigned int before = 0;
	struct mailbox *m;
	pthread_t peer;

	(void)state;
	alarm(STUCK_S);
	assert_int_equal(mailbox_open(&m), 0);
	assert_int_equal(pthread_create(&peer, NULL, flood, m), 0);
	for (unsigned int i = 0; i < 64; i++) {
		usleep(1000); /* either order must do; this makes the full box likely */
		mailbox_post(m, &l);
	}
	while (mailbox_take(m, &l) && l.kind == LETTER_HEARTBEAT)
		before++;
	assert_int_equal(l.epoch, 7);
	assert_true(before < MAILBOX_LETTERS);
	mailbox_bury(m, 1);
	pthread_join(peer, NULL);
	mailbox_close(m);
	alarm(0);
}

static void letters_of_a_dead_link_are_dropped(void **state)
{
	struct letter old = { .kind = LETTER_ACK, .session = 1 };
	struct letter ours = { .kind = LETTER_FAILED }, got;
	struct letter new = { .kind = LETTER_ACK, .session = 2, .epoch = 3 };
	struct mailbox *m;

	(void)state;
	assert_int_equal(mailbox_open(&m), 0);
	mailbox_post(m, &old);
	mailbox_post(m, &ours);
	mailbox_post(m, &new);
	mailbox_bury(m, 1);
	mailbox_post(m, &old);
	assert_true(mailbox_take(m, &got));
	assert_int_equal(got.kind, LETTER_FAILED);
	assert_true(mailbox_take(m, &got));
	assert_int_equal(got.epoch, 3);
	assert_false(mailbox_take(m, &got));
	mailbox_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_holds_back_itself_alone),
		cmocka_unit_test(letters_of_a_dead_link_are_dropped),
	};

	return test_main(tests);
}
