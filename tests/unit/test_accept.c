/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backup's door: its primary is let in at once while strangers stand in it and say nothing,
 * and nobody else is, nor a second time.
 */
#include "tests/unit/pair.h"

#include <poll.h>

#include "ha/accept.h"
#include "ha/mailbox.h"

#define STRANGERS 7u

static struct settings settings;
static struct mailbox *mailbox;
static struct acceptor *acceptor;
static uint16_t port;
static uint64_t chosen; /* features, by the last welcome */

static int open_with(bool zeroed, bool kept)
{
	struct accept_config config = { .settings = &settings,
					.zeroed = zeroed,
					.tls = beta.ctx,
					.generation = 3,
					.memory_bytes = 1 << 26,
					.nr_disks = 1,
					.epoch_limit = 1 << 20 };

	memset(&settings, 0, sizeof(settings));
	settings.memory_kept = kept;
	strcpy(settings.vm, "db");
	strcpy(settings.peer, "alpha");
	listen_any(&settings.listen_fd, &port);
	assert_int_equal(mailbox_open(&mailbox), 0);
	config.mailbox = mailbox;
	return accept_open(&config, &acceptor);
}

static int open_door(void **state)
{
	(void)state;
	return open_with(false, false);
}

static int close_door(void **state)
{
	(void)state;
	accept_close(acceptor);
	mailbox_close(mailbox);
	close(settings.listen_fd);
	return 0;
}

static struct transport *knock(struct host *who)
{
	struct transport_dial d = { .to = { "127.0.0.1", port },
				    .peer_name = "beta",
				    .deadline_ns = SOON,
				    .interrupt_fd = -1 };
	struct transport *t;
	struct refusal why;

	return transport_connect(&t, who->ctx, &d, &why) ? NULL : t;
}

static int greet(struct transport *t, uint8_t kind, uint64_t session)
{
	struct proto_hello hello = { .version_min = PROTO_VERSION,
				     .version_max = PROTO_VERSION,
				     .features = PROTO_FEATURES_KNOWN,
				     .codecs = CODEC_ALL,
				     .kind = kind,
				     .session = session,
				     .memory_bytes = 1 << 26,
				     .generation = 3,
				     .epoch_limit = 1 << 20,
				     .page_bytes = PROTO_PAGE_BYTES,
				     .nr_disks = 1,
				     .vm = "db" };
	struct message answer;
	struct refusal why = { 0 };
	int r = transport_greet(t, &hello, &answer, &why);

	chosen = r ? 0 : answer.welcome.features;
	return r;
}

/* Pages of zeroes are left out of the first copy only where the standby's are zeroes. */
static void test_memory_before_the_copy(void **state)
{
	static const struct {
		bool zeroed, kept;
		uint64_t features;
	} row[] = { { false, false, 0 },
		    { true, false, PROTO_FEATURE_ZEROED },
		    { false, true, PROTO_FEATURE_KEPT },
		    { true, true, PROTO_FEATURE_KEPT } };

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct transport *t;

		assert_int_equal(open_with(row[i].zeroed, row[i].kept), 0);
		t = knock(&alpha);
		assert_non_null(t);
		assert_int_equal(greet(t, PROTO_KIND_BULK, 9), 0);
		assert_int_equal(chosen & (PROTO_FEATURE_ZEROED | PROTO_FEATURE_KEPT),
				 row[i].features);
		transport_close(t);
		close_door(state);
	}
}

static void test_silent_strangers(void **state)
{
	int stranger_fd[STRANGERS];
	uint64_t begun;
	struct transport *bulk, *heart, *third;
	struct pollfd p = { .fd = mailbox_fd(mailbox), .events = POLLIN };
	struct accepted in;
	struct letter l;

	(void)state;
	for (unsigned int i = 0; i < STRANGERS; i++) {
		struct socket_address at = { "127.0.0.1", port };

		assert_int_equal(socket_dial(&at, SOON, &stranger_fd[i], NULL), 0);
	}
	begun = clock_now_ns();
	bulk = knock(&alpha);
	assert_non_null(bulk);
	assert_int_equal(greet(bulk, PROTO_KIND_BULK, 9), 0);
	third = knock(&alpha);
	assert_non_null(third);
	assert_true(greet(third, PROTO_KIND_HEART, 10) < 0); /* another session */
	transport_close(third);
	third = knock(&alpha);
	assert_true(greet(third, PROTO_KIND_BULK, 9) < 0); /* a second one of its kind */
	transport_close(third);
	heart = knock(&alpha);
	assert_non_null(heart);
	assert_int_equal(greet(heart, PROTO_KIND_HEART, 9), 0);
	assert_true(clock_now_ns() - begun < PROTO_CONNECT_NS);
	while (!mailbox_take(mailbox, &l))
		assert_true(poll(&p, 1, 10000) > 0);
	assert_int_equal(l.kind, LETTER_CONNECTED);
	accept_take(acceptor, &in);
	transport_close(in.bulk);
	transport_close(in.heart);
	transport_close(bulk);
	transport_close(heart);
	for (unsigned int i = 0; i < STRANGERS; i++)
		close(stranger_fd[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_before_the_copy),
		cmocka_unit_test_setup_teardown(test_silent_strangers, open_door, close_door),
	};

	if (openssl_missing())
		return 77;
	return cmocka_run_group_tests(tests, hosts_open, hosts_close) ? 1 : 0;
}
