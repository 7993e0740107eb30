/* SPDX-License-Identifier: Apache-2.0 */
/* hypervisor/vmm/net_addresses.h: what is learned, what is not, the bound, and the state. */
#include "tests/lib/test.h"

#include <string.h>

#include "base/err.h"
#include "hypervisor/vmm/net_addresses.h"
#include "hypervisor/vmm/state.h"

static const uint8_t mac[6] = { 0x52, 0x54, 0, 0x77, 1, 0 };

struct frame {
	uint8_t bytes[128];
	size_t len;
};

static struct frame ethernet(unsigned int type)
{
	struct frame f = { .len = 14 };

	memset(f.bytes, 0xff, 6);
	memcpy(f.bytes + 6, mac, 6);
	f.bytes[12] = (uint8_t)(type >> 8);
	f.bytes[13] = (uint8_t)type;
	return f;
}

static struct frame arp(uint32_t last, unsigned int first)
{
	static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	struct frame f = ethernet(0x0806);

	memcpy(f.bytes + 14, head, sizeof(head));
	memcpy(f.bytes + 22, mac, 6);
	f.bytes[28] = (uint8_t)first;
	f.bytes[31] = (uint8_t)last;
	f.len = 42;
	return f;
}

/* From fe80::source (0: from "::") a neighbour message about 2001:db8::target. */
static struct frame neighbour(unsigned int type, unsigned int source, unsigned int target)
{
	static const uint8_t global[4] = { 0x20, 0x01, 0x0d, 0xb8 };
	struct frame f = ethernet(0x86dd);
	uint8_t *ip = f.bytes + 14, *nd = ip + 40;

	ip[0] = 0x60;
	ip[6] = 58;
	if (source) {
		ip[8] = 0xfe;
		ip[9] = 0x80;
		ip[23] = (uint8_t)source;
	}
	nd[0] = (uint8_t)type;
	memcpy(nd + 8, global, sizeof(global));
	nd[23] = (uint8_t)target;
	f.len = 14 + 40 + 24;
	return f;
}

static void learn(struct net_addresses *a, struct frame f)
{
	net_addresses_learn(a, mac, f.bytes, f.len);
}

static void test_arp(void **state)
{
	struct net_addresses a = { 0 };
	static const uint8_t expected[4] = { 10, 0, 0, 5 };
	struct frame f;

	(void)state;
	learn(&a, arp(5, 10));
	learn(&a, arp(5, 10));
	assert_int_equal(a.nr, 1);
	assert_memory_equal(a.at[0].bytes, expected, 4);
	learn(&a, arp(5, 0));	/* a probe: it asks, it does not own */
	learn(&a, arp(5, 127)); /* nonsense */
	learn(&a, arp(5, 239));
	f = arp(6, 10);
	f.bytes[22] ^= 2; /* somebody else's, in the ARP message */
	learn(&a, f);
	f = arp(6, 10);
	f.bytes[6] ^= 2; /* and in the Ethernet header */
	learn(&a, f);
	for (size_t len = 0; len < 42; len++) {
		f = arp(6, 10);
		f.len = len;
		learn(&a, f);
	}
	assert_int_equal(a.nr, 1);
}

static void test_neighbours(void **state)
{
	struct net_addresses a = { 0 };

	(void)state;
	learn(&a, neighbour(135, 0, 1)); /* asks whether 2001:db8::1 is free */
	assert_int_equal(a.nr, 0);
	learn(&a, neighbour(135, 9, 1)); /* fe80::9 asks for 2001:db8::1 */
	assert_int_equal(a.nr, 1);
	assert_int_equal(a.at[0].bytes[0], 0xfe);
	assert_int_equal(a.at[0].bytes[15], 9);
	learn(&a, neighbour(136, 9, 2)); /* it has 2001:db8::2 */
	assert_int_equal(a.nr, 2);
	assert_int_equal(a.at[1].bytes[0], 0x20);
	assert_int_equal(a.at[1].bytes[15], 2);
	learn(&a, neighbour(128, 8, 3)); /* an echo request from fe80::8 */
	assert_int_equal(a.nr, 3);
	assert_int_equal(a.at[2].bytes[15], 8);
}

/* The same frame in a VLAN of IEEE 802.1Q, with a priority. */
static struct frame tagged(struct frame f, unsigned int vlan)
{
	memmove(f.bytes + 16, f.bytes + 12, f.len - 12);
	f.bytes[12] = 0x81;
	f.bytes[13] = 0;
	f.bytes[14] = (uint8_t)(0x60 | vlan >> 8);
	f.bytes[15] = (uint8_t)vlan;
	f.len += 4;
	return f;
}

static void test_vlans(void **state)
{
	struct net_addresses a = { 0 };
	struct frame f;

	(void)state;
	learn(&a, arp(5, 10));
	learn(&a, tagged(arp(5, 10), 0xabc)); /* the same in two networks */
	learn(&a, tagged(arp(5, 10), 0xabc));
	learn(&a, tagged(arp(5, 10), 0)); /* a priority alone */
	learn(&a, tagged(neighbour(136, 9, 2), 7));
	learn(&a, tagged(tagged(arp(6, 10), 1), 2));
	assert_int_equal(a.nr, 4);
	assert_int_equal(a.at[0].vlan, 0);
	assert_int_equal(a.at[1].vlan, 0xabc);
	assert_int_equal(a.at[1].family, 4);
	assert_int_equal(a.at[2].vlan, 7);
	assert_int_equal(a.at[2].family, 6);
	for (size_t len = 0; len < 46; len++) {
		f = tagged(arp(8, 10), 3);
		f.len = len;
		learn(&a, f);
	}
	assert_int_equal(a.nr, 4);
}

/* One too many takes the place of the first. */
static void test_bound(void **state)
{
	struct net_addresses a = { 0 };

	(void)state;
	for (unsigned int i = 1; i <= NET_ADDRESSES_MAX + 1; i++)
		learn(&a, arp(i, 10));
	assert_int_equal(a.nr, NET_ADDRESSES_MAX);
	assert_int_equal(a.at[0].bytes[3], NET_ADDRESSES_MAX + 1);
	assert_int_equal(a.at[1].bytes[3], 2);
}

static void test_state(void **state)
{
	struct net_addresses a = { 0 }, b = { 0 };
	uint8_t bytes[1024] = { 0 };
	struct state s = { .at = cursor_over(bytes, sizeof(bytes)) };

	(void)state;
	for (unsigned int i = 1; i <= NET_ADDRESSES_MAX + 3; i++)
		learn(&a, arp(i, 10));
	learn(&a, neighbour(136, 9, 2));
	net_addresses_state(&a, &s);
	assert_true(state_ok(&s));
	s = (struct state){ .at = cursor_over(bytes, sizeof(bytes)), .loading = true };
	net_addresses_state(&b, &s);
	assert_true(state_ok(&s));
	assert_memory_equal(&a, &b, sizeof(a));
	bytes[0] = NET_ADDRESSES_MAX + 1;
	s = (struct state){ .at = cursor_over(bytes, sizeof(bytes)), .loading = true };
	net_addresses_state(&b, &s);
	assert_false(state_ok(&s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arp),   cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_vlans), cmocka_unit_test(test_bound),
		cmocka_unit_test(test_state),
	};

	return test_main(tests);
}
