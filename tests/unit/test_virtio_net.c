/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/virtio_net.h: frames both ways, the hold queue in between (P1), packets of
 * many segments, a guest without buffers, and the learned addresses. A datagram socket stands for
 * the tap.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "hypervisor/vmm/net_addresses.h"
#include "hypervisor/vmm/net_offload.h"
#include "hypervisor/vmm/virtio_net.h"
#include "tests/lib/virtio_guest.h"

#define RX     0u
#define TX     1u
#define HEADER 12u

#define HEAD   GUEST_DATA
#define FRAME  (GUEST_DATA + 0x1000)
#define BUFFER (GUEST_DATA + 0x100000)

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x77, 1, 0 };

struct fixture {
	struct vm *vm;
	struct guest_device d;
	int wire; /* the far end */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct timeval patience = { .tv_sec = 20 };
	struct reason why;
	int pair[2], bytes = 4 << 20;

	f->vm = guest_vm_open("/tmp");
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	f->wire = pair[1];
	f->vm->config.nr_nics = 1;
	memcpy(f->vm->config.nic[0].mac, mac, 6);
	assert_int_equal(virtio_net_create_over(f->vm, 0, pair[0], &why), 0);
	f->d = guest_device_last(f->vm);
	guest_start(&f->d);
	guest_setup(&f->d, VIRTIO_F_EVENT_IDX);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_vm_close(f->vm);
	close(f->wire);
	free(f);
	return 0;
}

/* Sends a frame from the guest, header and frame apart; its first byte is the number. */
static void send_frame(struct fixture *f, unsigned int number, uint32_t len)
{
	const struct guest_segment segment[2] = { { HEAD, HEADER, false },
						  { FRAME + number * 2048ull, len, false } };
	uint8_t frame[2048] = { (uint8_t)number };

	memcpy(frame + 6, mac, 6);
	assert_int_equal(guest_write(&f->vm->memory, segment[1].gpa, frame, MIN(len, 2048)), 0);
	guest_post(&f->d, TX, segment, 2);
}

/* The number of the next frame on the wire; -1: none is there. */
static int on_wire(struct fixture *f, bool wait)
{
	uint8_t frame[HEADER + 2048];
	ssize_t n = recv(f->wire, frame, sizeof(frame), wait ? 0 : MSG_DONTWAIT);

	return n < (ssize_t)HEADER ? -1 : frame[HEADER];
}

static void test_config(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(guest_reg(&f->d, VIRTIO_BAR_DEVICE + i, 1), mac[i]);
	assert_int_equal(guest_reg(&f->d, VIRTIO_BAR_DEVICE + 6, 2), 1);
}

static void test_transmit(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 100; i++) {
		send_frame(f, i, 60 + i);
		assert_true(guest_wait(&f->d, TX, NULL) >= 0);
		assert_int_equal(on_wire(f, true), i);
	}
	/* Too short and too long go nowhere, and harm nothing. */
	send_frame(f, 1, 13);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	send_frame(f, 1, NET_FRAME_MAX + 1);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	send_frame(f, 7, 60);
	assert_int_equal(on_wire(f, true), 7);
}

/* P3: what a stopped VM left in its ring stays there when its process ends. */
static void test_ended(void **state)
{
	struct fixture *f = *state;

	send_frame(f, 1, 60);
	assert_int_equal(on_wire(f, true), 1);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	gate_close(&f->vm->gate);
	for (unsigned int i = 0; i < 8; i++)
		send_frame(f, i, 60);
	gate_end(&f->vm->gate);
	/* Joined, it has done all that it ever will. */
	f->d.v->base.ops->stop(&f->d.v->base);
	assert_int_equal(on_wire(f, false), -1);
	assert_int_equal(guest_used(&f->d, TX), 1);
}

