/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learning a guest's addresses from its frames. What is learned is only ever announced
 * under the guest's own MAC, so a lying guest gains nothing that it could not send itself.
 * Offsets are those of RFC 826, RFC 8200 and RFC 4861 behind an Ethernet header, which may have
 * one tag of IEEE 802.1Q.
 */
#include "hypervisor/vmm/net_addresses.h"

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/vmm/state.h"

#define ETHERTYPE_ARP  0x0806u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define ETHER_BYTES    14u
#define TAG_BYTES      4u
#define VLAN_MASK      0xfffu
#define ARP_BYTES      28u
#define IPV6_BYTES     40u
#define NEXT_ICMPV6    58u
#define ND_BYTES       24u /* type, code, checksum, flags, target */
#define ND_SOLICIT     135u
#define ND_ADVERTISE   136u

static bool same(const struct net_address *a, const struct net_address *b)
{
	return a->vlan == b->vlan && a->family == b->family &&
	       !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static void add(struct net_addresses *a, const struct net_address *one)
{
	for (uint32_t i = 0; i < a->nr; i++) {
		if (same(&a->at[i], one))
			return;
	}
	a->at[a->next] = *one;
	a->next = (a->next + 1) % NET_ADDRESSES_MAX;
	a->nr = MIN(a->nr + 1, NET_ADDRESSES_MAX);
}

static bool v4_ok(const uint8_t a[4])
{
	return a[0] != 0 && a[0] != 127 && a[0] < 224;
}

static bool v6_ok(const uint8_t a[16])
{
	static const uint8_t none[15];

	return a[0] != 0xff && memcmp(a, none, sizeof(none));
}

static bool link_local(const uint8_t a[16])
{
	return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

static void learn_v4(struct net_addresses *a, uint16_t vlan, const uint8_t *address)
{
	struct net_address one = { .vlan = vlan, .family = 4 };

	memcpy(one.bytes, address, 4);
	if (v4_ok(address))
		add(a, &one);
}

static void learn_v6(struct net_addresses *a, uint16_t vlan, const uint8_t *address)
{
	struct net_address one = { .vlan = vlan, .family = 6 };

	memcpy(one.bytes, address, 16);
	if (v6_ok(address))
		add(a, &one);
}

/* What a frame carries, behind its Ethernet header and its tag. */
struct packet {
	uint16_t vlan;
	unsigned int type;
	const uint8_t *bytes;
	size_t len;
};

/* {hardware 1, protocol 0x0800, sizes 6 and 4, operation, sender MAC and IP, ...} */
static void learn_arp(struct net_addresses *a, const uint8_t mac[6], const struct packet *p)
{
	static const uint8_t ethernet_ipv4[6] = { 0, 1, 8, 0, 6, 4 };

	if (p->len < ARP_BYTES || memcmp(p->bytes, ethernet_ipv4, sizeof(ethernet_ipv4)) ||
	    memcmp(p->bytes + 8, mac, 6))
		return;
	learn_v4(a, p->vlan, p->bytes + 14);
}

static void learn_ipv6(struct net_addresses *a, const struct packet *p)
{
	const uint8_t *ip = p->bytes, *source = ip + 8, *nd = ip + IPV6_BYTES;

	if (p->len < IPV6_BYTES || ip[0] >> 4 != 6)
		return;
	if (link_local(source))
		learn_v6(a, p->vlan, source);
	if (ip[6] != NEXT_ICMPV6 || p->len < IPV6_BYTES + ND_BYTES)
		return;
	/* A solicitation from "::" asks whether an address is free: it is not owned yet. */
	if (nd[0] == ND_SOLICIT)
		learn_v6(a, p->vlan, source);
	else if (nd[0] == ND_ADVERTISE)
		learn_v6(a, p->vlan, nd + 8);
}

static unsigned int get16(const uint8_t *at)
{
	return (unsigned int)at[0] << 8 | at[1];
}

/* A tag of VLAN 0 has a priority alone. Of two tags, one in the other, nothing is learned. */
static struct packet open_frame(const uint8_t *frame, size_t len)
{
	struct packet p = { .type = get16(frame + 12),
			    .bytes = frame + ETHER_BYTES,
			    .len = len - ETHER_BYTES };

	if (p.type == ETHERTYPE_VLAN && p.len >= TAG_BYTES) {
		p.vlan = get16(p.bytes) & VLAN_MASK;
		p.type = get16(p.bytes + 2);
		p.bytes += TAG_BYTES;
		p.len -= TAG_BYTES;
	}
	return p;
}

void net_addresses_learn(struct net_addresses *a, const uint8_t mac[6], const uint8_t *frame,
			 size_t len)
{
	struct packet p;

	if (len < ETHER_BYTES || memcmp(frame + 6, mac, 6))
		return;
	p = open_frame(frame, len);
	if (p.type == ETHERTYPE_ARP)
		learn_arp(a, mac, &p);
	else if (p.type == ETHERTYPE_IPV6)
		learn_ipv6(a, &p);
}

void net_addresses_state(struct net_addresses *a, struct state *s)
{
	state_count(s, &a->nr, NET_ADDRESSES_MAX);
	state_count(s, &a->next, NET_ADDRESSES_MAX - 1);
	for (uint32_t i = 0; i < NET_ADDRESSES_MAX; i++) {
		state_u16(s, &a->at[i].vlan);
		state_u8(s, &a->at[i].family);
		state_bytes(s, a->at[i].bytes, sizeof(a->at[i].bytes));
	}
}
