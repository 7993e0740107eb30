/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames that move a VM's addresses to its new host. Builders fill buffers in network
 * order byte by byte (base/cursor is little-endian and for our own formats); the caller's
 * buffer is large enough by type. No threads.
 */
#include "netbuf/announce.h"

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"

#define ETHERTYPE_ARP	  0x0806u
#define ETHERTYPE_RARP	  0x8035u
#define ETHERTYPE_IPV6	  0x86ddu
#define ETHERTYPE_VLAN	  0x8100u
#define TAG_BYTES	  4u
#define ETHER_BYTES	  14u
#define ETHER_MIN	  60u /* shorter frames are padded */
#define IPV6_BYTES	  40u
#define NA_BYTES	  32u /* header 8, target 16, option 8 */
#define NEXT_ICMPV6	  58u
#define ND_ADVERTISE	  136u
#define ND_OVERRIDE	  0x20u
#define OPTION_TARGET_MAC 2u

#define ARP_REQUEST  1u
#define ARP_REPLY    2u
#define RARP_REQUEST 3u

#define MAX_ADDRESSES 32u /* of one NIC, of both families */

static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static void put_ethernet(uint8_t *frame, const uint8_t to[6], const uint8_t from[6], uint32_t type)
{
	memset(frame, 0, ANNOUNCE_FRAME_MAX);
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	put16(frame + 12, type);
}

/* RFC 826: {hardware, protocol, sizes, operation, sender MAC and IP, target MAC and IP}. */
struct arp {
	uint32_t ethertype;
	uint32_t operation;
	const uint8_t *mac;
	const uint8_t *v4; /* sender and target alike */
	const uint8_t *target_mac;
};

static size_t put_arp(uint8_t *frame, const struct arp *a)
{
	uint8_t *p = frame + ETHER_BYTES;

	put_ethernet(frame, broadcast, a->mac, a->ethertype);
	put16(p, 1);
	put16(p + 2, 0x0800);
	p[4] = 6;
	p[5] = 4;
	put16(p + 6, a->operation);
	memcpy(p + 8, a->mac, 6);
	memcpy(p + 14, a->v4, 4);
	memcpy(p + 18, a->target_mac, 6);
	memcpy(p + 24, a->v4, 4);
	return ETHER_MIN;
}

size_t announce_arp(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6], const uint8_t v4[4])
{
	static const uint8_t unknown[6];

	return put_arp(ret, &(struct arp){ ETHERTYPE_ARP, ARP_REQUEST, mac, v4, unknown });
}

size_t announce_arp_reply(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6],
			  const uint8_t v4[4])
{
	return put_arp(ret, &(struct arp){ ETHERTYPE_ARP, ARP_REPLY, mac, v4, mac });
}

size_t announce_rarp(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6])
{
	static const uint8_t unknown[4];

	return put_arp(ret, &(struct arp){ ETHERTYPE_RARP, RARP_REQUEST, mac, unknown, mac });
}

/* RFC 4443, 2.3: the sum runs over the pseudo-header {source, destination, length, next header}
 * and the message. Source and destination lie next to each other in the header. */
