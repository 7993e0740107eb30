/* SPDX-License-Identifier: Apache-2.0 */
/* ha/role.h: a switchover, and all that may come before its end. */
#include "tests/unit/role_play.h"

static void ask_switchover(struct role *role)
{
	open_protected(role);
	PLAY(role,
	     { 200, EV(OP_SWITCHOVER, .until_ns = 700 * MS), 0, DO(LAST_EPOCH), ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER },
	     { 210, EV(OP_SWITCHOVER, .until_ns = 900 * MS), -EPERM, 0, ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER },
	     /* The epoch before the last. */
	     { 220, EV(ACK, .epoch = 2, .captured_ns = 200 * MS), 0, DO(RELEASE), ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER },
	     { 230, EV(LAST_EPOCH, .epoch = 3), 0, 0, ROLE_SWITCHING, ROLE_WHY_SWITCHOVER });
}

static void test_switchover(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	ask_switchover(&role);
	role_word(&role, 240 * MS, &word);
	assert_true(word.protected);
	/* What the last epoch sent is released in the step before the record is asked for, and the
	 * backup hears of it once the record is there. */
	PLAY(&role, { 240, EV(ACK, .epoch = 3, .captured_ns = 230 * MS), 0,
		      DO(RELEASE) | DO(PERSIST), ROLE_FENCED, ROLE_WHY_SWITCHOVER });
	assert_int_equal(last.release_epoch, 3);
	assert_int_equal(last.release_before_ns, (80 + 1000 - 200) * MS);
	assert_int_equal(last.record.role, RECORD_STOPPED);
	PLAY(&role, { 241, EV(TICK), 0, 0, ROLE_FENCED, ROLE_WHY_SWITCHOVER },
	     { 242, UNWRITTEN(2, STOPPED), 0, 0, ROLE_FENCED, ROLE_WHY_SWITCHOVER },
	     { 900, EV(TICK), 0, DO(PERSIST), ROLE_FENCED, ROLE_WHY_SWITCHOVER },
	     { 901, WRITTEN(2, STOPPED), 0, DO(SEND_YIELD) | DO(BURY), ROLE_FENCED,
	       ROLE_WHY_SWITCHOVER },
	     { 902, EV(DISCONNECTED), 0, 0, ROLE_FENCED, ROLE_WHY_SWITCHOVER });
	assert_int_equal(last.next_ns, UINT64_MAX);

	open_armed(&role);
	PLAY(&role, { 100, EV(YIELD, .generation = 2, .why = ROLE_WHY_SWITCHOVER), 0, DO(PERSIST),
		      ROLE_TAKING_OVER, ROLE_WHY_SWITCHOVER });
}

/* Whatever comes before the acknowledgement, the guest runs on here. */
static void test_switchover_undone(void **state)
{
	struct role role;

	(void)state;
	ask_switchover(&role);
	PLAY(&role,
	     { 650, EV(ECHO, .generation = 2, .echo_ns = 640 * MS), 0, DO(RELEASE), ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER },
	     { 690, EV(TICK), 0, 0, ROLE_SWITCHING, ROLE_WHY_SWITCHOVER });
	assert_int_equal(last.next_ns, 700 * MS);
	PLAY(&role, { 700, EV(TICK), 0, DO(RUN_ON), ROLE_PROTECTED, ROLE_WHY_NONE },
	     { 701, EV(ACK, .epoch = 3, .captured_ns = 690 * MS), 0, DO(RELEASE), ROLE_PROTECTED,
	       ROLE_WHY_NONE });
	/* Asked again, it is a matter of a new last epoch. */
	PLAY(&role,
	     { 702, EV(OP_SWITCHOVER, .until_ns = 900 * MS), 0, DO(LAST_EPOCH), ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER },
	     { 703, EV(ACK, .epoch = 4, .captured_ns = 702 * MS), 0, DO(RELEASE), ROLE_SWITCHING,
	       ROLE_WHY_SWITCHOVER });

	ask_switchover(&role);
	PLAY(&role,
	     { 240, EV(DISCONNECTED), 0, DO(END_EPOCHS), ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 241, EV(OP_SWITCHOVER), -ENOTCONN, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST });

	ask_switchover(&role);
	PLAY(&role, { 240, EV(LOCAL_FAILURE, .why = ROLE_WHY_LOCAL_ERROR), 0,
		      DO(RUN_ON) | DO(SEND_LEAVE), ROLE_PROTECTED, ROLE_WHY_NONE });

	ask_switchover(&role);
	PLAY(&role,
	     { 240, EV(HANDOVER, .generation = 3, .why = ROLE_WHY_NO_SPACE), 0,
	       DO(PERSIST) | DO(END_EPOCHS) | DO(DISCONNECT), ROLE_SWITCHING, ROLE_WHY_SWITCHOVER },
	     { 241, WRITTEN(3, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_NO_SPACE });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switchover),
		cmocka_unit_test(test_switchover_undone),
	};

	return test_main(tests);
}
