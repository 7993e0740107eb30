/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link against a peer with a good certificate and bad manners: data beside the bulk
 * connection, and words that its side may not say.
 */
#include "tests/unit/pair.h"

#include <poll.h>

#include "ha/link.h"
#include "ha/mailbox.h"

struct both {
	struct ends bulk, heart;
	struct mailbox *mailbox;
	struct link *link;
	unsigned int sunk;
};

static int sink(void *opaque, const struct message *m, struct refusal *why)
{
	struct both *b = opaque;

	(void)m, (void)why;
	b->sunk++;
	return 0;
}

/* The near ends are the hostile primary's, the far ones belong to the link. */
static void open_both(struct both *b)
{
	struct link_config config = { .session = 1, .generation = 1, .sink = sink, .opaque = b };

	*b = (struct both){ .bulk = good_ends(&bare, &bare), .heart = good_ends(&bare, &bare) };
	transport_start_epochs(b->bulk.near, 1);
	transport_start_epochs(b->bulk.far, 1);
	transport_start_epochs(b->heart.near, 1);
	transport_start_epochs(b->heart.far, 1);
	assert_int_equal(mailbox_open(&b->mailbox), 0);
	config.mailbox = b->mailbox;
	config.bulk = b->bulk.far;
	config.heart = b->heart.far;
	assert_int_equal(link_open(&config, &b->link), 0);
	b->bulk.far = NULL;
	b->heart.far = NULL;
}

static void close_both(struct both *b)
{
	link_close(b->link);
	close_ends(&b->bulk);
	close_ends(&b->heart);
	mailbox_close(b->mailbox);
}

static void await(struct both *b, struct letter *ret)
{
	struct pollfd p = { .fd = mailbox_fd(b->mailbox), .events = POLLIN };

	while (!mailbox_take(b->mailbox, ret))
		assert_int_equal(poll(&p, 1, 10000), 1);
}

static void say(struct transport *t, struct message m)
{
	m.generation = 1;
	assert_int_equal(transport_send(t, &m, SOON, NULL), 0);
	assert_int_equal(transport_flush(t, SOON, NULL), 0);
}

static void data_on_heart_ends_the_link(void **state)
{
	struct message flush = { .type = PROTO_DISK_FLUSH, .epoch = 1 };
	struct letter l;
	struct both b;

	(void)state;
	open_both(&b);
	say(b.heart.near, flush);
	await(&b, &l);
	assert_int_equal(l.kind, LETTER_BROKEN);
	assert_non_null(strstr(l.why.text, "UNEXPECTED"));
	assert_int_equal(b.sunk, 0);
	close_both(&b);
}

static void data_on_bulk_is_taken(void **state)
{
	struct message flush = { .type = PROTO_DISK_FLUSH, .epoch = 1 };
	struct message bye = { .type = PROTO_BYE };
	struct letter l;
	struct both b;

	(void)state;
	open_both(&b);
	say(b.bulk.near, flush);
	say(b.bulk.near, bye);
	await(&b, &l);
	assert_int_equal(l.kind, LETTER_BROKEN);
	assert_int_equal(b.sunk, 1);
	close_both(&b);
}

/* A primary that yields ends both connections at once; which end is seen first is chance. */
static void last_words_come_before_the_end(void **state)
{
	struct message yield = { .type = PROTO_YIELD, .yield = { .code = PROTO_LEAVING } };
	struct letter l;
	struct both b;

	(void)state;
	open_both(&b);
	transport_close(b.bulk.near);
	b.bulk.near = NULL;
	say(b.heart.near, yield);
	transport_close(b.heart.near);
	b.heart.near = NULL;
	await(&b, &l);
	assert_int_equal(l.kind, LETTER_YIELD);
	await(&b, &l);
	assert_int_equal(l.kind, LETTER_BROKEN);
	close_both(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_on_heart_ends_the_link),
		cmocka_unit_test(data_on_bulk_is_taken),
		cmocka_unit_test(last_words_come_before_the_end),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, hosts_open, hosts_close);
}
