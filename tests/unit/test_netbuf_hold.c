/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netbuf/hold.h and the sending half of netbuf/announce.h, against a VM that is played here:
 * which call goes over which connection, with which bytes, and what a bad reply does.
 */
#include "tests/lib/test.h"

#include <string.h>
#include <sys/eventfd.h>

#include "base/err.h"
#include "hypervisor/control/control.h"
#include "netbuf/announce.h"
#include "netbuf/hold.h"
#include "netbuf/netbuf.h"

#define MAX_CALLS 64u

struct control {
	unsigned int number;
};

static struct {
	struct control connection[4];
	unsigned int nr_connections, refuse_connection;
	bool open[4];
	struct seen {
		unsigned int connection;
		enum control_op op;
		uint8_t request[256];
		size_t len;
	} call[MAX_CALLS];
	unsigned int nr_calls;
	int error;
	uint8_t reply[4096];
	size_t reply_len;
	int fd;
} vm;

int control_connect(const char *run_dir, struct control **ret)
{
	unsigned int n = vm.nr_connections;

	assert_string_equal(run_dir, "/run/vm");
	if (n == vm.refuse_connection)
		return -ECONNREFUSED;
	vm.connection[n].number = n;
	vm.open[n] = true;
	vm.nr_connections++;
	*ret = &vm.connection[n];
	return 0;
}

void control_close(struct control *c)
{
	assert_true(vm.open[c->number]);
	vm.open[c->number] = false;
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret_reply)
{
	struct seen *seen = &vm.call[vm.nr_calls++];

	assert_true(vm.nr_calls < MAX_CALLS && call->request_len <= sizeof(seen->request));
	seen->connection = c->number;
	seen->op = call->op;
	seen->len = call->request_len;
	if (call->request_len)
		memcpy(seen->request, call->request, call->request_len);
	if (vm.error)
		return vm.error;
	for (size_t i = 0; i < call->nr_fds; i++)
		call->ret_fds[i] = vm.fd;
	*ret_reply = cursor_over(vm.reply, vm.reply_len);
	return 0;
}

int control_simple(struct control *c, enum control_op op)
{
	struct cursor reply;

	return control_call(c, &(struct control_call){ .op = op }, &reply);
}

static int setup(void **state)
{
	(void)state;
	memset(&vm, 0, sizeof(vm));
	vm.refuse_connection = UINT32_MAX;
	vm.fd = -1;
	return 0;
}

static void reply_u64s(const uint64_t *values, size_t n)
{
	struct cursor c = cursor_over(vm.reply, sizeof(vm.reply));

	for (size_t i = 0; i < n; i++)
		cursor_put_u64(&c, values[i]);
	vm.reply_len = n * 8;
}

static uint64_t requested(const struct seen *seen, size_t offset)
{
	struct cursor c = cursor_over(seen->request + offset, seen->len - offset);

	return cursor_get_u64(&c);
}

static void test_calls(void **state)
{
	const uint64_t released[2] = { 3, 180 };
	struct netbuf_released got = { 0, 0 };
	struct netbuf *nb;

	(void)state;
	assert_int_equal(netbuf_hold_open("/run/vm", &nb), 0);
	assert_int_equal(netbuf_output_fd(nb), -1);
	vm.fd = eventfd(0, 0);
	assert_int_equal(netbuf_start(nb, 1 << 20), 0);
	assert_int_equal(netbuf_output_fd(nb), vm.fd);
	assert_int_equal(vm.call[0].op, CONTROL_NET_HOLD);
	assert_int_equal(vm.call[0].len, 9);
	assert_int_equal(vm.call[0].request[0], 1);
	assert_int_equal(requested(&vm.call[0], 1), 1 << 20);
	assert_int_equal(netbuf_mark(nb, 77), 0);
	assert_int_equal(vm.call[1].op, CONTROL_NET_MARK);
	assert_int_equal(requested(&vm.call[1], 0), 77);
	reply_u64s(released, 2);
	assert_int_equal(netbuf_release(nb, 76, 5000, &got), 0);
	assert_int_equal(vm.call[2].op, CONTROL_NET_RELEASE);
	assert_int_equal(requested(&vm.call[2], 0), 76);
	assert_int_equal(requested(&vm.call[2], 8), 5000);
	assert_int_equal(got.frames, 3);
	assert_int_equal(got.bytes, 180);
	/* A release under way must not delay a mark. */
	assert_int_not_equal(vm.call[1].connection, vm.call[2].connection);
	vm.reply_len = 0;
	assert_int_equal(netbuf_drop(nb), 0);
	assert_int_equal(vm.call[3].op, CONTROL_NET_DROP);
	assert_int_equal(netbuf_stop(nb), 0);
	assert_int_equal(vm.call[4].op, CONTROL_NET_HOLD);
	assert_int_equal(vm.call[4].request[0], 0);
	netbuf_close(nb);
	assert_false(vm.open[0] || vm.open[1]);
	netbuf_close(NULL);
}

