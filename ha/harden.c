/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/harden.h"

#include <pthread.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/apply.h"
#include "disk-replica/log.h"
#include "ha/mailbox.h"

#define WAITING_MAX 16u /* pending.h holds no more epochs */

struct harden {
	struct harden_config config;
	pthread_t thread;
	bool synced; /* the first copy is on the disks; the thread's, as `failed` */
	bool failed;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock */
	struct letter waiting[WAITING_MAX];
	unsigned int count;
	bool end;
};

/* All that wait, at once: one sync serves them. False: the end. */
static bool take(struct harden *h, struct letter *ret, unsigned int *ret_count)
{
	bool end;

	pthread_mutex_lock(&h->lock);
	while (!h->count && !h->end)
		pthread_cond_wait(&h->changed, &h->lock);
	end = h->end;
	*ret_count = h->count;
	memcpy(ret, h->waiting, h->count * sizeof(*ret));
	h->count = 0;
	pthread_mutex_unlock(&h->lock);
	return !end;
}

static int make_durable(struct harden *h, struct reason *why)
{
	int r = 0;

	if (!h->synced)
		r = apply_sync(h->config.apply, why);
	if (!r)
		r = disk_log_sync(h->config.log, why);
	if (!r && fault_at("harden.tell"))
		r = reason_set(why, EIO, "fault point harden.tell");
	h->synced |= !r;
	return r;
}

/* In the name of the link, as in assemble.c: once that is gone, what is sealed is enough. */
static void fail(struct harden *h, uint64_t session, int err, const struct reason *why)
{
	struct letter l = { .kind = LETTER_FAILED,
			    .session = session,
			    .reason_why = err == -ENOSPC ? ROLE_WHY_NO_SPACE : ROLE_WHY_DISK_ERROR,
			    .why = *why };

	h->failed = true;
	mailbox_post(h->config.mailbox, &l);
}

static void *run(void *opaque)
{
	struct harden *h = opaque;
	struct letter taken[WAITING_MAX];
	unsigned int n;

	while (take(h, taken, &n)) {
		struct reason why = { 0 };
		int r = h->failed ? -EIO : make_durable(h, &why);
		uint64_t now = clock_now_ns();

		blackbox_record("durable", taken[n - 1].epoch, (uint64_t)-r);
		if (r && !h->failed)
			fail(h, taken[0].session, r, &why);
		for (unsigned int i = 0; !r && i < n; i++) {
			taken[i].age_ns = now - taken[i].age_ns;
			mailbox_post(h->config.mailbox, &taken[i]);
		}
	}
	return NULL;
}

int harden_open(const struct harden_config *config, struct harden **ret)
{
	struct harden *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->config = *config;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	r = -pthread_create(&h->thread, NULL, run, h);
	if (r) {
		free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void harden_close(struct harden *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->end = true;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void harden_add(struct harden *h, const struct letter *l)
{
	pthread_mutex_lock(&h->lock);
	assert(h->count < WAITING_MAX);
	h->waiting[h->count] = *l;
	h->waiting[h->count++].age_ns = clock_now_ns();
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
}
