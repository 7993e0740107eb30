/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/role.h by table: each row is an event and what must come of it. Rows tell a story from
 * the start of a host to an end of it; what must never come of an event is asserted by
 * comparing the whole action set.
 */
#ifndef POLLUX_TESTS_ROLE_PLAY_H
#define POLLUX_TESTS_ROLE_PLAY_H

#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/err.h"
#include "ha/role.h"

#define MS  NS_PER_MS
#define ANY UINT32_MAX

static const struct role_config config = {
	.timeout_ns = 1000 * MS,
	.heartbeat_ns = 100 * MS,
	.margin_ns = 200 * MS,
	.evidence_ns = 500 * MS,
};

struct row {
	uint64_t at_ms;
	struct role_event ev;
	int result;
	uint32_t actions; /* besides LOUD and heartbeats; ANY: not looked at */
	enum role_state state;
	enum role_why why;
};

#define EV(kind_, ...)                                                                             \
	{                                                                                          \
		.kind = ROLE_EV_##kind_, ##__VA_ARGS__                                             \
	}
#define DO(name)	 ROLE_DO_##name
#define WRITTEN(gen, as) EV(PERSISTED, .record = { .generation = (gen), .role = RECORD_##as })
#define UNWRITTEN(gen, as)                                                                         \
	EV(PERSIST_FAILED, .record = { .generation = (gen), .role = RECORD_##as })

static struct role_actions last;

static inline void play(struct role *role, const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct row *row = &rows[i];
		int r = role_step(role, &row->ev, row->at_ms * MS, &last);
		uint32_t set = last.set & ~(uint32_t)(ROLE_DO_LOUD | ROLE_DO_SEND_HEARTBEAT);

		if (r != row->result || (row->actions != ANY && set != row->actions) ||
		    role->state != row->state || role->why != row->why)
			fail_msg("row %zu: result %d (want %d), actions %#x (%#x), state %s (%s), "
				 "why %s (%s)",
				 i, r, row->result, set, row->actions, role_state_name(role->state),
				 role_state_name(row->state), role_why_name(role->why),
				 role_why_name(row->why));
	}
}
#define PLAY(role, ...)                                                                            \
	do {                                                                                       \
		const struct row rows_[] = { __VA_ARGS__ };                                        \
		play((role), rows_, ARRAY_SIZE(rows_));                                            \
	} while (0)

/* A primary that has just become protected: generation 2, epoch 1 acknowledged at 100 ms. */
static inline void open_protected(struct role *role)
{
	assert_int_equal(role_open(role, ROLE_PRIMARY, &config, NULL, "b"), 0);
	PLAY(role, { 0, EV(START), 0, DO(PERSIST), ROLE_STARTING, ROLE_WHY_NO_BACKUP },
	     { 0, WRITTEN(1, ACTIVE), 0, DO(RELEASE_ALL), ROLE_SOLO, ROLE_WHY_NO_BACKUP },
	     { 1, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 2, EV(DISCONNECTED), 0, 0, ROLE_SOLO, ROLE_WHY_BACKUP_LOST },
	     { 3, EV(HANDOVER, .generation = 2, .why = ROLE_WHY_BACKUP_RETURNED), 0, DO(PERSIST),
	       ROLE_SOLO, ROLE_WHY_BACKUP_LOST },
	     { 4, EV(CONNECTED), -EPROTO, 0, ROLE_SOLO, ROLE_WHY_BACKUP_LOST },
	     { 5, WRITTEN(2, ACTIVE), 0, DO(RELEASE_ALL) | DO(CONNECT), ROLE_SOLO,
	       ROLE_WHY_BACKUP_LOST }, /* it returned, and that is still why */
	     { 6, EV(CONNECTED), 0, DO(BEGIN_COPY), ROLE_COPYING, ROLE_WHY_NONE },
	     { 7, EV(ACK, .epoch = 1, .captured_ns = 1), -EPROTO, 0, ROLE_COPYING, ROLE_WHY_NONE },
	     { 8, EV(COPY_DONE), 0, DO(HOLD) | DO(PERSIST), ROLE_ARMING, ROLE_WHY_NONE });
	assert_int_equal(last.record.generation, 2);
	assert_int_equal(last.record.role, RECORD_PRIMARY);
	assert_string_equal(last.record.peer, "b");
	assert_int_equal(role_release_deadline(role), 0);
	PLAY(role, { 9, WRITTEN(2, PRIMARY), 0, DO(BEGIN_EPOCHS), ROLE_ARMING, ROLE_WHY_NONE },
	     { 90, EV(ECHO, .generation = 2, .echo_ns = 80 * MS), 0, 0, ROLE_ARMING,
	       ROLE_WHY_NONE },
	     { 100, EV(ACK, .epoch = 1, .captured_ns = 60 * MS), 0, DO(RELEASE), ROLE_PROTECTED,
	       ROLE_WHY_NONE });
	assert_int_equal(last.release_epoch, 1);
	assert_int_equal(last.release_before_ns, (80 + 1000 - 200) * MS);
}

static inline void open_armed(struct role *role)
{
	const struct record own = { .generation = 2, .role = RECORD_BACKUP };

	assert_int_equal(role_open(role, ROLE_BACKUP, &config, &own, "a"), 0);
	PLAY(role, { 0, EV(START), 0, 0, ROLE_WAITING, ROLE_WHY_NONE },
	     { 1, EV(CONNECTED), 0, 0, ROLE_FILLING, ROLE_WHY_NONE },
	     { 2, EV(HEARTBEAT, .generation = 2, .active = true), 0, DO(SEND_ECHO), ROLE_FILLING,
	       ROLE_WHY_NONE },
	     { 3, EV(EPOCH_WHOLE, .generation = 1, .epoch = 1), -ESTALE, 0, ROLE_FILLING,
	       ROLE_WHY_NONE },
	     { 3, EV(EPOCH_WHOLE, .generation = 2, .epoch = 2), -EPROTO, 0, ROLE_FILLING,
	       ROLE_WHY_NONE },
	     { 4, EV(EPOCH_WHOLE, .generation = 2, .epoch = 1), 0, DO(ACK), ROLE_ARMED,
	       ROLE_WHY_NONE });
	assert_int_equal(last.epoch, 1);
}

#endif