static void test_held(void **state)
{
	struct fixture *f = *state;
	uint64_t frames, bytes;
	int event;

	assert_int_equal(net_hold_set(f->vm->net_hold, true, NET_HOLD_MIN_BYTES, &event), 0);
	for (unsigned int i = 0; i < 3; i++)
		send_frame(f, i, 60);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	assert_int_equal(net_hold_mark(f->vm->net_hold, 1), 0);
	send_frame(f, 3, 60);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	/* The guest sees them sent; the world does not see them (P1). */
	assert_int_equal(on_wire(f, false), -1);
	assert_int_equal(net_hold_release(f->vm->net_hold, 1, 0, &frames, &bytes), 0);
	assert_int_equal(frames, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(on_wire(f, false), i);
	assert_int_equal(on_wire(f, false), -1);
	assert_int_equal(net_hold_set(f->vm->net_hold, false, 0, NULL), 0);
	assert_int_equal(on_wire(f, false), 3);
	close(event);
}

/* With the queue full a frame stays in the ring, and goes when there is room. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	uint64_t frames, bytes;
	uint8_t big[60000] = { [HEADER] = 0xee };
	struct net_hold_stats stats;
	int event;

	assert_int_equal(net_hold_set(f->vm->net_hold, true, NET_HOLD_MIN_BYTES, &event), 0);
	while (net_hold_put(f->vm->net_hold, 0, big, sizeof(big)) == 0)
		continue;
	while (net_hold_put(f->vm->net_hold, 0, big, HEADER + 60) == 0)
		continue;
	send_frame(f, 5, 60);
	do {
		poll(NULL, 0, 1);
		net_hold_stats(f->vm->net_hold, &stats);
	} while (!stats.limit_hits);
	assert_int_equal(guest_used(&f->d, TX), 0);
	assert_int_equal(net_hold_mark(f->vm->net_hold, 1), 0);
	assert_int_equal(net_hold_release(f->vm->net_hold, 1, 0, &frames, &bytes), 0);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	assert_int_equal(net_hold_mark(f->vm->net_hold, 2), 0);
	assert_int_equal(net_hold_release(f->vm->net_hold, 2, 0, &frames, &bytes), 0);
	assert_int_equal(frames, 1);
	close(event);
}

static void from_wire(struct fixture *f, unsigned int number, size_t len)
{
	uint8_t frame[HEADER + 2048];

	memset(frame, 0, HEADER);
	memset(frame + HEADER, (int)number, len);
	assert_int_equal(send(f->wire, frame, HEADER + len, 0), HEADER + len);
}

static void post_buffer(struct fixture *f, unsigned int i, uint32_t len)
{
	const struct guest_segment buffer = { BUFFER + i * 4096ull, len, true };

	guest_post(&f->d, RX, &buffer, 1);
}

static void assert_received(struct fixture *f, unsigned int buffer, unsigned int number, size_t len)
{
	static const uint8_t header[HEADER] = { [10] = 1 };
	uint8_t data[HEADER + 2048];
	uint32_t written = 0;

	assert_true(guest_wait(&f->d, RX, &written) >= 0);
	assert_int_equal(written, HEADER + len);
	assert_int_equal(guest_read(&f->vm->memory, BUFFER + buffer * 4096ull, data, written), 0);
	assert_memory_equal(data, header, HEADER);
	assert_int_equal(data[HEADER], number);
	assert_int_equal(data[written - 1], number);
}

static void test_receive(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 40; i++) {
		post_buffer(f, i, 2048);
		from_wire(f, i, 60 + i);
		assert_received(f, i, i, 60 + i);
		assert_true(guest_interrupted(&f->d, 1));
	}
}

/* What comes while the guest has no buffer waits for one; what does not fit is lost alone. */
static void test_receive_late(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 3; i++)
		from_wire(f, i, 60);
	for (unsigned int i = 0; i < 3; i++)
		post_buffer(f, i, 2048);
	for (unsigned int i = 0; i < 3; i++)
		assert_received(f, i, i, 60);
	from_wire(f, 8, 1000);
	from_wire(f, 9, 60);
	post_buffer(f, 4, 100);
	assert_received(f, 4, 9, 60);
}

#define LARGE 9000u /* of segments of 1448 bytes */

static const uint8_t tcp4[HEADER] = { 1, 1, 66, 0, 1448 & 0xff, 1448 >> 8, 34, 0, 16, 0, 0, 0 };

