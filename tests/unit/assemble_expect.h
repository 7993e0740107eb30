/* SPDX-License-Identifier: Apache-2.0 */
/* assemble_world.h: what is left of the standby once the link is broken. */
#ifndef POLLUX_TESTS_ASSEMBLE_EXPECT_H
#define POLLUX_TESTS_ASSEMBLE_EXPECT_H

#include "tests/unit/assemble_world.h"

#define NEXT (COMMITTED + 1)

/* --- what must not have changed --------------------------------------------------------- */

static inline void expect_guest(const char *name)
{
	for (uint64_t gfn = 0; gfn < GFNS; gfn++)
		if (gfn != HOLE &&
		    memcmp(world.there.memory[gfn], world.was.memory[gfn], PAGE) != 0)
			fail_msg("%s: page %llu has changed", name, (unsigned long long)gfn);
	if (world.standby.state_len != STATE_BYTES ||
	    memcmp(world.standby.state, world.was.state, STATE_BYTES) != 0)
		fail_msg("%s: the state that was set aside has changed", name);
}

static inline void expect_disks(const char *name)
{
	static uint8_t bytes[DISK_BYTES];

	for (unsigned int i = 0; i < NR_DISKS; i++) {
		cleanup_close int fd = open(world.disks[i].path, O_RDONLY);

		assert_int_equal(pread(fd, bytes, DISK_BYTES, 0), DISK_BYTES);
		if (memcmp(bytes, world.was.disk[i], DISK_BYTES) != 0)
			fail_msg("%s: disk %u has changed", name, i);
	}
}

static inline struct recovered recover(void)
{
	const struct recover_config config = { .state_dir = world.dir,
					       .disks = world.disks,
					       .nr_disks = NR_DISKS };
	struct recovered done;

	if (recover_disks(&config, &done, &world.why))
		fail_msg("%s", world.why.text);
	return done;
}

/* As settle() in ha/takeover.c. Then there is nothing that could be applied any more. */
static inline void take_over(const char *name, uint64_t epoch)
{
	struct apply *apply = world.apply;
	uint64_t arrived;

	pending_drop_unsealed(world.pending);
	assert_int_equal(commit_finish(world.commit, &world.why), 0);
	disk_log_drop_partial(world.log);
	world.apply = NULL;
	assert_int_equal(apply_finish(apply, &world.why), 0);
	assert_int_equal(commit_last(world.commit, &arrived), epoch);
	expect_guest(name);
	expect_disks(name);
	assert_int_equal(recover().changes, 0);
	expect_disks(name);
}

/* The process is gone, its files are there: what the log holds is applied anew. */
static inline void lose_power(const char *name, uint64_t epoch)
{
	struct recovered done;

	pending_drop_all(world.pending);
	harden_close(world.harden);
	commit_close(world.commit);
	apply_close(world.apply);
	disk_log_close(world.log);
	world.harden = NULL;
	world.commit = NULL;
	world.apply = NULL;
	world.log = NULL;
	expect_guest(name);
	expect_disks(name);
	done = recover();
	assert_true(done.consistent);
	assert_int_equal(done.epoch, epoch);
	expect_disks(name);
}

/* Whether the reason begins with one of the codes' names. */
static inline bool names(const struct letter *l, const char *codes)
{
	size_t len = strcspn(l->why.text, ":");

	for (const char *at = codes; *at; at += strspn(at, " ")) {
		size_t n = strcspn(at, " ");

		if (n == len && !memcmp(at, l->why.text, n))
			return true;
		at += n;
	}
	return false;
}

/* Both connections end: the one by what was sent, the other with its peer. */
static inline void expect_broken(const char *name, const char *codes)
{
	struct letter l[2];

	world.name = name;
	shutdown(world.wire, SHUT_WR);
	shutdown(world.heart, SHUT_WR);
	for (unsigned int i = 0; i < 2; i++) {
		l[i] = await();
		if (l[i].kind != LETTER_BROKEN)
			fail_msg("%s: letter %d of epoch %llu", name, l[i].kind,
				 (unsigned long long)l[i].epoch);
	}
	if (!(names(&l[0], codes) && names(&l[1], "CLOSED")) &&
	    !(names(&l[1], codes) && names(&l[0], "CLOSED")))
		fail_msg("%s: expected %s, got '%s' and '%s'", name, codes, l[0].why.text,
			 l[1].why.text);
	world_drop_link();
}

static inline void expect_untouched(const char *name, const char *codes, bool power_cut)
{
	expect_broken(name, codes);
	if (power_cut)
		lose_power(name, COMMITTED);
	else
		take_over(name, COMMITTED);
}

/* --- how a test goes -------------------------------------------------------------------- */

/* With and without TLS, before a takeover and before a power cut. */
#define WAYS	     4u
#define WAY_TLS(w)   ((w)&1)
#define WAY_POWER(w) ((w)&2)

static inline void open_next(struct plan *p, bool encrypted)
{
	world_open(encrypted);
	plan_epoch(p, NEXT);
}

static inline int open_all(void **state)
{
	const char *text = getenv("SEED");

	world.random = text ? strtoull(text, NULL, 0) : 1;
	print_message("SEED=%llu\n", (unsigned long long)world.random);
	return hosts_open(state);
}

#endif