static uint16_t icmp6_checksum(const uint8_t *ip, size_t message_bytes)
{
	const uint8_t *message = ip + IPV6_BYTES;
	uint32_t sum = (uint32_t)message_bytes + NEXT_ICMPV6;

	for (size_t i = 0; i < 32; i += 2)
		sum += (uint32_t)ip[8 + i] << 8 | ip[9 + i];
	for (size_t i = 0; i < message_bytes; i += 2)
		sum += (uint32_t)message[i] << 8 | message[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

size_t announce_neighbour(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6],
			  const uint8_t v6[16])
{
	static const uint8_t all_nodes[16] = { 0xff, 0x02, [15] = 1 };
	static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	uint8_t *ip = ret + ETHER_BYTES, *na = ip + IPV6_BYTES;

	put_ethernet(ret, all_nodes_mac, mac, ETHERTYPE_IPV6);
	ip[0] = 0x60;
	put16(ip + 4, NA_BYTES);
	ip[6] = NEXT_ICMPV6;
	ip[7] = 255; /* RFC 4861, 7.1.2: proof that no router passed it on */
	memcpy(ip + 8, v6, 16);
	memcpy(ip + 24, all_nodes, 16);
	na[0] = ND_ADVERTISE;
	na[4] = ND_OVERRIDE;
	memcpy(na + 8, v6, 16);
	na[24] = OPTION_TARGET_MAC;
	na[25] = 1; /* in units of 8 bytes */
	memcpy(na + 26, mac, 6);
	put16(na + 2, icmp6_checksum(ip, NA_BYTES));
	return ETHER_BYTES + IPV6_BYTES + NA_BYTES;
}

/* The tag stands between the addresses and the type, IEEE 802.1Q, 9.4; its priority is 0. */
size_t announce_tag(uint8_t frame[ANNOUNCE_FRAME_MAX], size_t len, uint16_t vlan)
{
	if (!vlan)
		return len;
	memmove(frame + 12 + TAG_BYTES, frame + 12, len - 12);
	put16(frame + 12, ETHERTYPE_VLAN);
	put16(frame + 14, vlan);
	return len + TAG_BYTES;
}

/* --- sending -------------------------------------------------------------------------- */

struct owned {
	uint8_t mac[6];
	uint16_t n;
	struct owned_address {
		uint16_t vlan;
		uint8_t family;
		uint8_t address[16];
	} at[MAX_ADDRESSES];
};

/* The reply is a view that the next call overwrites, so it is copied. */
static int ask(struct control *control, uint16_t nic, struct owned *ret)
{
	uint8_t bytes[2] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;
	const struct control_call call = {
		.op = CONTROL_NET_ADDRESSES,
		.request = bytes,
		.request_len = sizeof(bytes),
	};
	int err;

	cursor_put_u16(&request, nic);
	err = control_call(control, &call, &reply);
	if (err)
		return err;
	cursor_get_bytes(&reply, ret->mac, sizeof(ret->mac));
	ret->n = cursor_get_u16(&reply);
	if (ret->n > MAX_ADDRESSES)
		return -EPROTO;
	for (uint16_t i = 0; i < ret->n; i++) {
		ret->at[i].vlan = cursor_get_u16(&reply);
		ret->at[i].family = cursor_get_u8(&reply);
		cursor_get_bytes(&reply, ret->at[i].address, sizeof(ret->at[i].address));
	}
	return cursor_ok(&reply) ? 0 : -EPROTO;
}

static int inject(struct control *control, uint16_t nic, const uint8_t *frame, size_t len)
{
	uint8_t bytes[2 + ANNOUNCE_FRAME_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;
	const struct control_call call = {
		.op = CONTROL_NET_INJECT,
		.request = bytes,
		.request_len = 2 + len,
	};

	cursor_put_u16(&request, nic);
	cursor_put_bytes(&request, frame, len);
	assert(cursor_ok(&request));
	return control_call(control, &call, &reply);
}

struct sender {
	struct control *control;
	uint16_t nic;
	unsigned int sent;
	int first; /* error */
};

static void send(struct sender *s, uint8_t *frame, size_t len, uint16_t vlan)
{
	int err = inject(s->control, s->nic, frame, announce_tag(frame, len, vlan));

	s->sent += !err;
	s->first = s->first ? s->first : err;
}

static bool is_first_of_vlan(const struct owned *o, uint16_t i)
{
	for (uint16_t j = 0; j < i; j++)
		if (o->at[j].vlan == o->at[i].vlan)
			return false;
	return o->at[i].vlan != 0;
}

static void announce_address(struct sender *s, const struct owned *o, const struct owned_address *a)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];

	if (a->family == 4) {
		send(s, frame, announce_arp(frame, o->mac, a->address), a->vlan);
		send(s, frame, announce_arp_reply(frame, o->mac, a->address), a->vlan);
	} else {
		send(s, frame, announce_neighbour(frame, o->mac, a->address), a->vlan);
	}
}

/* RARP first: the switches know the port by the time somebody answers the others. */
static void announce_nic(struct sender *s)
{
	uint8_t frame[ANNOUNCE_FRAME_MAX];
	struct owned owned;
	int err = ask(s->control, s->nic, &owned);

	if (err) {
		s->first = s->first ? s->first : err;
		return;
	}
	send(s, frame, announce_rarp(frame, owned.mac), 0);
	for (uint16_t i = 0; i < owned.n; i++)
		if (is_first_of_vlan(&owned, i))
			send(s, frame, announce_rarp(frame, owned.mac), owned.at[i].vlan);
	for (uint16_t i = 0; i < owned.n; i++)
		announce_address(s, &owned, &owned.at[i]);
}

int netbuf_announce(struct control *control, unsigned int nr_nics, unsigned int *ret_frames)
{
	struct sender s = { .control = control };

	for (; s.nic < nr_nics; s.nic++)
		announce_nic(&s);
	*ret_frames = s.sent;
	return s.first;
}
