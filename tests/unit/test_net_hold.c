/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/net_hold.h: what may leave and when (P1), in which order, by which
 * deadline (P3), and that nothing is lost at the limit. A datagram socket stands for the tap.
 */
#include "tests/lib/test.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "hypervisor/vmm/net_hold.h"

#define HEADER 12u
#define LIMIT  NET_HOLD_MIN_BYTES

struct fixture {
	struct net_hold *hold;
	int wire[2][2]; /* [nic][ours, the far end] */
	int room[2];
	int event;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(net_hold_open(&f->hold), 0);
	for (unsigned int i = 0; i < 2; i++) {
		int bytes = 4 << 20;

		assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, f->wire[i]), 0);
		setsockopt(f->wire[i][0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
		f->room[i] = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(net_hold_add_nic(f->hold, i, f->wire[i][0], f->room[i], HEADER),
				 0);
	}
	f->event = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	net_hold_close(f->hold);
	for (unsigned int i = 0; i < 2; i++) {
		close(f->wire[i][0]);
		close(f->wire[i][1]);
		close(f->room[i]);
	}
	if (f->event >= 0)
		close(f->event);
	free(f);
	return 0;
}

static void hold_on(struct fixture *f, uint64_t limit)
{
	if (f->event >= 0)
		close(f->event);
	assert_int_equal(net_hold_set(f->hold, true, limit, &f->event), 0);
}

static int put(struct fixture *f, unsigned int nic, unsigned int number, size_t len)
{
	static uint8_t packet[HEADER + NET_FRAME_MAX];

	/* Each has a header of its own, which travels with it. */
	memset(packet, (int)number + 1, HEADER);
	memset(packet + HEADER, (int)number, len);
	return net_hold_put(f->hold, nic, packet, HEADER + len);
}

/* The number in the next frame that came out of this NIC, or -1. */
static int received(struct fixture *f, unsigned int nic, size_t len)
{
	static uint8_t frame[HEADER + NET_FRAME_MAX];
	uint8_t header[HEADER];
	ssize_t n = recv(f->wire[nic][1], frame, sizeof(frame), 0);

	if (n < 0)
		return -1;
	assert_int_equal(n, HEADER + len);
	memset(header, frame[HEADER] + 1, HEADER);
	assert_memory_equal(frame, header, HEADER);
	assert_int_equal(frame[HEADER], frame[HEADER + len - 1]);
	return frame[HEADER];
}

static uint64_t release(struct fixture *f, uint64_t epoch)
{
	uint64_t frames, bytes;

	assert_int_equal(net_hold_release(f->hold, epoch, 0, &frames, &bytes), 0);
	assert_int_equal(bytes, frames * 60);
	return frames;
}

static bool raised(int fd)
{
	eventfd_t count;

	return eventfd_read(fd, &count) == 0;
}

static void test_off(void **state)
{
	struct fixture *f = *state;
	uint8_t packet[HEADER + 60];

	memset(packet, 9, sizeof(packet));
	memset(packet, 10, HEADER);
	assert_int_equal(net_hold_put(f->hold, 0, packet, sizeof(packet)), -ENOTCONN);
	assert_int_equal(net_hold_send(f->hold, 0, packet, sizeof(packet)), 0);
	assert_int_equal(received(f, 0, 60), 9);
	assert_int_equal(net_hold_put(f->hold, 0, packet, HEADER + 13), -EMSGSIZE);
	assert_int_equal(net_hold_put(f->hold, 2, packet, sizeof(packet)), -EMSGSIZE);
	assert_int_equal(net_hold_inject(f->hold, 2, packet, 60), -ENODEV);
	assert_int_equal(net_hold_mark(f->hold, 1), -EINVAL);
}

