/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/hot.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int hot_open(struct hot *ret, uint64_t nr_pages)
{
	*ret = (struct hot){ .nr_pages = nr_pages };
	/* Untouched until a page is dirty: a large guest that writes little takes little. */
	ret->page = calloc(nr_pages, sizeof(*ret->page));
	return ret->page ? 0 : -ENOMEM;
}

void hot_close(struct hot *hot)
{
	free(hot->page);
}

void hot_reset(struct hot *hot)
{
	memset(hot->page, 0, hot->nr_pages * sizeof(*hot->page));
	hot->take = 0;
}

void hot_next(struct hot *hot)
{
	hot->take++;
}

static bool is_to_protect(struct hot *hot, uint64_t gfn)
{
	struct hot_page *page = &hot->page[gfn];
	bool in_a_row = page->take == (uint8_t)(hot->take - 1);

	page->take = hot->take;
	if (!in_a_row) {
		page->streak = 1;
		return true;
	}
	if (page->streak < HOT_STREAK)
		page->streak++;
	if (page->streak < HOT_STREAK)
		return true;
	if ((uint8_t)(gfn + hot->take) % HOT_PROBE)
		return false;
	/* Written once more, it is hot again. */
	page->streak = HOT_STREAK - 1;
	return true;
}

uint64_t hot_protect(struct hot *hot, uint64_t gfn, uint64_t dirty)
{
	uint64_t protect = 0;

	for (uint64_t left = dirty; left; left &= left - 1) {
		unsigned int bit = (unsigned int)__builtin_ctzll(left);

		if (is_to_protect(hot, gfn + bit))
			protect |= UINT64_C(1) << bit;
	}
	return protect;
}