/* A packet of many segments leaves as it is, with the guest's header, once it is released. */
static void test_large_out(void **state)
{
	const struct guest_segment segment[2] = { { HEAD, HEADER, false },
						  { FRAME, LARGE, false } };
	struct fixture *f = *state;
	uint8_t header[HEADER], got[HEADER + LARGE];
	uint64_t frames, bytes;
	int event;

	guest_setup(&f->d, NET_OFFLOAD_CSUM | NET_OFFLOAD_HOST_TSO4);
	assert_int_equal(net_hold_set(f->vm->net_hold, true, NET_HOLD_MIN_BYTES, &event), 0);
	memcpy(header, tcp4, HEADER);
	header[0] |= 2;	   /* has no meaning on the way out */
	header[10] = 0xff; /* nor has this */
	assert_int_equal(guest_write(&f->vm->memory, HEAD, header, HEADER), 0);
	guest_post(&f->d, TX, segment, 2);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	assert_int_equal(on_wire(f, false), -1);
	assert_int_equal(net_hold_mark(f->vm->net_hold, 1), 0);
	assert_int_equal(net_hold_release(f->vm->net_hold, 1, 0, &frames, &bytes), 0);
	assert_int_equal(frames, 1);
	assert_int_equal(bytes, LARGE);
	assert_int_equal(recv(f->wire, got, sizeof(got), 0), HEADER + LARGE);
	assert_memory_equal(got, tcp4, HEADER);
	close(event);
}

/* What was not negotiated goes nowhere, and harms nothing. */
static void test_large_refused(void **state)
{
	const struct guest_segment segment[2] = { { HEAD, HEADER, false },
						  { FRAME, LARGE, false } };
	static const uint8_t zeros[HEADER];
	struct fixture *f = *state;

	assert_int_equal(guest_write(&f->vm->memory, HEAD, tcp4, HEADER), 0);
	guest_post(&f->d, TX, segment, 2);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	assert_int_equal(guest_write(&f->vm->memory, HEAD, zeros, HEADER), 0);
	send_frame(f, 7, 60);
	assert_int_equal(on_wire(f, true), 7);
}

static void large_from_wire(struct fixture *f)
{
	uint8_t packet[HEADER + LARGE];

	memcpy(packet, tcp4, HEADER);
	for (unsigned int i = 0; i < LARGE; i++)
		packet[HEADER + i] = (uint8_t)(i % 251);
	assert_int_equal(send(f->wire, packet, sizeof(packet), 0), sizeof(packet));
}

/* The buffer of which the device wants to be told (2.7.10). */
static uint16_t asked_for(struct fixture *f)
{
	uint16_t index;

	assert_int_equal(guest_read(&f->vm->memory, f->d.queue[RX].used + 4 + 8u * GUEST_QUEUE_SIZE,
				    &index, sizeof(index)),
			 0);
	return index;
}

/* A packet of many segments fills several buffers, all of which the guest sees at one instant;
 * while there are too few it waits for more. */
static void test_large_in(void **state)
{
	struct fixture *f = *state;
	uint8_t got[HEADER + LARGE], header[HEADER];
	uint32_t written = 0, at = 0;

	guest_setup(&f->d, VIRTIO_F_EVENT_IDX | NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_TSO4 |
				   NET_OFFLOAD_MRG_RXBUF);
	for (unsigned int i = 0; i < 4; i++)
		post_buffer(f, i, 2048);
	large_from_wire(f);
	from_wire(f, 9, 60);
	/* It has looked at all four, and asks to be told of a fifth. */
	while (asked_for(f) != 4)
		poll(NULL, 0, 1);
	assert_int_equal(guest_used(&f->d, RX), 0);
	for (unsigned int i = 4; i < 6; i++)
		post_buffer(f, i, 2048);
	for (unsigned int i = 0; i < 5; i++) {
		assert_true(guest_wait(&f->d, RX, &written) >= 0);
		assert_true(guest_used(&f->d, RX) >= 5);
		assert_int_equal(written, i < 4 ? 2048 : HEADER + LARGE - 4 * 2048);
		assert_int_equal(
			guest_read(&f->vm->memory, BUFFER + i * 4096ull, got + at, written), 0);
		at += written;
	}
	memcpy(header, tcp4, HEADER);
	header[10] = 5;
	assert_memory_equal(got, header, HEADER);
	for (unsigned int i = 0; i < LARGE; i++)
		assert_int_equal(got[HEADER + i], i % 251);
	assert_received(f, 5, 9, 60);
}

