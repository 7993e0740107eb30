/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses a guest owns, as its own frames show them: ARP senders (RFC 826), sources
 * of neighbour discovery and targets of its advertisements (RFC 4861), and any link-local
 * source; each with the VLAN (IEEE 802.1Q) of the frame. Bounded; when full, the oldest makes
 * room. Not locked: the device's lock covers it.
 */
#ifndef POLLUX_VMM_NET_ADDRESSES_H
#define POLLUX_VMM_NET_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

struct state;

#define NET_ADDRESSES_MAX 32u

struct net_address {
	uint16_t vlan;	   /* 0: untagged */
	uint8_t family;	   /* 4 or 6 */
	uint8_t bytes[16]; /* 4 of them, or all */
};
struct net_addresses {
	uint32_t nr, next;
	struct net_address at[NET_ADDRESSES_MAX];
};

/* Looks at one frame that the guest with this MAC sends. */
void net_addresses_learn(struct net_addresses *a, const uint8_t mac[6], const uint8_t *frame,
			 size_t len);
void net_addresses_state(struct net_addresses *a, struct state *s);

#endif
