/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One word says which copy is under way and how many of its chunks nobody has taken: whoever takes
 * one does so by exchanging the word, so a helper that was late by a whole copy takes none
 * of the wrong one, and what it is told of the copy is only read in between.
 */
#include "ha/copier.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <string.h>

#define LEFT(word) ((uint32_t)(word))

struct copier {
	sem_t wake;
	bool ending;   /* written before the last wake */
	uint64_t word; /* atomic: the number of the copy, and the chunks left of it */
	uint64_t done; /* atomic: chunks that are copied */

	/* Of the copy under way: written while no chunk is left to take. */
	const void *const *from;
	uint8_t *to;
	uint64_t n;

	unsigned int nr;
	pthread_t helper[COPIER_HELPERS_MAX];
};

static void copy(const void *const *from, uint8_t *to, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		memcpy(to + i * COPIER_PAGE_BYTES, from[i], COPIER_PAGE_BYTES);
}

/* False: there is none left. */
static bool take_chunk(struct copier *c)
{
	uint64_t word = __atomic_load_n(&c->word, __ATOMIC_ACQUIRE), first;

	do {
		if (!LEFT(word))
			return false;
	} while (!__atomic_compare_exchange_n(&c->word, &word, word - 1, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	first = (uint64_t)(LEFT(word) - 1) * COPIER_CHUNK_PAGES;
	copy(c->from, c->to, first, MIN(first + COPIER_CHUNK_PAGES, c->n));
	__atomic_add_fetch(&c->done, 1, __ATOMIC_RELEASE);
	return true;
}

static void *help(void *opaque)
{
	struct copier *c = opaque;

	pthread_setname_np(pthread_self(), "copy");
	for (;;) {
		while (sem_wait(&c->wake))
			;
		if (__atomic_load_n(&c->ending, __ATOMIC_ACQUIRE))
			return NULL;
		while (take_chunk(c))
			;
	}
}

unsigned int copier_helpers(void)
{
	cpu_set_t mine;
	int n = sched_getaffinity(0, sizeof(mine), &mine) ? 1 : CPU_COUNT(&mine);

	return MIN((unsigned int)MAX(n, 1) - 1, COPIER_HELPERS_MAX);
}

int copier_open(unsigned int helpers, struct copier **ret)
{
	struct copier *c;
	int r = 0;

	*ret = NULL;
	if (!helpers)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	sem_init(&c->wake, 0, 0);
	while (!r && c->nr < MIN(helpers, COPIER_HELPERS_MAX)) {
		r = -pthread_create(&c->helper[c->nr], NULL, help, c);
		c->nr += !r;
	}
	if (r)
		copier_close(c);
	else
		*ret = c;
	return r;
}

static void wake(struct copier *c)
{
	for (unsigned int i = 0; i < c->nr; i++)
		sem_post(&c->wake);
}

void copier_close(struct copier *c)
{
	if (!c)
		return;
	__atomic_store_n(&c->ending, true, __ATOMIC_RELEASE);
	wake(c);
	for (unsigned int i = 0; i < c->nr; i++)
		pthread_join(c->helper[i], NULL);
	sem_destroy(&c->wake);
	free(c);
}

void copier_copy(struct copier *c, const void *const *from, uint8_t *to, uint64_t n)
{
	uint64_t chunks = (n + COPIER_CHUNK_PAGES - 1) / COPIER_CHUNK_PAGES;

	if (!c || n < COPIER_FEW_PAGES || chunks > UINT32_MAX) {
		copy(from, to, 0, n);
		return;
	}
	assert(!LEFT(c->word));
	c->from = from;
	c->to = to;
	c->n = n;
	__atomic_store_n(&c->done, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&c->word, ((c->word | UINT32_MAX) + 1) | chunks, __ATOMIC_RELEASE);
	wake(c);
	while (take_chunk(c))
		;
	while (__atomic_load_n(&c->done, __ATOMIC_ACQUIRE) < chunks)
		sched_yield();
}
