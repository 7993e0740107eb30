/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the LAN where a VM now lives, after a takeover: ARP announcements (RFC 5227,
 * 2.3) for its IPv4 addresses, unsolicited neighbour advertisements (RFC 4861, 7.2.6) for
 * its IPv6 addresses, and a RARP request (RFC 903), which needs no address and teaches
 * every switch on the way the port of the MAC. Said ANNOUNCE_NUM times (RFC 5227, 2.3), by the
 * caller: a frame may be lost.
 *
 * Each address is announced in the VLAN (IEEE 802.1Q) in which the guest was seen to use it, and
 * the MAC in each of those, since a switch learns it for each anew.
 *
 * The builders are pure: each fills a frame of the length it returns.
 */
#ifndef POLLUX_NETBUF_ANNOUNCE_H
#define POLLUX_NETBUF_ANNOUNCE_H

#include <stddef.h>
#include <stdint.h>

#define ANNOUNCE_FRAME_MAX   90u
#define ANNOUNCE_NUM	     2u
#define ANNOUNCE_INTERVAL_NS UINT64_C(2000000000)

struct control;

size_t announce_arp(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6], const uint8_t v4[4]);
/* The same as a reply, for hosts that ignore requests about themselves. */
size_t announce_arp_reply(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6],
			  const uint8_t v4[4]);
size_t announce_neighbour(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6],
			  const uint8_t v6[16]);
size_t announce_rarp(uint8_t ret[ANNOUNCE_FRAME_MAX], const uint8_t mac[6]);
/* A frame of the above becomes one of that VLAN; 0: it stays as it is. */
size_t announce_tag(uint8_t frame[ANNOUNCE_FRAME_MAX], size_t len, uint16_t vlan);

/* Announces every address of every NIC of the VM behind this connection. Goes on after a
 * frame that fails and returns the first error; `*ret_frames` were sent. nr_nics: from
 * CONTROL_HELLO. */
int netbuf_announce(struct control *control, unsigned int nr_nics, unsigned int *ret_frames);

#endif
