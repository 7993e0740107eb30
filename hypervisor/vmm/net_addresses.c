/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learning a guest's addresses from its frames. What is learned is only ever announced
 * under the guest's own MAC, so a lying guest gains nothing that it could not send itself.
 * Offsets are those of RFC 826, RFC 8200 and RFC 4861 behind a plain Ethernet header.
 */
#include "hypervisor/vmm/net_addresses.h"

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/vmm/state.h"

#define ETHERTYPE_ARP  0x0806u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHER_BYTES    14u
#define ARP_BYTES      28u
#define IPV6_BYTES     40u
#define NEXT_ICMPV6    58u
#define ND_BYTES       24u /* type, code, checksum, flags, target */
#define ND_SOLICIT     135u
#define ND_ADVERTISE   136u

/* Adds `address` of `len` bytes to a table of NET_ADDRESSES_EACH unless it is there. */
static void add(uint8_t *table, uint32_t *nr, uint32_t *next, const uint8_t *address, size_t len)
{
	for (uint32_t i = 0; i < *nr; i++) {
		if (!memcmp(table + i * len, address, len))
			return;
	}
	memcpy(table + *next * len, address, len);
	*next = (*next + 1) % NET_ADDRESSES_EACH;
	*nr = MIN(*nr + 1, NET_ADDRESSES_EACH);
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

static void learn_v6(struct net_addresses *a, const uint8_t *address)
{
	if (v6_ok(address))
		add(a->v6[0], &a->nr_v6, &a->next_v6, address, 16);
}

/* {hardware 1, protocol 0x0800, sizes 6 and 4, operation, sender MAC and IP, ...} */
static void learn_arp(struct net_addresses *a, const uint8_t mac[6], const uint8_t *arp, size_t len)
{
	static const uint8_t ethernet_ipv4[6] = { 0, 1, 8, 0, 6, 4 };

	if (len < ARP_BYTES || memcmp(arp, ethernet_ipv4, sizeof(ethernet_ipv4)) ||
	    memcmp(arp + 8, mac, 6))
		return;
	if (v4_ok(arp + 14))
		add(a->v4[0], &a->nr_v4, &a->next_v4, arp + 14, 4);
}

static void learn_ipv6(struct net_addresses *a, const uint8_t *ip, size_t len)
{
	const uint8_t *source = ip + 8, *nd = ip + IPV6_BYTES;

	if (len < IPV6_BYTES || ip[0] >> 4 != 6)
		return;
	if (link_local(source))
		learn_v6(a, source);
	if (ip[6] != NEXT_ICMPV6 || len < IPV6_BYTES + ND_BYTES)
		return;
	/* A solicitation from "::" asks whether an address is free: it is not owned yet. */
	if (nd[0] == ND_SOLICIT)
		learn_v6(a, source);
	else if (nd[0] == ND_ADVERTISE)
		learn_v6(a, nd + 8);
}

void net_addresses_learn(struct net_addresses *a, const uint8_t mac[6], const uint8_t *frame,
			 size_t len)
{
	unsigned int type;

	if (len < ETHER_BYTES || memcmp(frame + 6, mac, 6))
		return;
	type = (unsigned int)frame[12] << 8 | frame[13];
	if (type == ETHERTYPE_ARP)
		learn_arp(a, mac, frame + ETHER_BYTES, len - ETHER_BYTES);
	else if (type == ETHERTYPE_IPV6)
		learn_ipv6(a, frame + ETHER_BYTES, len - ETHER_BYTES);
}

void net_addresses_state(struct net_addresses *a, struct state *s)
{
	state_count(s, &a->nr_v4, NET_ADDRESSES_EACH);
	state_count(s, &a->next_v4, NET_ADDRESSES_EACH - 1);
	state_count(s, &a->nr_v6, NET_ADDRESSES_EACH);
	state_count(s, &a->next_v6, NET_ADDRESSES_EACH - 1);
	state_bytes(s, a->v4, sizeof(a->v4));
	state_bytes(s, a->v6, sizeof(a->v6));
}
