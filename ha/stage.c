/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/stage.h"

#include <sys/mman.h>

#include "base/err.h"
#include "ha/platform.h"

/* Touched at once: a page fault has no place in the pause. */
static void *map_touched(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int stage_open(struct stage *ret, uint32_t nr_slots, uint64_t bytes, uint32_t state_room)
{
	struct stage s = { .nr_slots = nr_slots, .state_room = state_room };

	assert(nr_slots && nr_slots <= STAGE_MAX_SLOTS);
	s.slot_pages = MAX(bytes / nr_slots / PLATFORM_PAGE_BYTES, 16);
	s.from = map_touched((size_t)s.slot_pages * sizeof(*s.from));
	if (!s.from)
		return -ENOMEM;
	for (uint32_t i = 0; i < nr_slots; i++) {
		struct stage_slot *slot = &s.slot[i];

		slot->gfn = map_touched((size_t)s.slot_pages * sizeof(*slot->gfn));
		slot->pages = map_touched((size_t)s.slot_pages * PLATFORM_PAGE_BYTES);
		slot->state = map_touched(state_room);
		if (!slot->gfn || !slot->pages || !slot->state) {
			stage_close(&s);
			return -ENOMEM;
		}
	}
	*ret = s;
	return 0;
}

void stage_close(struct stage *s)
{
	if (s->from)
		munmap(s->from, (size_t)s->slot_pages * sizeof(*s->from));
	for (uint32_t i = 0; i < s->nr_slots; i++) {
		struct stage_slot *slot = &s->slot[i];

		if (slot->gfn)
			munmap(slot->gfn, (size_t)s->slot_pages * sizeof(*slot->gfn));
		if (slot->pages)
			munmap(slot->pages, (size_t)s->slot_pages * PLATFORM_PAGE_BYTES);
		if (slot->state)
			munmap(slot->state, s->state_room);
	}
	*s = (struct stage){ 0 };
}
