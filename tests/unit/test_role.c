/* SPDX-License-Identifier: Apache-2.0 */
/* ha/role.h: protection, silence, hand-over, records. The switchover: test_role_switch.c. */
#include "tests/unit/role_play.h"

static void silent_until(struct role *role, uint64_t from_ms, uint64_t to_ms)
{
	for (uint64_t t = from_ms; t < to_ms; t += 100)
		PLAY(role, { t, EV(TICK), 0, ANY, role->state, role->why });
}

static void test_primary_to_protected_and_stall(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	open_protected(&role);
	role_word(&role, 200 * MS, &word);
	assert_true(word.protected);
	assert_string_equal(word.text, "protected");
	/* The word follows the evidence, not the state (P5). */
	role_word(&role, 561 * MS, &word);
	assert_false(word.protected);
	assert_string_equal(word.text, "not protected: stalled: no acknowledgement for 501 ms");
	PLAY(&role, { 561, EV(TICK), 0, 0, ROLE_STALLED, ROLE_WHY_NONE },
	     { 570, EV(ACK, .epoch = 2, .captured_ns = 565 * MS), 0, DO(RELEASE), ROLE_PROTECTED,
	       ROLE_WHY_NONE },
	     { 575, EV(ACK, .epoch = 3, .captured_ns = 570 * MS), 0, DO(RELEASE), ROLE_PROTECTED,
	       ROLE_WHY_NONE },
	     { 580, EV(ACK, .epoch = 3, .captured_ns = 565 * MS), -EPROTO, 0, ROLE_PROTECTED,
	       ROLE_WHY_NONE },
	     { 600, EV(DISCONNECTED), 0, DO(END_EPOCHS), ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 601, EV(ACK, .epoch = 4, .captured_ns = 599 * MS), -ESTALE, 0, ROLE_STALLED,
	       ROLE_WHY_BACKUP_LOST },
	     { 602, EV(CONNECTED), -EPROTO, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 603, EV(OP_UNPROTECT), -ENOTCONN, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST });
	assert_int_equal(role_release_deadline(&role), 0);
	assert_true(role_wants_backup(&role));
}