/* A driver that has not agreed to such packets gets none. */
static void test_large_unasked(void **state)
{
	struct fixture *f = *state;

	guest_setup(&f->d, VIRTIO_F_EVENT_IDX | NET_OFFLOAD_MRG_RXBUF);
	for (unsigned int i = 0; i < 6; i++)
		post_buffer(f, i, 2048);
	large_from_wire(f);
	from_wire(f, 9, 60);
	assert_received(f, 0, 9, 60);
}

/* More than all the buffers that a queue can hold: lost, and the next one is not. */
static void test_large_too_large(void **state)
{
	struct fixture *f = *state;

	guest_setup(&f->d, VIRTIO_F_EVENT_IDX | NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_TSO4 |
				   NET_OFFLOAD_MRG_RXBUF);
	for (unsigned int i = 0; i < GUEST_QUEUE_SIZE; i++)
		post_buffer(f, i, 512);
	large_from_wire(f);
	from_wire(f, 9, 60);
	assert_received(f, 0, 9, 60);
}

static void test_no_header(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment segment = { HEAD, HEADER - 1, false };

	guest_post(&f->d, TX, &segment, 1);
	assert_true(guest_wait_status(&f->d, VIRTIO_STATUS_NEEDS_RESET));
	guest_setup(&f->d, 0);
	send_frame(f, 7, 60);
	assert_int_equal(on_wire(f, true), 7);
}

/* A notification that an eventfd held at the checkpoint is not saved: start() looks anyway. */
static void test_lost_notification(void **state)
{
	struct fixture *f = *state;
	uint64_t count;

	f->d.v->base.ops->stop(&f->d.v->base);
	send_frame(f, 5, 60);
	assert_int_equal(read(f->d.v->kick_fd[TX], &count, sizeof(count)), sizeof(count));
	f->d.v->stopping = false;
	guest_start(&f->d);
	assert_int_equal(on_wire(f, true), 5);
}

static void test_addresses(void **state)
{
	struct fixture *f = *state;
	const struct guest_segment segment[2] = { { HEAD, HEADER, false }, { FRAME, 42, false } };
	uint8_t arp[42] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 8,  6, 0, 1,
			    8,	  0,	6,    4,    0,	  1,	0, 0, 0, 0, 0, 0, 10, 0, 0, 5 };
	static uint8_t saved[8192];
	struct net_addresses seen;
	uint8_t got[6];
	size_t len;

	memcpy(arp + 6, mac, 6);
	memcpy(arp + 22, mac, 6);
	assert_int_equal(guest_write(&f->vm->memory, FRAME, arp, sizeof(arp)), 0);
	guest_post(&f->d, TX, segment, 2);
	assert_true(guest_wait(&f->d, TX, NULL) >= 0);
	assert_int_equal(virtio_net_addresses(f->vm, 0, got, &seen), 0);
	assert_memory_equal(got, mac, 6);
	assert_int_equal(seen.nr, 1);
	assert_memory_equal(seen.at[0].bytes, arp + 28, 4);
	assert_int_equal(virtio_net_addresses(f->vm, 1, got, &seen), -ENODEV);
	len = guest_save(&f->d, saved, sizeof(saved));
	guest_set(&f->d, VIRTIO_COMMON_STATUS, 1, 0);
	assert_true(guest_load(&f->d, saved, len));
	assert_int_equal(guest_status(&f->d), 0xf);
	assert_int_equal(virtio_net_addresses(f->vm, 0, got, &seen), 0);
	assert_int_equal(seen.nr, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_config),	 TEST(test_transmit),	   TEST(test_held),
		TEST(test_ended),	 TEST(test_full),	   TEST(test_receive),
		TEST(test_receive_late), TEST(test_no_header),	   TEST(test_lost_notification),
		TEST(test_addresses),	 TEST(test_large_out),	   TEST(test_large_refused),
		TEST(test_large_in),	 TEST(test_large_unasked), TEST(test_large_too_large),
	};

	return test_main(tests);
}
