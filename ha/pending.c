/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/pending.h"

#include <pthread.h>

#include "base/clock.h"
#include "ha/spill.h"

#define EPOCHS_MAX  16u
#define BLOCK_BYTES (256u << 10)
#define RECORD_HEAD 12u /* gfn u64, kind u16, len u16, as they lie in a block */

enum stage_of { FREE, OPEN, WHOLE, SEALED, COMMITTING };

struct pending {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t limit, file_limit;
	const char *dir;
	uint64_t used;		    /* lock: bytes in blocks of memory that hold an epoch */
	struct spill *spill;	    /* lock */
	struct pending_block *pool; /* lock: blocks that hold none */
	bool dropped;		    /* lock: nothing new comes in */
	struct slot {
		struct pending_epoch epoch; /* must be first */
		enum stage_of stage;	    /* lock */
	} slot[EPOCHS_MAX];
};

static struct slot *slot_of(struct pending_epoch *e)
{
	return (struct slot *)e;
}

int pending_open(const struct pending_config *config, struct pending **ret)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (spill_open(config->dir, BLOCK_BYTES, config->file_bytes, &p->spill)) {
		free(p);
		return -ENOMEM;
	}
	p->dir = config->dir;
	p->file_limit = config->file_bytes;
	p->limit = MAX(config->memory_bytes, 4 * BLOCK_BYTES);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	for (unsigned int i = 0; i < EPOCHS_MAX; i++) {
		struct pending_epoch *e = &p->slot[i].epoch;

		e->state.bytes = malloc(PROTO_STATE_MAX);
		if (!e->state.bytes) {
			pending_close(p);
			return -ENOMEM;
		}
	}
	*ret = p;
	return 0;
}

static void give_back(struct pending *p, struct slot *s)
{
	while (s->epoch.first) {
		struct pending_block *b = s->epoch.first;

		s->epoch.first = b->next;
		if (b->in_file) {
			spill_put(p->spill, b);
			continue;
		}
		b->next = p->pool;
		p->pool = b;
		p->used -= BLOCK_BYTES;
	}
	s->epoch.last = NULL;
	s->stage = FREE;
	pthread_cond_broadcast(&p->changed);
}