static void test_stalled_goes_on_only_by_handover(void **state)
{
	struct role role;

	(void)state;
	open_protected(&role);
	PLAY(&role,
	     { 200, EV(DISCONNECTED), 0, DO(END_EPOCHS), ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 300, EV(HANDOVER, .generation = UINT64_C(1) << 40, .why = ROLE_WHY_BACKUP_RETURNED),
	       -EPROTO, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 300, EV(HANDOVER, .generation = 2, .why = ROLE_WHY_BACKUP_RETURNED), -ESTALE, 0,
	       ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 300, EV(HANDOVER, .generation = 3, .why = ROLE_WHY_BACKUP_RETURNED), 0, DO(PERSIST),
	       ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     /* Not on disk yet: held. And a failing disk keeps it so, asking again. */
	     { 301, UNWRITTEN(3, ACTIVE), 0, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 350, EV(TICK), 0, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 401, EV(TICK), 0, DO(PERSIST), ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 402, WRITTEN(2, PRIMARY), -ESTALE, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 403, WRITTEN(3, ACTIVE), 0, DO(RELEASE_ALL) | DO(CONNECT), ROLE_SOLO,
	       ROLE_WHY_BACKUP_RETURNED });
	assert_int_equal(role_release_deadline(&role), UINT64_MAX);
}

static void test_primary_is_fenced(void **state)
{
	static const struct role_event ends[] = {
		EV(REFUSED, .generation = 3),
		EV(ECHO, .generation = 3, .active = true),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct role role;
		struct role_word word;

		open_protected(&role);
		PLAY(&role, { 200, EV(REFUSED, .generation = 2), -ESTALE, 0, ROLE_PROTECTED,
			      ROLE_WHY_NONE });
		PLAY(&role, { 201, ends[i], 0,
			      DO(DROP_AND_STOP) | DO(END_EPOCHS) | DO(DISCONNECT) | DO(PERSIST),
			      ROLE_FENCED, ROLE_WHY_SUPERSEDED });
		assert_int_equal(last.record.role, RECORD_STOPPED);
		assert_int_equal(last.record.generation, 3);
		PLAY(&role,
		     { 202, EV(ACK, .epoch = 2, .captured_ns = 1), -ESTALE, 0, ROLE_FENCED,
		       ROLE_WHY_SUPERSEDED },
		     { 203, EV(HANDOVER, .generation = 9), -ESTALE, 0, ROLE_FENCED,
		       ROLE_WHY_SUPERSEDED },
		     { 204, UNWRITTEN(3, STOPPED), 0, 0, ROLE_FENCED, ROLE_WHY_SUPERSEDED },
		     { 400, EV(TICK), 0, DO(PERSIST), ROLE_FENCED, ROLE_WHY_SUPERSEDED },
		     { 401, WRITTEN(3, STOPPED), 0, 0, ROLE_FENCED, ROLE_WHY_SUPERSEDED },
		     { 402, EV(OP_UNPROTECT_FORCE), -ESTALE, 0, ROLE_FENCED, ROLE_WHY_SUPERSEDED });
		assert_int_equal(last.next_ns, UINT64_MAX);
		role_word(&role, 402 * MS, &word);
		assert_string_equal(word.text,
				    "not protected: stopped: generation 3 runs elsewhere");
	}
}

/* The lease: what is acknowledged late is released only once the backup has answered a
 * heartbeat that is young enough. */
static void test_frozen_primary_has_no_lease(void **state)
{
	struct role role;

	(void)state;
	open_protected(&role);
	assert_int_equal(role_release_deadline(&role), 880 * MS);
	PLAY(&role, { 5000, EV(ACK, .epoch = 2, .captured_ns = 120 * MS), 0, DO(RELEASE),
		      ROLE_PROTECTED, ROLE_WHY_NONE });
	assert_true(last.release_before_ns < 5000 * MS);
	PLAY(&role, { 5001, EV(TICK), 0, 0, ROLE_STALLED, ROLE_WHY_NONE },
	     { 5002, EV(ECHO, .generation = 2, .echo_ns = 9000 * MS), -EPROTO, 0, ROLE_STALLED,
	       ROLE_WHY_NONE },
	     { 5003, EV(ECHO, .generation = 3, .echo_ns = 5001 * MS), -ESTALE, 0, ROLE_STALLED,
	       ROLE_WHY_NONE },
	     { 5004, EV(ECHO, .generation = 2, .echo_ns = 5001 * MS), 0, DO(RELEASE), ROLE_STALLED,
	       ROLE_WHY_NONE });
	assert_int_equal(last.release_before_ns, 5801 * MS);
	assert_int_equal(last.release_epoch, 2);
}

static void test_arming_can_be_undone_until_epochs_begin(void **state)
{
	struct role role;
	const struct record own = { .generation = 5, .role = RECORD_ACTIVE };

	(void)state;
	assert_int_equal(role_open(&role, ROLE_PRIMARY, &config, &own, "b"), 0);
	PLAY(&role, { 0, EV(START), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_NO_BACKUP },
	     { 1, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 2, EV(COPY_DONE), 0, DO(HOLD) | DO(PERSIST), ROLE_ARMING, ROLE_WHY_NONE },
	     { 3, EV(DISCONNECTED), 0, DO(PERSIST) | DO(DISCONNECT), ROLE_ARMING, ROLE_WHY_NONE },
	     { 4, WRITTEN(5, PRIMARY), -ESTALE, 0, ROLE_ARMING, ROLE_WHY_NONE },
	     { 5, WRITTEN(5, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_BACKUP_LOST },
	     { 6, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 7, EV(COPY_DONE), 0, DO(HOLD) | DO(PERSIST), ROLE_ARMING, ROLE_WHY_NONE },
	     /* The record cannot be written: back to solo, whatever the disk says next. */
	     { 8, UNWRITTEN(5, PRIMARY), 0, DO(PERSIST) | DO(DISCONNECT), ROLE_ARMING,
	       ROLE_WHY_NONE },
	     { 9, UNWRITTEN(5, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_RECORD },
	     { 10, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 11, EV(COPY_DONE), 0, DO(HOLD) | DO(PERSIST), ROLE_ARMING, ROLE_WHY_NONE },
	     { 12, WRITTEN(5, PRIMARY), 0, DO(BEGIN_EPOCHS), ROLE_ARMING, ROLE_WHY_NONE },
	     /* From here on the backup may hold a whole epoch. */
	     { 13, EV(DISCONNECTED), 0, DO(END_EPOCHS), ROLE_STALLED, ROLE_WHY_BACKUP_LOST });
}

static void test_primary_starts_from_its_record(void **state)
{
	static const struct {
		enum record_role as;
		int result;
		enum role_state state;
		uint32_t actions;
	} cases[] = {
		{ RECORD_ACTIVE, 0, ROLE_SOLO, DO(RELEASE_ALL) },
		{ RECORD_PRIMARY, 0, ROLE_STALLED, DO(HOLD) },
		{ RECORD_STOPPED, 0, ROLE_FENCED, DO(DROP_AND_STOP) },
		{ RECORD_BACKUP, -EPERM, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct record own = { .generation = 4, .role = cases[i].as, .peer = "b" };
		const struct role_event start = EV(START);
		struct role role;

		assert_int_equal(role_open(&role, ROLE_PRIMARY, &config, &own, "b"),
				 cases[i].result);
		if (cases[i].result)
			continue;
		assert_int_equal(role_step(&role, &start, 0, &last), 0);
		assert_int_equal(role.state, cases[i].state);
		assert_int_equal(last.set & ~(uint32_t)DO(LOUD), cases[i].actions);
	}
}

static void test_open_refuses(void **state)
{
	const struct record primary = { .generation = 4, .role = RECORD_PRIMARY, .peer = "b" };
	const struct record backup = { .generation = 4, .role = RECORD_BACKUP, .peer = "b" };
	struct role_config wrong = config;
	struct role role;

	(void)state;
	/* Another host than the one that holds the right cannot give it back (P3). */
	assert_int_equal(role_open(&role, ROLE_PRIMARY, &config, &primary, "c"), -EPERM);
	assert_int_equal(role_open(&role, ROLE_BACKUP, &config, NULL, "a"), -EINVAL);
	assert_int_equal(role_open(&role, ROLE_BACKUP, &config, &primary, "a"), -EPERM);
	wrong.heartbeat_ns = wrong.timeout_ns / 2;
	assert_int_equal(role_open(&role, ROLE_BACKUP, &wrong, &backup, "a"), -EINVAL);
	wrong = config;
	wrong.margin_ns = wrong.timeout_ns;
	assert_int_equal(role_open(&role, ROLE_BACKUP, &wrong, &backup, "a"), -EINVAL);
}

static void test_commands_on_the_primary(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	open_protected(&role);
	PLAY(&role, { 200, EV(OP_UNPROTECT_FORCE), -EPERM, 0, ROLE_PROTECTED, ROLE_WHY_NONE },
	     { 201, EV(OP_UNPROTECT), 0, DO(SEND_LEAVE), ROLE_PROTECTED, ROLE_WHY_NONE },
	     { 202, EV(HANDOVER, .generation = 3, .why = ROLE_WHY_OPERATOR), 0,
	       DO(PERSIST) | DO(END_EPOCHS) | DO(DISCONNECT), ROLE_PROTECTED, ROLE_WHY_NONE },
	     { 203, WRITTEN(3, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_OPERATOR });
	assert_false(role_wants_backup(&role));
	role_word(&role, 203 * MS, &word);
	assert_string_equal(word.text, "not protected: unprotected by the operator");

	open_protected(&role);
	PLAY(&role,
	     { 200, EV(DISCONNECTED), 0, DO(END_EPOCHS), ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 201, EV(OP_FAILOVER), -ENOTCONN, 0, ROLE_STALLED, ROLE_WHY_BACKUP_LOST },
	     { 202, EV(OP_UNPROTECT_FORCE), 0, DO(PERSIST) | DO(END_EPOCHS) | DO(DISCONNECT),
	       ROLE_STALLED, ROLE_WHY_BACKUP_LOST });
	/* Above what a takeover of the same generation would be. */
	assert_int_equal(last.record.generation, 4);
	PLAY(&role, { 203, WRITTEN(4, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_FORCED });

	open_protected(&role);
	PLAY(&role,
	     { 200, EV(OP_FAILOVER), 0, DO(DROP_AND_STOP) | DO(END_EPOCHS) | DO(PERSIST),
	       ROLE_FENCED, ROLE_WHY_FAILOVER },
	     { 201, WRITTEN(2, STOPPED), 0, DO(SEND_YIELD), ROLE_FENCED, ROLE_WHY_FAILOVER });
}

static void test_silence_lets_the_backup_take_over(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	open_armed(&role);
	PLAY(&role, { 50, EV(DISCONNECTED), 0, 0, ROLE_ARMED, ROLE_WHY_NONE });
	silent_until(&role, 104, 1004);
	PLAY(&role, { 1003, EV(TICK), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 1004, EV(TICK), 0, DO(PERSIST), ROLE_TAKING_OVER, ROLE_WHY_SILENCE });
	assert_int_equal(last.record.generation, 3);
	assert_int_equal(last.record.role, RECORD_ACTIVE);
	PLAY(&role,
	     /* Decided: nothing is acknowledged, answered, or undone; nothing runs yet. */
	     { 1005, EV(HEARTBEAT, .generation = 2), -ESTALE, 0, ROLE_TAKING_OVER,
	       ROLE_WHY_SILENCE },
	     { 1005, EV(EPOCH_WHOLE, .generation = 2, .epoch = 2), -ESTALE, 0, ROLE_TAKING_OVER,
	       ROLE_WHY_SILENCE },
	     { 1005, EV(RETURNED, .generation = 2), -EPERM, 0, ROLE_TAKING_OVER, ROLE_WHY_SILENCE },
	     { 1006, EV(TAKEN_OVER), -EPERM, 0, ROLE_TAKING_OVER, ROLE_WHY_SILENCE },
	     { 1006, UNWRITTEN(3, ACTIVE), 0, 0, ROLE_TAKING_OVER, ROLE_WHY_SILENCE },
	     { 1106, EV(TICK), 0, DO(PERSIST), ROLE_TAKING_OVER, ROLE_WHY_SILENCE },
	     { 1107, WRITTEN(3, ACTIVE), 0, DO(TAKEOVER), ROLE_TAKING_OVER, ROLE_WHY_SILENCE });
	assert_int_equal(last.epoch, 1);
	PLAY(&role, { 1200, EV(TAKEN_OVER), 0, DO(SEND_REFUSE), ROLE_ACTIVE, ROLE_WHY_SILENCE },
	     { 1300, EV(HEARTBEAT, .generation = 2), -ESTALE, DO(SEND_REFUSE), ROLE_ACTIVE,
	       ROLE_WHY_SILENCE },
	     { 1301, EV(RETURNED, .generation = 2), 0, DO(SEND_REFUSE), ROLE_ACTIVE,
	       ROLE_WHY_SILENCE });
	assert_int_equal(last.generation, 3);
	role_word(&role, 1301 * MS, &word);
	assert_string_equal(word.text, "not protected: took over: no backup");
	/* The operator forced the other side: it is higher. */
	PLAY(&role, { 1400, EV(RETURNED, .generation = 4), 0,
		      DO(DROP_AND_STOP) | DO(END_EPOCHS) | DO(DISCONNECT) | DO(PERSIST),
		      ROLE_FENCED, ROLE_WHY_SUPERSEDED });
}

/* A host that was frozen may not take its own absence for the primary's. */
static void test_late_tick_is_not_silence(void **state)
{
	struct role role;

	(void)state;
	open_armed(&role);
	PLAY(&role, { 100, EV(TICK), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 9000, EV(TICK), 0, 0, ROLE_ARMED, ROLE_WHY_NONE });
	silent_until(&role, 9100, 10000);
	PLAY(&role, { 9999, EV(TICK), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 10000, EV(TICK), 0, DO(PERSIST), ROLE_TAKING_OVER, ROLE_WHY_SILENCE });
}

static void test_nothing_whole_nothing_to_take_over(void **state)
{
	const struct record own = { .generation = 2, .role = RECORD_BACKUP };
	struct role role;

	(void)state;
	assert_int_equal(role_open(&role, ROLE_BACKUP, &config, &own, "a"), 0);
	PLAY(&role, { 0, EV(START), 0, 0, ROLE_WAITING, ROLE_WHY_NONE },
	     { 1, EV(CONNECTED), 0, 0, ROLE_FILLING, ROLE_WHY_NONE },
	     { 2, EV(YIELD, .generation = 2), -ESTALE, 0, ROLE_FILLING, ROLE_WHY_NONE },
	     { 3, EV(OP_FAILOVER), -EPERM, 0, ROLE_FILLING, ROLE_WHY_NONE });
	silent_until(&role, 100, 1000);
	PLAY(&role, { 1001, EV(TICK), 0, DO(DROP_STANDBY) | DO(DISCONNECT), ROLE_GONE,
		      ROLE_WHY_BACKUP_LOST });
}

static void test_backup_hands_over(void **state)
{
	static const struct role_event causes[] = {
		EV(LOCAL_FAILURE, .why = ROLE_WHY_NO_SPACE),
		EV(LEAVE, .why = ROLE_WHY_NO_SPACE),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		struct role role;

		open_armed(&role);
		PLAY(&role,
		     { 100, causes[i], 0, DO(DROP_STANDBY) | DO(PERSIST), ROLE_HANDED_OVER,
		       ROLE_WHY_NO_SPACE },
		     { 101, EV(YIELD, .generation = 2), -ESTALE, 0, ROLE_HANDED_OVER,
		       ROLE_WHY_NO_SPACE },
		     /* The disk may be the reason: the standby is gone, so it is said anyway. */
		     { 102, UNWRITTEN(3, BACKUP), 0, DO(SEND_HANDOVER), ROLE_HANDED_OVER,
		       ROLE_WHY_NO_SPACE });
		assert_int_equal(last.generation, 3);
		assert_int_equal(last.why, ROLE_WHY_NO_SPACE);
		silent_until(&role, 200, 1100);
		PLAY(&role, { 1100, EV(TICK), 0, DO(DROP_STANDBY) | DO(DISCONNECT), ROLE_GONE,
			      ROLE_WHY_NO_SPACE });
	}
}

static void test_returning_primary_gets_a_handover(void **state)
{
	struct role role;

	(void)state;
	open_armed(&role);
	/* An old request, from before this connection. */
	PLAY(&role, { 99, EV(RETURNED, .generation = 1), -ESTALE, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 100, EV(RETURNED, .generation = 2), 0, DO(DROP_STANDBY) | DO(PERSIST),
	       ROLE_HANDED_OVER, ROLE_WHY_BACKUP_RETURNED },
	     { 101, EV(CONNECTED), -EPROTO, 0, ROLE_HANDED_OVER, ROLE_WHY_BACKUP_RETURNED },
	     { 102, WRITTEN(3, BACKUP), 0, DO(SEND_HANDOVER), ROLE_HANDED_OVER,
	       ROLE_WHY_BACKUP_RETURNED },
	     { 103, EV(CONNECTED), 0, 0, ROLE_FILLING, ROLE_WHY_NONE },
	     { 104, EV(EPOCH_WHOLE, .generation = 2, .epoch = 1), -ESTALE, 0, ROLE_FILLING,
	       ROLE_WHY_NONE },
	     { 105, EV(EPOCH_WHOLE, .generation = 3, .epoch = 1), 0, DO(ACK), ROLE_ARMED,
	       ROLE_WHY_NONE },
	     { 106, EV(HEARTBEAT, .generation = 9, .active = true), 0,
	       DO(DROP_STANDBY) | DO(DISCONNECT) | DO(PERSIST), ROLE_GONE, ROLE_WHY_SUPERSEDED });
}

/* A takeover that fails before the guest ran gives the right back, but only once the disk no
 * longer says "active". */
/* The guest has not run: the right goes back as soon as somebody is there to take it, and until
 * then the takeover is tried again. */
static void test_failed_takeover(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	open_armed(&role);
	PLAY(&role,
	     { 100, EV(YIELD, .generation = 2), 0, DO(PERSIST), ROLE_TAKING_OVER,
	       ROLE_WHY_FAILOVER },
	     { 101, WRITTEN(3, ACTIVE), 0, DO(TAKEOVER), ROLE_TAKING_OVER, ROLE_WHY_FAILOVER },
	     { 102, EV(LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR), 0, 0, ROLE_TAKING_OVER,
	       ROLE_WHY_FAILOVER });
	role_word(&role, 103 * MS, &word);
	assert_string_equal(word.text, "not protected: the takeover fails and is tried again: "
				       "disk error");
	silent_until(&role, 200, 1100);
	PLAY(&role, { 1102, EV(TICK), 0, DO(TAKEOVER), ROLE_TAKING_OVER, ROLE_WHY_FAILOVER },
	     /* It may succeed at any moment. */
	     { 1103, EV(RETURNED, .generation = 2), -EPERM, 0, ROLE_TAKING_OVER,
	       ROLE_WHY_FAILOVER },
	     { 1104, EV(LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR), 0, 0, ROLE_TAKING_OVER,
	       ROLE_WHY_FAILOVER },
	     { 1105, EV(RETURNED, .generation = 2), 0, DO(DROP_STANDBY) | DO(PERSIST),
	       ROLE_HANDED_OVER, ROLE_WHY_BACKUP_RETURNED },
	     { 1106, UNWRITTEN(4, BACKUP), 0, 0, ROLE_HANDED_OVER, ROLE_WHY_BACKUP_RETURNED },
	     { 1300, EV(TICK), 0, DO(PERSIST), ROLE_HANDED_OVER, ROLE_WHY_BACKUP_RETURNED },
	     { 1301, WRITTEN(4, BACKUP), 0, DO(SEND_HANDOVER), ROLE_HANDED_OVER,
	       ROLE_WHY_BACKUP_RETURNED });
}

/* To a silent primary nothing is handed over: it may be dead, and this all that is left. */
static void test_failure_in_silence(void **state)
{
	struct role role;

	(void)state;
	open_armed(&role);
	silent_until(&role, 100, 600);
	PLAY(&role,
	     { 600, EV(LOCAL_FAILURE, .why = ROLE_WHY_NO_SPACE), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 700, EV(HEARTBEAT, .generation = 2), 0, DO(DROP_STANDBY) | DO(PERSIST),
	       ROLE_HANDED_OVER, ROLE_WHY_NO_SPACE });

	open_armed(&role);
	PLAY(&role, { 100, EV(DISCONNECTED), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 101, EV(LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR), 0, 0, ROLE_ARMED,
	       ROLE_WHY_NONE });
	silent_until(&role, 200, 1000);
	PLAY(&role, { 1010, EV(TICK), 0, DO(PERSIST), ROLE_TAKING_OVER, ROLE_WHY_SILENCE });

	/* Without a standby there is nothing to wait for. */
	open_armed(&role);
	PLAY(&role, { 100, EV(DISCONNECTED), 0, 0, ROLE_ARMED, ROLE_WHY_NONE },
	     { 101, EV(LOCAL_FAILURE, .why = ROLE_WHY_LOCAL_ERROR), 0,
	       DO(DROP_STANDBY) | DO(PERSIST), ROLE_HANDED_OVER, ROLE_WHY_LOCAL_ERROR });
}

/* on_peer_loss = stall: the right comes back, the output does not flow before the next
 * acknowledgement, or an operator. */
static void test_stall_alone(void **state)
{
	struct role role;
	struct role_word word;

	(void)state;
	open_protected(&role);
	role.config.stall_alone = true;
	PLAY(&role,
	     { 200, EV(HANDOVER, .generation = 3, .why = ROLE_WHY_DISK_ERROR), 0,
	       DO(PERSIST) | DO(END_EPOCHS) | DO(DISCONNECT), ROLE_PROTECTED, ROLE_WHY_NONE },
	     { 201, WRITTEN(3, ACTIVE), 0, 0, ROLE_SOLO, ROLE_WHY_DISK_ERROR });
	role_word(&role, 202 * MS, &word);
	assert_string_equal(word.text, "not protected: stalled until it has a backup: disk error");
	/* The backup's answer to "prepare" does not hide why. */
	PLAY(&role,
	     { 210, EV(HANDOVER, .generation = 5, .why = ROLE_WHY_BACKUP_RETURNED), 0, DO(PERSIST),
	       ROLE_SOLO, ROLE_WHY_DISK_ERROR },
	     { 211, WRITTEN(5, ACTIVE), 0, DO(CONNECT), ROLE_SOLO, ROLE_WHY_DISK_ERROR },
	     { 212, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 213, EV(COPY_DONE), 0, DO(HOLD) | DO(PERSIST), ROLE_ARMING, ROLE_WHY_NONE },
	     { 214, UNWRITTEN(5, PRIMARY), 0, DO(DISCONNECT) | DO(PERSIST), ROLE_ARMING,
	       ROLE_WHY_NONE },
	     { 215, WRITTEN(5, ACTIVE), 0, 0, ROLE_SOLO, ROLE_WHY_RECORD },
	     { 216, EV(OP_UNPROTECT), 0, DO(DISCONNECT) | DO(RELEASE_ALL), ROLE_SOLO,
	       ROLE_WHY_OPERATOR });
}

static void test_admit(void **state)
{
	static const struct {
		struct record own;
		uint64_t peer_generation;
		enum role_verdict verdict;
		uint64_t generation;
	} cases[] = {
		{ { 0 }, 4, ROLE_ADMIT, 5 },
		{ { .generation = 4, .role = RECORD_BACKUP, .peer = "a" }, 4, ROLE_ADMIT, 5 },
		{ { .generation = 9, .role = RECORD_BACKUP, .peer = "a" }, 4, ROLE_ADMIT, 10 },
		{ { .generation = 9, .role = RECORD_BACKUP, .peer = "c" }, 4, ROLE_REFUSE, 9 },
		{ { .generation = 5, .role = RECORD_ACTIVE, .peer = "a" }, 4, ROLE_REFUSE, 5 },
		{ { .generation = 4, .role = RECORD_ACTIVE, .peer = "a" }, 4, ROLE_REFUSE, 4 },
		{ { .generation = 4, .role = RECORD_PRIMARY, .peer = "a" }, 4, ROLE_REFUSE, 4 },
		{ { .generation = 4, .role = RECORD_PRIMARY, .peer = "a" }, 5, ROLE_STOP_FIRST, 6 },
		{ { .generation = 4, .role = RECORD_ACTIVE, .peer = "a" }, 6, ROLE_STOP_FIRST, 7 },
		{ { .generation = 5, .role = RECORD_STOPPED, .peer = "a" }, 5, ROLE_ADMIT, 6 },
		{ { .generation = 6, .role = RECORD_STOPPED, .peer = "a" }, 5, ROLE_REFUSE, 6 },
		{ { 0 }, UINT64_MAX - 1, ROLE_REFUSE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct record *own = cases[i].own.generation ? &cases[i].own : NULL;
		struct record rec;

		assert_int_equal(role_admit(own, cases[i].peer_generation, "a", &rec),
				 cases[i].verdict);
		if (cases[i].generation)
			assert_int_equal(rec.generation, cases[i].generation);
		if (cases[i].verdict != ROLE_REFUSE) {
			assert_int_equal(rec.role, RECORD_BACKUP);
			assert_string_equal(rec.peer, "a");
		}
	}
}

static void test_names(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ROLE_NR_STATES; i++)
		assert_non_null(role_state_name((enum role_state)i));
	for (unsigned int i = 0; i < ROLE_NR_WHYS; i++)
		assert_int_equal(role_why_parse(role_why_name((enum role_why)i)), i);
	assert_int_equal(role_why_parse("no such"), ROLE_WHY_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_primary_to_protected_and_stall),
		cmocka_unit_test(test_stalled_goes_on_only_by_handover),
		cmocka_unit_test(test_primary_is_fenced),
		cmocka_unit_test(test_frozen_primary_has_no_lease),
		cmocka_unit_test(test_arming_can_be_undone_until_epochs_begin),
		cmocka_unit_test(test_primary_starts_from_its_record),
		cmocka_unit_test(test_open_refuses),
		cmocka_unit_test(test_commands_on_the_primary),
		cmocka_unit_test(test_silence_lets_the_backup_take_over),
		cmocka_unit_test(test_late_tick_is_not_silence),
		cmocka_unit_test(test_nothing_whole_nothing_to_take_over),
		cmocka_unit_test(test_backup_hands_over),
		cmocka_unit_test(test_returning_primary_gets_a_handover),
		cmocka_unit_test(test_failed_takeover),
		cmocka_unit_test(test_failure_in_silence),
		cmocka_unit_test(test_stall_alone),
		cmocka_unit_test(test_admit),
		cmocka_unit_test(test_names),
	};

	return test_main(tests);
}
