/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of many pages, by several threads at once: that of the pause, which calls, and helpers
 * that sleep in between. A helper that wakes too late finds nothing left to do and is not waited
 * for, so that the copies take no longer than with one thread. Few pages are copied by the caller.
 *
 * Threads: copier_copy() from one at a time. It allocates nothing; it waits only for helpers that
 * are in the middle of a chunk.
 */
#ifndef POLLUX_HA_COPIER_H
#define POLLUX_HA_COPIER_H

#include <stdint.h>

#include "base/err.h"

#define COPIER_PAGE_BYTES  4096u
#define COPIER_CHUNK_PAGES 64u	/* what a thread takes at once */
#define COPIER_FEW_PAGES   512u /* fewer are not worth waking anybody: 2 MiB take some 0.2 ms */
#define COPIER_HELPERS_MAX 3u	/* more do not copy faster: memory is the limit */

struct copier;

/* NULL has no helpers, and is what is had on a host with one processor. */
int copier_open(unsigned int helpers, struct copier **ret);
/* As many as this host has processors for, beside the caller's. */
unsigned int copier_helpers(void);
/* Takes NULL. */
void copier_close(struct copier *c);

/* `to` + i pages becomes *from[i], for each i below `n`. */
void copier_copy(struct copier *c, const void *const *from, uint8_t *to, uint64_t n);

#endif
