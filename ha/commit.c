/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/commit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/blackbox.h"
#include "base/fault.h"
#include "disk-replica/apply.h"
#include "ha/check.h"
#include "ha/mailbox.h"
#include "ha/pending.h"
#include "ha/platform.h"

struct commit {
	struct commit_config config;
	pthread_t thread;
	bool joined;
	int error;		      /* why `failed` is not applied */
	struct pending_epoch *failed; /* taken, and kept: it can be applied from its beginning */
	_Atomic uint64_t last, arrived_ns;
};

static int apply_pages(struct commit *c, const struct pending_epoch *e)
{
	struct platform *p = c->config.platform;
	struct pending_iter it = pending_records(e);
	struct page_record r;
	int err = 0;

	while (!err && pending_next(&it, &r))
		err = platform_apply(p, &r);
	return err;
}

/* Disks first: they are what can fail. */
static int apply_one(struct commit *c, const struct pending_epoch *e, struct reason *why)
{
	const struct commit_config *f = &c->config;
	int r = 0;

	if (fault_at("commit.begin"))
		return reason_set(why, EIO, "fault point commit.begin");
	if (f->apply && !c->last)
		r = apply_sync(f->apply, why);
	if (!r && f->apply && (c->last || apply_keeps(f->apply)))
		r = apply_epoch(f->apply, f->log, e->epoch, why);
	if (!r)
		r = apply_pages(c, e);
	if (fault_at("commit.state"))
		return reason_set(why, EIO, "fault point commit.state");
	if (!r)
		r = platform_keep_state(f->platform, e->state.bytes, e->state.total);
	if (r && !why->text[0])
		reason_set(why, -r, "epoch %llu cannot be committed: %s",
			   (unsigned long long)e->epoch, strerror(-r));
	return r;
}

static void failed(struct commit *c, int err, const struct reason *why)
{
	struct letter l = { .kind = LETTER_FAILED, .why = *why };

	l.reason_why = err == -ENOSPC ? ROLE_WHY_NO_SPACE
		       : err == -EIO  ? ROLE_WHY_DISK_ERROR
				      : ROLE_WHY_LOCAL_ERROR;
	mailbox_post(c->config.mailbox, &l);
}

static bool oracle_disagrees(struct commit *c, const struct pending_epoch *e)
{
	return e->hashed && platform_hash(c->config.platform, NULL) != e->memory_hash;
}

static int commit_one(struct commit *c, struct pending_epoch *e, struct reason *why)
{
	struct letter l = { .kind = LETTER_COMMITTED, .epoch = e->epoch };
	int r = apply_one(c, e, why);

	blackbox_record("commit", e->epoch, (uint64_t)-r);
	c->error = r;
	c->failed = r ? e : NULL;
	if (r)
		return r;
	l.active = e->hashed;
	l.value = oracle_disagrees(c, e);
	c->arrived_ns = e->arrived_ns;
	c->last = e->epoch;
	pending_release(c->config.pending, e);
	if (c->joined)
		return 0; /* this is the reader itself */
	check_compare(c->config.check, l.epoch);
	mailbox_post(c->config.mailbox, &l);
	return 0;
}

/* Ends with the first epoch that fails: what follows would be in the wrong order. */
static void *run(void *opaque)
{
	struct commit *c = opaque;
	struct pending_epoch *e;
	struct reason why = { 0 };

	while ((e = pending_take(c->config.pending))) {
		if (!commit_one(c, e, &why))
			continue;
		failed(c, c->error, &why);
		break;
	}
	return NULL;
}

int commit_open(const struct commit_config *config, struct commit **ret)
{
	struct commit *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->config = *config;
	r = -pthread_create(&c->thread, NULL, run, c);
	if (r) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void join(struct commit *c)
{
	check_stop(c->config.check);
	if (!c->joined)
		pthread_join(c->thread, NULL);
	c->joined = true;
}

int commit_finish(struct commit *c, struct reason *why)
{
	struct pending_epoch *e;
	int r = 0;

	join(c);
	if (c->failed) {
		r = c->config.apply ? apply_again(c->config.apply, why) : 0;
		if (!r)
			r = commit_one(c, c->failed, why);
	}
	while (!r && (e = pending_take(c->config.pending)))
		r = commit_one(c, e, why);
	return r;
}

void commit_abandon(struct commit *c)
{
	join(c);
	if (c->failed)
		pending_release(c->config.pending, c->failed);
	c->failed = NULL;
}

void commit_close(struct commit *c)
{
	if (!c)
		return;
	commit_abandon(c);
	free(c);
}

uint64_t commit_last(struct commit *c, uint64_t *ret_arrived_ns)
{
	*ret_arrived_ns = c->arrived_ns;
	return c->last;
}
