/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who changes which bytes of a disk. Requests that overlap go one after the other, in the
 * order of their arrival; all others go at once.
 *
 * The copy of a disk is made from a list of its changes. Two writes of the same block that
 * reach the disk in one order and the list in the other would leave the copy different for
 * ever, so a range is held from before the disk is touched until the change is in the list.
 *
 * Threads: any. Nothing is allocated: a range is its holder's.
 */
#ifndef POLLUX_NBD_RANGES_H
#define POLLUX_NBD_RANGES_H

#include <pthread.h>
#include <stdint.h>

struct range {
	uint64_t offset, length; /* bytes; their sum does not overflow */
	struct range *next;	 /* ranges.lock */
};

struct ranges {
	pthread_mutex_t lock;
	pthread_cond_t freed;
	struct range *first; /* lock: held and waited for, in the order of arrival */
};

void ranges_init(struct ranges *r);
void ranges_destroy(struct ranges *r);
/* Waits until nobody who came before holds, or waits for, a byte of it. */
void ranges_take(struct ranges *r, struct range *range);
void ranges_free(struct ranges *r, struct range *range);

#endif
