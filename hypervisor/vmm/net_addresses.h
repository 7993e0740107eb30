/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses a guest owns, as its own frames show them: ARP senders (RFC 826), sources
 * of neighbour discovery and targets of its advertisements (RFC 4861), and any link-local
 * source. Bounded; when full, the oldest makes room. Not locked: the device's lock covers it.
 */
#ifndef POLLUX_VMM_NET_ADDRESSES_H
#define POLLUX_VMM_NET_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

struct state;

#define NET_ADDRESSES_EACH 8u

struct net_addresses {
	uint32_t nr_v4, next_v4;
	uint32_t nr_v6, next_v6;
	uint8_t v4[NET_ADDRESSES_EACH][4];
	uint8_t v6[NET_ADDRESSES_EACH][16];
};

/* Looks at one frame that the guest with this MAC sends. */
void net_addresses_learn(struct net_addresses *a, const uint8_t mac[6], const uint8_t *frame,
			 size_t len);
void net_addresses_state(struct net_addresses *a, struct state *s);

#endif
