/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header is {u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start,
 * u16 csum_offset, u16 num_buffers} (virtio 1.2, 5.1.6). The kernel checks again what it is
 * given; that a guest cannot say what it did not negotiate is ours (P4). Pure.
 */
#include "hypervisor/vmm/net_offload.h"

#include <linux/if_tun.h>

#include "base/cursor.h"

#define FLAG_NEEDS_CSUM 1u
#define FLAG_DATA_VALID 2u

#define GSO_NONE  0u
#define GSO_TCPV4 1u
#define GSO_TCPV6 4u
#define GSO_ECN	  0x80u

#define NUM_BUFFERS_AT 10u

struct header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

static struct header get(const uint8_t bytes[NET_OFFLOAD_HEADER_BYTES])
{
	struct cursor c = cursor_over(bytes, NET_OFFLOAD_HEADER_BYTES);
	struct header h;

	h.flags = cursor_get_u8(&c);
	h.gso_type = cursor_get_u8(&c);
	h.hdr_len = cursor_get_u16(&c);
	h.gso_size = cursor_get_u16(&c);
	h.csum_start = cursor_get_u16(&c);
	h.csum_offset = cursor_get_u16(&c);
	return h;
}

static void put(uint8_t bytes[NET_OFFLOAD_HEADER_BYTES], const struct header *h)
{
	struct cursor c = cursor_over(bytes, NET_OFFLOAD_HEADER_BYTES);

	cursor_put_u8(&c, h->flags);
	cursor_put_u8(&c, h->gso_type);
	cursor_put_u16(&c, h->hdr_len);
	cursor_put_u16(&c, h->gso_size);
	cursor_put_u16(&c, h->csum_start);
	cursor_put_u16(&c, h->csum_offset);
	cursor_put_u16(&c, 0);
}

/* What one direction may do, in the words of the way out. Segments need checksums. */
static uint64_t allowed_out(uint64_t accepted)
{
	return accepted & NET_OFFLOAD_CSUM ? accepted : 0;
}

static uint64_t allowed_in(uint64_t accepted)
{
	uint64_t out = 0;

	if (!(accepted & NET_OFFLOAD_GUEST_CSUM))
		return 0;
	out |= NET_OFFLOAD_CSUM;
	out |= accepted & NET_OFFLOAD_GUEST_TSO4 ? NET_OFFLOAD_HOST_TSO4 : 0;
	out |= accepted & NET_OFFLOAD_GUEST_TSO6 ? NET_OFFLOAD_HOST_TSO6 : 0;
	out |= accepted & NET_OFFLOAD_GUEST_ECN ? NET_OFFLOAD_HOST_ECN : 0;
	return out;
}

static bool gso_ok(uint64_t allowed, const struct header *h)
{
	switch (h->gso_type & ~GSO_ECN) {
	case GSO_NONE:
		return h->gso_type == GSO_NONE;
	case GSO_TCPV4:
		if (!(allowed & NET_OFFLOAD_HOST_TSO4))
			return false;
		break;
	case GSO_TCPV6:
		if (!(allowed & NET_OFFLOAD_HOST_TSO6))
			return false;
		break;
	default:
		return false;
	}
	return h->gso_size && (h->flags & FLAG_NEEDS_CSUM) &&
	       (!(h->gso_type & GSO_ECN) || (allowed & NET_OFFLOAD_HOST_ECN));
}

unsigned int net_offload_tap(uint64_t accepted)
{
	uint64_t allowed = allowed_in(accepted);
	unsigned int flags = 0;

	flags |= allowed & NET_OFFLOAD_CSUM ? TUN_F_CSUM : 0;
	flags |= allowed & NET_OFFLOAD_HOST_TSO4 ? TUN_F_TSO4 : 0;
	flags |= allowed & NET_OFFLOAD_HOST_TSO6 ? TUN_F_TSO6 : 0;
	/* Only beside one of the two does the tun driver know it. */
	if (flags & (TUN_F_TSO4 | TUN_F_TSO6))
		flags |= allowed & NET_OFFLOAD_HOST_ECN ? TUN_F_TSO_ECN : 0;
	return flags;
}

bool net_offload_out(uint64_t accepted, uint8_t header[NET_OFFLOAD_HEADER_BYTES], size_t frame_len)
{
	uint64_t allowed = allowed_out(accepted);
	struct header h = get(header);

	h.flags &= FLAG_NEEDS_CSUM;
	if ((h.flags && !(allowed & NET_OFFLOAD_CSUM)) || !gso_ok(allowed, &h))
		return false;
	if (!h.flags)
		h.csum_start = h.csum_offset = 0;
	else if ((size_t)h.csum_start + h.csum_offset + 2 > frame_len)
		return false;
	if (h.gso_type == GSO_NONE)
		h.hdr_len = h.gso_size = 0;
	else if (h.hdr_len > frame_len)
		return false;
	put(header, &h);
	return true;
}

bool net_offload_in(uint64_t accepted, uint8_t header[NET_OFFLOAD_HEADER_BYTES])
{
	uint64_t allowed = allowed_in(accepted);
	struct header h = get(header);

	if (((h.flags & FLAG_NEEDS_CSUM) && !(allowed & NET_OFFLOAD_CSUM)) || !gso_ok(allowed, &h))
		return false;
	h.flags &= allowed & NET_OFFLOAD_CSUM ? FLAG_NEEDS_CSUM | FLAG_DATA_VALID : 0;
	if (!(h.flags & FLAG_NEEDS_CSUM))
		h.csum_start = h.csum_offset = 0;
	if (h.gso_type == GSO_NONE)
		h.hdr_len = h.gso_size = 0;
	put(header, &h);
	net_offload_set_buffers(header, 1);
	return true;
}

void net_offload_set_buffers(uint8_t header[NET_OFFLOAD_HEADER_BYTES], uint16_t n)
{
	struct cursor c = cursor_over(header + NUM_BUFFERS_AT, 2);

	cursor_put_u16(&c, n);
}