/* Nothing leaves before its epoch is released, and then in the order of the guest. */
static void test_epochs(void **state)
{
	struct fixture *f = *state;

	hold_on(f, LIMIT);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(put(f, 1, 2, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 10), 0);
	assert_int_equal(put(f, 0, 3, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 11), 0);
	assert_int_equal(net_hold_mark(f->hold, 12), 0);
	assert_int_equal(put(f, 0, 4, 60), 0);
	assert_int_equal(release(f, 9), 0);
	assert_int_equal(received(f, 0, 60), -1);
	assert_int_equal(release(f, 10), 2);
	assert_int_equal(received(f, 0, 60), 1);
	assert_int_equal(received(f, 1, 60), 2);
	assert_int_equal(received(f, 0, 60), -1);
	assert_int_equal(release(f, 10), 0);
	assert_int_equal(release(f, 99), 1); /* 4 is of no epoch yet */
	assert_int_equal(received(f, 0, 60), 3);
	assert_int_equal(received(f, 0, 60), -1);
	assert_int_equal(net_hold_mark(f->hold, 12), -EINVAL);
	assert_int_equal(net_hold_mark(f->hold, 13), 0);
	assert_int_equal(release(f, 13), 1);
	assert_int_equal(received(f, 0, 60), 4);
}

/* A client that comes back with small numbers must not let out what the last one marked. */
static void test_second_client(void **state)
{
	struct fixture *f = *state;

	hold_on(f, LIMIT);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 3), 0);
	assert_true(raised(f->event));
	hold_on(f, 2 * LIMIT);
	assert_true(raised(f->event));
	assert_int_equal(release(f, 5), 0);
	assert_int_equal(received(f, 0, 60), -1);
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(release(f, 1), 1);
	assert_int_equal(received(f, 0, 60), 1);
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;
	uint64_t frames, bytes;

	hold_on(f, LIMIT);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(net_hold_release(f->hold, 1, 1, &frames, &bytes), -ETIME);
	assert_int_equal(frames, 0);
	assert_int_equal(received(f, 0, 60), -1);
	assert_int_equal(
		net_hold_release(f->hold, 1, clock_now_ns() + NS_PER_S * 60, &frames, &bytes), 0);
	assert_int_equal(frames, 1);
	assert_int_equal(received(f, 0, 60), 1);
}

/* At the limit frames are refused, not dropped, and whoever was refused is told of room. */
static void test_limit(void **state)
{
	struct fixture *f = *state;
	struct net_hold_stats stats;
	uint64_t frames, bytes;
	unsigned int held = 0;

	hold_on(f, LIMIT);
	while (put(f, 0, held & 0x7f, 1500) == 0)
		held++;
	assert_in_range(held, LIMIT / 1600, LIMIT / 1500);
	assert_int_equal(put(f, 1, 0, 1500), -ENOBUFS);
	net_hold_stats(f->hold, &stats);
	assert_int_equal(stats.held_frames, held);
	assert_int_equal(stats.limit_hits, 2);
	assert_false(raised(f->room[0]));
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(net_hold_release(f->hold, 1, 0, &frames, &bytes), 0);
	assert_int_equal(frames, held);
	assert_true(raised(f->room[0]));
	assert_true(raised(f->room[1]));
	for (unsigned int i = 0; i < held; i++)
		assert_int_equal(received(f, 0, 1500), i & 0x7f);
	net_hold_stats(f->hold, &stats);
	assert_int_equal(stats.held_frames, 0);
	assert_int_equal(stats.held_bytes, 0);
	assert_int_equal(stats.released_frames, held);
	assert_int_equal(stats.hold_time.count, held);
}

/* Many times around the ring, with sizes that split at its end, and a move to a larger one. */
static void test_around(void **state)
{
	struct fixture *f = *state;
	uint64_t frames, bytes;

	hold_on(f, LIMIT);
	for (unsigned int i = 0; i < 2000; i++) {
		size_t len = 60 + i * 37 % 1440;

		assert_int_equal(put(f, 0, i & 0x7f, len), 0);
		if (i == 1000)
			hold_on(f, 2 * LIMIT);
		assert_int_equal(net_hold_mark(f->hold, i + 1), 0);
		assert_int_equal(net_hold_release(f->hold, i + 1, 0, &frames, &bytes), 0);
		assert_int_equal(received(f, 0, len), i & 0x7f);
	}
}

