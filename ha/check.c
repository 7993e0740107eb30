/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/check.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "disk-replica/apply.h"
#include "ha/hashes.h"
#include "ha/platform.h"

/* From none to asked by the receiver, to answered by the commit, to none by the main thread: what
 * a question holds is its owner's. */
enum step { NONE, ASKED, ANSWERED };

struct check {
	struct check_config config;
	_Atomic(enum step) step;
	atomic_bool stopped;
	uint64_t seed;
	struct message question; /* without its tail */
	uint8_t hashes[PROTO_HASHES_MAX * PROTO_HASH_BYTES];
	uint8_t differ[PROTO_HASHES_MAX / 8];
	uint8_t chunk[PROTO_CHUNK_BYTES];
};

int check_open(const struct check_config *config, struct check **ret)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->config = *config;
	*ret = c;
	return 0;
}

void check_begin(struct check *c, uint64_t seed)
{
	c->seed = seed;
}

void check_close(struct check *c)
{
	free(c);
}

static int check_pages(const struct check *c, const struct proto_pages *p, struct refusal *why)
{
	struct platform *platform = c->config.platform;

	for (uint64_t gfn = p->gfn; gfn < p->gfn + p->count; gfn++)
		if (gfn >= platform->nr_gfns || !platform->ops->page(platform, gfn))
			return refusal_set(
				why, PROTO_BAD_PAGES,
				"the hash of page %" PRIu64 ", where the VM has no memory", gfn);
	return 0;
}

static int check_chunks(const struct check *c, const struct proto_chunks *p, struct refusal *why)
{
	const struct disk_info *d = p->disk < c->config.nr_disks ? &c->config.disks[p->disk] : NULL;
	uint64_t bytes = d && !disk_is_drbd(d) ? d->bytes : 0;
	uint64_t last = p->offset + (uint64_t)(p->count - 1) * PROTO_CHUNK_BYTES;

	if (last < bytes)
		return 0;
	return refusal_set(why, PROTO_BAD_PAYLOAD,
			   "the hash of byte %" PRIu64 " of disk %u, of which %" PRIu64
			   " are compared",
			   last, p->disk, bytes);
}

int check_ask(struct check *c, const struct message *m, struct refusal *why)
{
	int r;

	if (c->step != NONE)
		return refusal_set(why, PROTO_UNEXPECTED, "%s before the answer to another",
				   proto_type_name(m->type));
	r = m->type == PROTO_PAGE_HASHES ? check_pages(c, &m->pages, why)
					 : check_chunks(c, &m->chunks, why);
	if (r)
		return r;
	c->question = *m;
	memcpy(c->hashes, m->tail, m->tail_len);
	c->step = ASKED;
	return 0;
}

static const void *page(struct check *c, uint32_t i)
{
	struct platform *p = c->config.platform;

	return p->ops->page(p, c->question.pages.gfn + i);
}

static const void *chunk(struct check *c, uint32_t i, size_t *ret_len)
{
	const struct proto_chunks *p = &c->question.chunks;
	uint64_t offset = p->offset + (uint64_t)i * PROTO_CHUNK_BYTES;

	*ret_len = (size_t)MIN(c->config.disks[p->disk].bytes - offset, sizeof(c->chunk));
	return apply_read(c->config.apply, p->disk, offset, c->chunk, *ret_len) ? NULL : c->chunk;
}

bool check_compare(struct check *c, uint64_t epoch)
{
	struct cursor hashes = cursor_over(c->hashes, sizeof(c->hashes));
	bool pages = c->question.type == PROTO_PAGE_HASHES;
	uint32_t count;

	if (c->step != ASKED || c->question.epoch != epoch)
		return false;
	count = pages ? c->question.pages.count : c->question.chunks.count;
	memset(c->differ, 0, sizeof(c->differ));
	for (uint32_t i = 0; i < count; i++) {
		size_t len = PLATFORM_PAGE_BYTES;
		const void *bytes = pages ? page(c, i) : chunk(c, i, &len);
		bool same = hashes_same(&hashes, c->seed, bytes ?: c->chunk, len);

		if (c->stopped)
			return false;
		if (!bytes || !same)
			c->differ[i / 8] |= (uint8_t)(1u << i % 8);
	}
	c->step = ANSWERED;
	return true;
}

bool check_answer(struct check *c, struct message *ret)
{
	bool pages = c->question.type == PROTO_PAGE_HASHES;
	uint32_t count;

	if (c->step != ANSWERED)
		return false;
	count = pages ? c->question.pages.count : c->question.chunks.count;
	*ret = (struct message){ .type = pages ? PROTO_PAGES_LACKED : PROTO_DISK_DIFFERS,
				 .tail = c->differ,
				 .tail_len = (count + 7) / 8 };
	if (pages)
		ret->pages = c->question.pages;
	else
		ret->chunks = c->question.chunks;
	c->step = NONE;
	return true;
}

void check_stop(struct check *c)
{
	c->stopped = true;
}
