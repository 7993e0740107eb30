/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a checkpoint waits until it is sent and acknowledged: a fixed number of slots,
 * allocated and touched at the start, so that a capture allocates nothing and the memory
 * of the primary has a bound. epoch.h says which epoch has which slot, and when it is free.
 *
 * A slot is written by the capture, then read by the sender; the queue between them hands
 * it over.
 */
#ifndef POLLUX_HA_STAGE_H
#define POLLUX_HA_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "disk-replica/mirror.h"

#define STAGE_MAX_SLOTS 16u

struct stage_slot {
	uint64_t epoch;
	uint64_t captured_ns; /* the boundary */
	struct mirror_mark
		disk_limit; /* mirror_boundary(): records before it belong to this epoch */
	uint64_t nr_pages;
	uint64_t *gfn;
	uint8_t *pages; /* nr_pages copies, in the order of gfn[] */
	uint8_t *state;
	uint32_t state_len;
	bool hashed;
	uint64_t memory_hash; /* platform_hash() of the stopped domain, if hashed */
};

struct stage {
	uint32_t nr_slots;
	uint64_t slot_pages; /* what one slot holds */
	uint32_t state_room;
	const void **from; /* the capture's: where the pages lie that a slot is to have */
	struct stage_slot slot[STAGE_MAX_SLOTS];
};

/* `bytes` is the bound for the pages of all slots together. -ENOMEM. */
int stage_open(struct stage *ret, uint32_t nr_slots, uint64_t bytes, uint32_t state_room);
void stage_close(struct stage *s);

#endif