static void test_more_epochs_than_marks(void **state)
{
	struct fixture *f = *state;

	hold_on(f, 4 * LIMIT);
	for (unsigned int i = 1; i <= 3000; i++) {
		assert_int_equal(put(f, 0, i & 0x7f, 60), 0);
		assert_int_equal(net_hold_mark(f->hold, i), 0);
	}
	/* Late is allowed, early is not. */
	assert_int_equal(release(f, 2999), 1023);
	assert_int_equal(release(f, 3000), 3000 - 1023);
}

static void test_drop(void **state)
{
	struct fixture *f = *state;

	hold_on(f, LIMIT);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(put(f, 0, 2, 60), 0);
	assert_int_equal(net_hold_drop(f->hold), 2);
	assert_int_equal(release(f, 1), 0);
	assert_int_equal(put(f, 0, 3, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 2), 0);
	assert_int_equal(release(f, 2), 1);
	assert_int_equal(received(f, 0, 60), 3);
}

static void test_turned_off(void **state)
{
	struct fixture *f = *state;
	uint8_t packet[HEADER + 60];

	hold_on(f, LIMIT);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(put(f, 0, 2, 60), 0);
	assert_int_equal(net_hold_set(f->hold, false, 0, NULL), 0);
	memset(packet, 3, sizeof(packet));
	memset(packet, 4, HEADER);
	assert_int_equal(net_hold_send(f->hold, 0, packet, sizeof(packet)), 0);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(received(f, 0, 60), i);
}

static void test_events(void **state)
{
	struct fixture *f = *state;

	hold_on(f, LIMIT);
	assert_false(raised(f->event));
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_true(raised(f->event));
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_false(raised(f->event));
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(put(f, 0, 1, 65000), 0);
	assert_false(raised(f->event));
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_int_equal(put(f, 0, 1, 2000), 0);
	assert_true(raised(f->event)); /* three quarters */
	assert_int_equal(net_hold_mark(f->hold, 1), 0);
	assert_int_equal(put(f, 0, 1, 60), 0);
	assert_true(raised(f->event)); /* the first of the next epoch */
}

static void test_bad_limits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(net_hold_set(f->hold, true, LIMIT - 1, NULL), -EINVAL);
	assert_int_equal(net_hold_set(f->hold, true, UINT64_MAX, NULL), -EINVAL);
}

struct sender {
	struct fixture *f;
	unsigned int frames;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned int i = 0; i < s->frames;) {
		struct pollfd room = { .fd = s->f->room[0], .events = POLLIN };

		if (put(s->f, 0, i & 0x7f, 60) == 0) {
			i++;
			continue;
		}
		poll(&room, 1, 10000);
		raised(room.fd);
	}
	return NULL;
}

/* One thread sends against the limit while another marks, releases and reads. */
static void test_threads(void **state)
{
	struct fixture *f = *state;
	struct sender sender = { .f = f, .frames = 20000 };
	unsigned int seen = 0;
	pthread_t thread;

	hold_on(f, LIMIT);
	assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
	for (uint64_t epoch = 1; seen < sender.frames; epoch++) {
		int number;

		assert_int_equal(net_hold_mark(f->hold, epoch), 0);
		release(f, epoch);
		while ((number = received(f, 0, 60)) >= 0)
			assert_int_equal(number, seen++ & 0x7f);
	}
	pthread_join(thread, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_off),
		TEST(test_epochs),
		TEST(test_second_client),
		TEST(test_deadline),
		TEST(test_limit),
		TEST(test_around),
		TEST(test_more_epochs_than_marks),
		TEST(test_drop),
		TEST(test_turned_off),
		TEST(test_events),
		TEST(test_bad_limits),
		TEST(test_threads),
	};

	return test_main(tests);
}
