/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/offer.h"

#include <inttypes.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/bitmap.h"
#include "base/fault.h"
#include "ha/hashes.h"
#include "ha/platform.h"

struct offer {
	struct platform *platform;
	uint64_t seed;
	const uint64_t *pages;
	int answer_fd;

	/* The sender's. */
	uint64_t next; /* gfns below it were asked about */
	uint8_t hashes[PROTO_HASHES_MAX * PROTO_HASH_BYTES];

	pthread_mutex_t lock;
	struct offer_answer slot[PROTO_HASHES_OPEN]; /* lock: by number modulo */
	uint64_t asked, answered, taken;	     /* lock */
};

int offer_open(struct platform *platform, uint64_t seed, const uint64_t *pages, struct offer **ret)
{
	struct offer *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->platform = platform;
	o->seed = seed;
	o->pages = pages;
	o->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (o->answer_fd < 0) {
		free(o);
		return -errno;
	}
	pthread_mutex_init(&o->lock, NULL);
	*ret = o;
	return 0;
}

void offer_close(struct offer *o)
{
	if (!o)
		return;
	close(o->answer_fd);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

int offer_fd(const struct offer *o)
{
	return o->answer_fd;
}

static const void *page_of(const struct offer *o, uint64_t gfn)
{
	if (gfn >= o->platform->nr_gfns || !bitmap_test(o->pages, gfn))
		return NULL;
	return o->platform->ops->page(o->platform, gfn);
}

static bool may_ask(struct offer *o)
{
	bool may;

	pthread_mutex_lock(&o->lock);
	may = o->asked - o->taken < PROTO_HASHES_OPEN;
	pthread_mutex_unlock(&o->lock);
	return may;
}

bool offer_ask(struct offer *o, struct message *ret)
{
	struct cursor c = cursor_over(o->hashes, sizeof(o->hashes));
	struct proto_pages p = { .gfn = o->next };
	struct offer_answer *slot;
	const void *page;

	if (!may_ask(o))
		return false;
	while (p.gfn < o->platform->nr_gfns && !page_of(o, p.gfn))
		p.gfn++;
	while (p.count < PROTO_HASHES_MAX && (page = page_of(o, p.gfn + p.count))) {
		hashes_put(&c, o->seed, page, PLATFORM_PAGE_BYTES);
		p.count++;
	}
	o->next = p.gfn + p.count;
	if (!p.count)
		return false;
	pthread_mutex_lock(&o->lock);
	slot = &o->slot[o->asked++ % PROTO_HASHES_OPEN];
	slot->gfn = p.gfn;
	slot->count = p.count;
	pthread_mutex_unlock(&o->lock);
	*ret = (struct message){
		.type = PROTO_PAGE_HASHES,
		.pages = p,
		.tail = o->hashes,
		.tail_len = (uint32_t)(c.pos - o->hashes),
	};
	return true;
}

int offer_take(struct offer *o, struct offer_answer *ret)
{
	eventfd_t ignored;
	int r = 0;

	pthread_mutex_lock(&o->lock);
	if (o->taken == o->asked) {
		r = -ENODATA;
	} else if (o->taken == o->answered) {
		r = -EAGAIN;
		eventfd_read(o->answer_fd, &ignored);
	} else {
		*ret = o->slot[o->taken++ % PROTO_HASHES_OPEN];
	}
	pthread_mutex_unlock(&o->lock);
	return r;
}

int offer_answered(void *opaque, const struct message *m, struct refusal *why)
{
	struct offer *o = opaque;
	struct offer_answer *slot;
	int r = 0;

	if (m->type != PROTO_PAGES_LACKED)
		return refusal_set(why, PROTO_UNEXPECTED, "%s is not for this side",
				   proto_type_name(m->type));
	pthread_mutex_lock(&o->lock);
	slot = &o->slot[o->answered % PROTO_HASHES_OPEN];
	if (o->answered == o->asked)
		r = refusal_set(why, PROTO_UNEXPECTED, "PAGES_LACKED where nothing was asked");
	else if (m->pages.gfn != slot->gfn || m->pages.count != slot->count)
		r = refusal_set(why, PROTO_BAD_PAYLOAD,
				"PAGES_LACKED of %u pages from %" PRIu64 " on, asked was for %u "
				"from %" PRIu64,
				m->pages.count, m->pages.gfn, slot->count, slot->gfn);
	if (!r) {
		memcpy(slot->lacked, m->tail, m->tail_len);
		o->answered++;
		eventfd_write(o->answer_fd, 1);
	}
	pthread_mutex_unlock(&o->lock);
	return r;
}

int offer_judge(struct platform *platform, uint64_t seed, const struct message *m, uint8_t *ret,
		struct refusal *why)
{
	struct cursor c = cursor_over(m->tail, m->tail_len);
	const struct proto_pages *p = &m->pages;

	memset(ret, 0, PROTO_HASHES_MAX / 8);
	for (uint32_t i = 0; i < p->count; i++) {
		const void *page = p->gfn + i < platform->nr_gfns
					   ? platform->ops->page(platform, p->gfn + i)
					   : NULL;

		if (!page)
			return refusal_set(why, PROTO_BAD_PAGES,
					   "the hash of page %" PRIu64
					   ", where the VM has no memory",
					   p->gfn + i);
		/* The fault is the test's that the memory oracle notices a hash that lies. */
		if (!hashes_same(&c, seed, page, PLATFORM_PAGE_BYTES) && !fault_at("offer.blind"))
			ret[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return 0;
}
