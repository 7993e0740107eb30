/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/backup_durable.c: what a backup says of its disks. The order of reading matters: what was
 * written is read last, so that it covers the epoch and the records that were read before.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "base/fault.h"
#include "disk-replica/apply.h"
#include "ha/assemble.h"
#include "ha/backup.h"
#include "ha/commit.h"
#include "ha/durable.h"
#include "ha/link.h"

static struct {
	char read[16]; /* what was asked for, a letter each */
	struct durable_mark news, done;
	bool progress;
	int error;
	struct message sent;
	unsigned int nr_sent, nr_events, nr_failures;
} seen;

static struct backup b;
static struct engine e = { .side = &b };

static void note(char c)
{
	seen.read[strlen(seen.read)] = c;
}

uint64_t commit_last(struct commit *c, uint64_t *ret_arrived_ns)
{
	(void)c;
	*ret_arrived_ns = 1;
	note('e');
	return 41;
}

uint64_t assemble_disk_ops(const struct assembler *a)
{
	(void)a;
	note('o');
	return 42;
}

uint64_t apply_bytes(const struct apply *a)
{
	(void)a;
	note('b');
	return 43;
}

void durable_news(struct durable *d, const struct durable_mark *mark)
{
	(void)d;
	seen.news = *mark;
	note('n');
}

bool durable_progress(struct durable *d, struct durable_mark *ret)
{
	(void)d;
	*ret = seen.done;
	return seen.progress;
}

int durable_error(struct durable *d)
{
	(void)d;
	return seen.error;
}

int link_send(struct link *l, struct message *m)
{
	(void)l;
	seen.sent = *m;
	seen.nr_sent++;
	return 0;
}

void engine_event(struct engine *engine, const char *kind, const char *fmt, ...)
{
	(void)engine, (void)kind, (void)fmt;
	seen.nr_events++;
}

int engine_feed(struct engine *engine, const struct role_event *ev)
{
	(void)engine;
	assert_int_equal(ev->kind, ROLE_EV_LOCAL_FAILURE);
	assert_int_equal(ev->why, ROLE_WHY_DISK_ERROR);
	seen.nr_failures++;
	return 0;
}

static int setup(void **state)
{
	static char something;

	(void)state;
	fault_armed = false;
	memset(&seen, 0, sizeof(seen));
	b = (struct backup){ .durable = (void *)&something,
			     .assembler = (void *)&something,
			     .apply = (void *)&something,
			     .link = (void *)&something,
			     .tells_durable = true };
	e.role.own.generation = 9;
	return 0;
}

static void arm(const char *list)
{
	setenv("POLLUX_FAULT", list, 1);
	assert_int_equal(fault_open(), 0);
}

static void test_told(void **state)
{
	(void)state;
	backup_say_durable(&e);
	assert_string_equal(seen.read, "eobn");
	assert_int_equal(seen.news.epoch, 41);
	assert_int_equal(seen.news.ops, 42);
	assert_int_equal(seen.news.bytes, 43);
	assert_int_equal(seen.nr_sent, 0);
	seen.progress = true;
	seen.done = (struct durable_mark){ 30, 31, 32 };
	backup_say_durable(&e);
	assert_int_equal(seen.nr_sent, 1);
	assert_int_equal(seen.sent.type, PROTO_DURABLE);
	assert_int_equal(seen.sent.generation, 9);
	assert_int_equal(seen.sent.durable.epoch, 30);
	assert_int_equal(seen.sent.durable.disk_ops, 31);
	assert_int_equal(seen.nr_failures, 0);
}

static void test_nobody_asks(void **state)
{
	(void)state;
	seen.progress = true;
	b.tells_durable = false;
	backup_say_durable(&e);
	b.tells_durable = true;
	b.assembler = NULL;
	backup_say_durable(&e);
	b.assembler = (void *)&seen;
	b.apply = NULL;
	backup_say_durable(&e);
	b.apply = (void *)&seen;
	b.durable = NULL;
	backup_say_durable(&e);
	assert_string_equal(seen.read, "");
	b.durable = (void *)&seen;
	b.link = NULL;
	backup_say_durable(&e);
	assert_int_equal(seen.nr_sent, 0);
}

/* Nothing is said of disks that cannot be synced; they are of no use, says the role. */
static void test_error(void **state)
{
	(void)state;
	seen.progress = true;
	seen.error = -EIO;
	backup_say_durable(&e);
	assert_int_equal(seen.nr_sent, 0);
	assert_int_equal(seen.nr_failures, 1);
	assert_int_equal(seen.nr_events, 1);
}

static void test_lost_word(void **state)
{
	(void)state;
	arm("durable.report");
	seen.progress = true;
	backup_say_durable(&e);
	assert_int_equal(seen.nr_sent, 0);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_told),
		TEST(test_nobody_asks),
		TEST(test_error),
		TEST(test_lost_word),
	};

	return test_main(tests);
}