static void test_errors(void **state)
{
	struct netbuf_released got = { 1, 2 };
	struct netbuf_stats stats = { .held_frames = 9 };
	const uint64_t one = 7;
	struct netbuf *nb;

	(void)state;
	vm.refuse_connection = 1;
	assert_int_equal(netbuf_hold_open("/run/vm", &nb), -ECONNREFUSED);
	assert_false(vm.open[0]);
	vm.refuse_connection = UINT32_MAX;
	vm.nr_connections = 0;
	assert_int_equal(netbuf_hold_open("/run/vm", &nb), 0);
	vm.error = -ETIME;
	assert_int_equal(netbuf_release(nb, 1, 1, &got), -ETIME);
	assert_int_equal(netbuf_start(nb, 1), -ETIME);
	assert_int_equal(netbuf_output_fd(nb), -1);
	vm.error = 0;
	reply_u64s(&one, 1); /* too short for either */
	assert_int_equal(netbuf_release(nb, 1, 1, &got), -EPROTO);
	assert_int_equal(netbuf_stats(nb, &stats), -EPROTO);
	assert_int_equal(got.frames, 1);
	assert_int_equal(stats.held_frames, 9);
	netbuf_close(nb);
}

static void test_stats(void **state)
{
	struct cursor c = cursor_over(vm.reply, sizeof(vm.reply));
	struct hist times = { 0 };
	struct netbuf_stats stats;
	struct netbuf *nb;

	(void)state;
	hist_add(&times, 1000);
	for (uint64_t v = 1; v <= 4; v++)
		cursor_put_u64(&c, v);
	hist_put(&times, &c);
	vm.reply_len = sizeof(vm.reply) - cursor_left(&c);
	assert_int_equal(netbuf_hold_open("/run/vm", &nb), 0);
	assert_int_equal(netbuf_stats(nb, &stats), 0);
	assert_int_equal(stats.held_frames, 1);
	assert_int_equal(stats.held_bytes, 2);
	assert_int_equal(stats.limit_hits, 3);
	assert_int_equal(stats.released_frames, 4);
	assert_int_equal(stats.hold_ns.count, 1);
	netbuf_close(nb);
}

static void put_address(struct cursor *c, uint16_t vlan, uint8_t family, const uint8_t *address)
{
	cursor_put_u16(c, vlan);
	cursor_put_u8(c, family);
	cursor_put_bytes(c, address, 16);
}

/* For each NIC: ask, then RARP for each VLAN, then per address its frames, each by
 * CONTROL_NET_INJECT and in the address's VLAN. */
static void test_announce(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x77, 1, 0 };
	static const uint8_t v4[16] = { 10, 0, 0, 5 }, v6[16] = { 0xfe, 0x80, [15] = 9 };
	static const struct {
		unsigned int vlan, type;
	} frame[] = { { 0, 0x8035 },	 { 0xabc, 0x8035 }, { 0, 0x0806 },    { 0, 0x0806 },
		      { 0xabc, 0x0806 }, { 0xabc, 0x0806 }, { 0xabc, 0x86dd } };
	const unsigned int each = ARRAY_SIZE(frame) + 1;
	struct cursor c = cursor_over(vm.reply, sizeof(vm.reply));
	struct control control = { 0 };
	unsigned int frames = 0;

	(void)state;
	cursor_put_bytes(&c, mac, 6);
	cursor_put_u16(&c, 3);
	put_address(&c, 0, 4, v4);
	put_address(&c, 0xabc, 4, v4);
	put_address(&c, 0xabc, 6, v6);
	vm.reply_len = sizeof(vm.reply) - cursor_left(&c);
	assert_int_equal(netbuf_announce(&control, 2, &frames), 0);
	assert_int_equal(frames, 2 * ARRAY_SIZE(frame));
	assert_int_equal(vm.nr_calls, 2 * each);
	for (unsigned int i = 0; i < 2 * each; i++) {
		const struct seen *seen = &vm.call[i];
		const uint8_t *type = seen->request + 2 + 12;

		assert_int_equal(seen->request[0], i / each);
		if (i % each == 0) {
			assert_int_equal(seen->op, CONTROL_NET_ADDRESSES);
			continue;
		}
		assert_int_equal(seen->op, CONTROL_NET_INJECT);
		assert_memory_equal(seen->request + 2 + 6, mac, 6);
		if (frame[i % each - 1].vlan) {
			assert_int_equal(type[0] << 8 | type[1], 0x8100);
			assert_int_equal(type[2] << 8 | type[3], frame[i % each - 1].vlan);
			type += 4;
		}
		assert_int_equal(type[0] << 8 | type[1], frame[i % each - 1].type);
	}
	vm.error = -EIO;
	assert_int_equal(netbuf_announce(&control, 1, &frames), -EIO);
	assert_int_equal(frames, 0);
	vm.error = 0;
	vm.reply[6] = 200; /* more addresses than there can be */
	assert_int_equal(netbuf_announce(&control, 1, &frames), -EPROTO);
	vm.reply[6] = 4; /* more than the reply has */
	assert_int_equal(netbuf_announce(&control, 1, &frames), -EPROTO);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_calls),
		TEST(test_errors),
		TEST(test_stats),
		TEST(test_announce),
	};

	return test_main(tests);
}