void pending_close(struct pending *p)
{
	if (!p)
		return;
	for (unsigned int i = 0; i < EPOCHS_MAX; i++) {
		give_back(p, &p->slot[i]);
		free(p->slot[i].epoch.state.bytes);
	}
	while (p->pool) {
		struct pending_block *b = p->pool;

		p->pool = b->next;
		free(b);
	}
	spill_close(p->spill);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* lock. With `epoch` 0: the oldest one in that stage. */
static struct slot *find(struct pending *p, enum stage_of stage, uint64_t epoch)
{
	struct slot *found = NULL;

	for (unsigned int i = 0; i < EPOCHS_MAX; i++) {
		struct slot *s = &p->slot[i];

		if (s->stage != stage || (epoch && s->epoch.epoch != epoch))
			continue;
		if (!found || s->epoch.epoch < found->epoch.epoch)
			found = s;
	}
	return found;
}

static void begin(struct slot *s, uint64_t epoch)
{
	uint8_t *state = s->epoch.state.bytes;

	s->epoch = (struct pending_epoch){ .epoch = epoch };
	state_assembly_init(&s->epoch.state, state, PROTO_STATE_MAX);
	s->stage = OPEN;
}

int pending_current(struct pending *p, uint64_t epoch, struct pending_epoch **ret)
{
	struct slot *s;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	s = find(p, OPEN, 0);
	while (!s && !p->dropped && !(s = find(p, FREE, 0)))
		pthread_cond_wait(&p->changed, &p->lock);
	if (p->dropped)
		r = -ECANCELED;
	else if (s->stage == FREE)
		begin(s, epoch);
	else if (s->epoch.epoch != epoch)
		r = -EPROTO; /* frames of one epoch end before those of the next begin */
	if (!r)
		*ret = &s->epoch;
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* lock held on entry and exit. Waits for commits at the bound; when there is none to wait for
 * this epoch is alone, and goes on in the file. */
static int get_block(struct pending *p, struct pending_block **ret)
{
	bool in_file = false;
	void *b = NULL;
	int r;

	while (p->used + BLOCK_BYTES > p->limit && !p->dropped && !in_file) {
		in_file = !find(p, SEALED, 0) && !find(p, COMMITTING, 0) && !find(p, WHOLE, 0);
		if (!in_file)
			pthread_cond_wait(&p->changed, &p->lock);
	}
	if (p->dropped)
		return -ECANCELED;
	if (in_file) {
		r = spill_get(p->spill, &b);
		if (r)
			return r;
	} else if (p->pool) {
		b = p->pool;
		p->pool = p->pool->next;
	} else {
		b = malloc(BLOCK_BYTES);
		if (!b)
			return -ENOMEM;
	}
	*ret = b;
	**ret = (struct pending_block){ .in_file = in_file };
	if (!in_file)
		p->used += BLOCK_BYTES;
	return 0;
}

static int append_block(struct pending *p, struct pending_epoch *e)
{
	struct pending_block *b;
	int r;

	pthread_mutex_lock(&p->lock);
	r = get_block(p, &b);
	if (!r) {
		if (e->last)
			e->last->next = b;
		else
			e->first = b;
		e->last = b;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

int pending_add(struct pending *p, struct pending_epoch *e, const struct page_record *r)
{
	const uint32_t room = BLOCK_BYTES - sizeof(struct pending_block);
	uint16_t kind = (uint16_t)r->kind;
	uint8_t *at;
	int err;

	if (!e->last || e->last->used + RECORD_HEAD + r->len > room) {
		err = append_block(p, e);
		if (err)
			return err;
	}
	at = e->last->bytes + e->last->used;
	memcpy(at, &r->gfn, 8);
	memcpy(at + 8, &kind, 2);
	memcpy(at + 10, &r->len, 2);
	if (r->len)
		memcpy(at + RECORD_HEAD, r->bytes, r->len);
	e->last->used += RECORD_HEAD + r->len;
	return 0;
}

static void set_stage(struct pending *p, struct slot *s, enum stage_of stage)
{
	s->stage = stage;
	pthread_cond_broadcast(&p->changed);
}

void pending_complete(struct pending *p, struct pending_epoch *e)
{
	e->arrived_ns = clock_now_ns();
	pthread_mutex_lock(&p->lock);
	if (slot_of(e)->stage == OPEN)
		set_stage(p, slot_of(e), WHOLE);
	pthread_mutex_unlock(&p->lock);
}

bool pending_seal(struct pending *p, uint64_t epoch)
{
	struct slot *s;

	pthread_mutex_lock(&p->lock);
	s = p->dropped ? NULL : find(p, WHOLE, epoch);
	if (s)
		set_stage(p, s, SEALED);
	pthread_mutex_unlock(&p->lock);
	return s != NULL;
}

static void drop(struct pending *p, bool sealed_too)
{
	pthread_mutex_lock(&p->lock);
	p->dropped = true;
	for (unsigned int i = 0; i < EPOCHS_MAX; i++) {
		struct slot *s = &p->slot[i];

		/* An open one is the receiver's until it has ended: only its fate is sealed. */
		if (s->stage == WHOLE || (sealed_too && s->stage == SEALED))
			give_back(p, s);
	}
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void pending_drop_unsealed(struct pending *p)
{
	drop(p, false);
}

void pending_drop_all(struct pending *p)
{
	drop(p, true);
}

struct pending_epoch *pending_take(struct pending *p)
{
	struct slot *s;

	pthread_mutex_lock(&p->lock);
	while (!(s = find(p, SEALED, 0)) && !p->dropped)
		pthread_cond_wait(&p->changed, &p->lock);
	if (s)
		s->stage = COMMITTING;
	pthread_mutex_unlock(&p->lock);
	return s ? &s->epoch : NULL;
}

/* A file that was needed once is given back, by a thread that nobody waits for. */
void pending_release(struct pending *p, struct pending_epoch *e)
{
	struct spill *done = NULL, *next;

	pthread_mutex_lock(&p->lock);
	give_back(p, slot_of(e));
	if (spill_size(p->spill) && !spill_used(p->spill) &&
	    !spill_open(p->dir, BLOCK_BYTES, p->file_limit, &next)) {
		done = p->spill;
		p->spill = next;
	}
	pthread_mutex_unlock(&p->lock);
	spill_close(done);
}

int pending_wait_idle(struct pending *p)
{
	int r;

	pthread_mutex_lock(&p->lock);
	while (!p->dropped && (find(p, SEALED, 0) || find(p, COMMITTING, 0) || find(p, WHOLE, 0)))
		pthread_cond_wait(&p->changed, &p->lock);
	r = p->dropped ? -ECANCELED : 0;
	pthread_mutex_unlock(&p->lock);
	return r;
}

struct pending_iter pending_records(const struct pending_epoch *e)
{
	return (struct pending_iter){ .block = e->first };
}

bool pending_next(struct pending_iter *it, struct page_record *ret)
{
	const uint8_t *at;
	uint16_t kind;

	while (it->block && it->at == it->block->used)
		*it = (struct pending_iter){ .block = it->block->next };
	if (!it->block)
		return false;
	at = it->block->bytes + it->at;
	memcpy(&ret->gfn, at, 8);
	memcpy(&kind, at + 8, 2);
	memcpy(&ret->len, at + 10, 2);
	ret->kind = (enum proto_page_kind)kind;
	ret->bytes = ret->len ? at + RECORD_HEAD : NULL;
	it->at += RECORD_HEAD + ret->len;
	return true;
}

uint64_t pending_bytes(struct pending *p)
{
	uint64_t used;

	pthread_mutex_lock(&p->lock);
	used = p->used + spill_used(p->spill);
	pthread_mutex_unlock(&p->lock);
	return used;
}
