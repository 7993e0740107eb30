/* SPDX-License-Identifier: Apache-2.0 */
/* ranges.h: as many entries as there are requests under way, so a list does. */
#include "disk-replica/nbd/ranges.h"

#include <stdbool.h>

void ranges_init(struct ranges *r)
{
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->freed, NULL);
	r->first = NULL;
}

void ranges_destroy(struct ranges *r)
{
	pthread_cond_destroy(&r->freed);
	pthread_mutex_destroy(&r->lock);
}

/* Under lock. Whoever is before it in the list came first, also if he waits himself: so a
 * large request is not passed by small ones for ever. */
static bool must_wait(const struct ranges *r, const struct range *range)
{
	for (const struct range *i = r->first; i != range; i = i->next)
		if (i->offset < range->offset + range->length &&
		    range->offset < i->offset + i->length)
			return true;
	return false;
}

void ranges_take(struct ranges *r, struct range *range)
{
	struct range **end = &r->first;

	pthread_mutex_lock(&r->lock);
	while (*end)
		end = &(*end)->next;
	range->next = NULL;
	*end = range;
	while (must_wait(r, range))
		pthread_cond_wait(&r->freed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

void ranges_free(struct ranges *r, struct range *range)
{
	struct range **at = &r->first;

	pthread_mutex_lock(&r->lock);
	while (*at != range)
		at = &(*at)->next;
	*at = range->next;
	pthread_cond_broadcast(&r->freed);
	pthread_mutex_unlock(&r->lock);
}
