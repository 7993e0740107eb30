/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/assemble.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/apply.h"
#include "disk-replica/log.h"
#include "ha/check.h"
#include "ha/decode.h"
#include "ha/harden.h"
#include "ha/mailbox.h"
#include "ha/offer.h"
#include "ha/pending.h"
#include "ha/platform.h"

#define ROOM_WAIT_NS (100 * NS_PER_MS)
#define ROOM_TRIES   200u

struct assembler {
	struct assemble_config config;
	struct decoder *decoder;
	pthread_mutex_t lock; /* held while a frame is taken */
	bool ended;	      /* lock */
	bool direct;	      /* the first epoch: straight to the standby */
	struct pending_epoch *epoch;
	_Atomic uint64_t bytes_raw, disk_ops;
};

/* The primary did nothing wrong: this host cannot go on. Said in the name of the link: once
 * that is gone, what is sealed is whole, and a takeover needs no more. */
static int local_failure(struct assembler *a, int err, enum role_why reason_why,
			 const struct reason *text, struct refusal *why)
{
	struct letter l = { .kind = LETTER_FAILED,
			    .session = a->config.session,
			    .reason_why = reason_why,
			    .why = *text };
	bool disk = reason_why == ROLE_WHY_DISK_ERROR || reason_why == ROLE_WHY_NO_SPACE;

	if (err == -ECANCELED) {
		a->ended = true;
		return 0;
	}
	mailbox_post(a->config.mailbox, &l);
	return refusal_set(why, disk ? PROTO_DISK_FAILED : PROTO_NO_MEMORY, "%s", text->text);
}

static int take_page(void *opaque, const struct page_record *r)
{
	struct assembler *a = opaque;

	/* Asked now, while refusing it changes nothing; the commit could only fail. */
	if (!a->config.platform->ops->page(a->config.platform, r->gfn))
		return -EFAULT;
	a->epoch->pages++;
	a->bytes_raw += PLATFORM_PAGE_BYTES;
	return a->direct ? platform_apply(a->config.platform, r)
			 : pending_add(a->config.pending, a->epoch, r);
}

static int take_pages(struct assembler *a, const struct message *m, struct refusal *why)
{
	int r = decode_pages(a->decoder, m->tail, m->tail_len, take_page, a);
	struct reason text;

	if (r >= 0)
		return 0;
	if (decode_refusal(a->decoder)->code != PROTO_OK) {
		*why = *decode_refusal(a->decoder);
		return r;
	}
	if (r == -EFAULT)
		return refusal_set(why, PROTO_BAD_PAGES, "a page where the VM has no memory");
	reason_set(&text, -r, "epoch %" PRIu64 " does not fit: %s", m->epoch, strerror(-r));
	return local_failure(a, r, r == -ENOSPC ? ROLE_WHY_NO_SPACE : ROLE_WHY_LOCAL_ERROR, &text,
			     why);
}

static enum control_disk_op disk_op(uint16_t type)
{
	if (type == PROTO_DISK_FLUSH)
		return CONTROL_DISK_FLUSH;
	if (type == PROTO_DISK_DISCARD)
		return CONTROL_DISK_DISCARD;
	if (type == PROTO_DISK_ZEROES)
		return CONTROL_DISK_ZEROES;
	return CONTROL_DISK_WRITE;
}

/* A full log is emptied by commits, and as what is kept reaches DRBD; if it is full of this
 * epoch alone, nothing helps. */
static int make_room(struct assembler *a, struct reason *text)
{
	int err = pending_wait_idle(a->config.pending);

	if (!err && apply_keeps(a->config.apply))
		disk_log_wait_release(a->config.log, ROOM_WAIT_NS);
	return err ? err : apply_reclaim(a->config.apply, a->config.log, text);
}

/* A record, or the seal without one. */
static int log_put(struct assembler *a, uint64_t epoch, const struct disk_record *r,
		   struct reason *text)
{
	unsigned int tries = apply_keeps(a->config.apply) ? ROOM_TRIES : 1;
	int err;

	for (;;) {
		err = r ? disk_log_append(a->config.log, epoch, r, text)
			: disk_log_seal(a->config.log, epoch, text);
		if (err != -ENOSPC || !tries--)
			return err;
		err = make_room(a, text);
		if (err)
			return err;
	}
}

static enum role_why disk_why(int err)
{
	return err == -ENOSPC ? ROLE_WHY_NO_SPACE : ROLE_WHY_DISK_ERROR;
}

static int take_disk(struct assembler *a, const struct message *m, struct refusal *why)
{
	struct disk_record r = { .op = disk_op(m->type),
				 .disk = m->disk.disk,
				 .offset = m->disk.offset,
				 .length = m->disk.length,
				 .data = m->tail_len ? m->tail : NULL };
	struct reason text = { 0 };
	int err;

	if (m->type == PROTO_DISK_DATA && !a->direct)
		return refusal_set(why, PROTO_UNEXPECTED, "disk data after the first epoch");
	if (disk_record_check(&r, a->config.disks, a->config.nr_disks, &text))
		return refusal_set(why, PROTO_BAD_PAYLOAD, "%s", text.text);
	a->epoch->disk_ops++;
	err = a->direct && !disk_is_drbd(&a->config.disks[r.disk])
		      ? apply_record(a->config.apply, &r, &text)
		      : log_put(a, m->epoch, &r, &text);
	a->disk_ops += !err && a->direct;
	if (!err)
		return 0;
	return local_failure(a, err, disk_why(err), &text, why);
}

static int check_end(const struct assembler *a, const struct message *m, struct refusal *why)
{
	const struct pending_epoch *e = a->epoch;

	if (m->end.pages != e->pages || m->end.disk_ops != e->disk_ops)
		return refusal_set(why, PROTO_BAD_DIGEST,
				   "epoch %" PRIu64 " claims %" PRIu64 " pages and %" PRIu64
				   " disk changes, %" PRIu64 " and %" PRIu64 " arrived",
				   m->epoch, m->end.pages, m->end.disk_ops, e->pages, e->disk_ops);
	if (!state_assembly_whole(&e->state) || m->end.state_bytes != e->state.total)
		return refusal_set(why, PROTO_BAD_DIGEST,
				   "epoch %" PRIu64 " claims %" PRIu64 " bytes of state, %u of %u "
				   "arrived",
				   m->epoch, m->end.state_bytes, e->state.have, e->state.total);
	return 0;
}

static int take_end(struct assembler *a, const struct message *m, struct refusal *why)
{
	struct letter l = { .kind = LETTER_EPOCH_WHOLE,
			    .session = a->config.session,
			    .generation = a->config.generation,
			    .epoch = m->epoch,
			    .value = m->end.digest };
	struct reason text = { 0 };
	int r = check_end(a, m, why);

	if (r)
		return r;
	if (fault_at("assemble.end"))
		return refusal_set(why, PROTO_INTERNAL, "fault point assemble.end");
	if (a->config.log && (!a->direct || apply_keeps(a->config.apply))) {
		r = log_put(a, m->epoch, NULL, &text);
		if (r == -EPROTO)
			return refusal_set(why, PROTO_BAD_EPOCH, "%s", text.text);
		if (r)
			return local_failure(a, r, disk_why(r), &text, why);
	}
	blackbox_record("whole", m->epoch, a->epoch->pages);
	a->epoch->digest = m->end.digest;
	pending_complete(a->config.pending, a->epoch);
	a->epoch = NULL;
	a->direct = false;
	if (a->config.harden)
		harden_add(a->config.harden, &l);
	else
		mailbox_post(a->config.mailbox, &l);
	return 0;
}

/* On this thread, which is not the one of heartbeats, and in the order of the frames: pages
 * that come later cannot be taken for what was compared. */
static int take_hashes(struct assembler *a, const struct message *m, struct refusal *why)
{
	struct transport *t = a->config.answer_on;
	uint8_t lacked[PROTO_HASHES_MAX / 8];
	struct message answer = {
		.type = PROTO_PAGES_LACKED,
		.generation = a->config.generation,
		.pages = m->pages,
		.tail = lacked,
		.tail_len = (m->pages.count + 7) / 8,
	};
	uint64_t deadline = clock_now_ns() + PROTO_SEND_NS;
	int r;

	if (m->type != PROTO_PAGE_HASHES || !t || !a->direct)
		return refusal_set(why, PROTO_UNEXPECTED, "%s %s", proto_type_name(m->type),
				   a->direct ? "for what was not kept" : "after the first epoch");
	r = offer_judge(a->config.platform, transport_session(t), m, lacked, why);
	if (!r)
		r = transport_send(t, &answer, deadline, why);
	return r ? r : transport_flush(t, deadline, why);
}

static int begin(struct assembler *a, uint64_t epoch, struct refusal *why)
{
	int r;

	if (a->epoch && a->epoch->epoch == epoch)
		return 0;
	if (a->epoch)
		return refusal_set(why, PROTO_BAD_EPOCH,
				   "epoch %" PRIu64 " begins before %" PRIu64 " has ended", epoch,
				   a->epoch->epoch);
	r = pending_current(a->config.pending, epoch, &a->epoch);
	if (r == -ECANCELED)
		a->ended = true;
	else if (r)
		return refusal_set(why, PROTO_BAD_EPOCH, "epoch %" PRIu64 " is out of turn", epoch);
	return 0;
}

static int take(struct assembler *a, const struct message *m, struct refusal *why)
{
	bool hashes = m->type == PROTO_PAGE_HASHES || m->type == PROTO_DISK_HASHES;
	int r;

	if (hashes && (a->direct || !a->config.check))
		return take_hashes(a, m, why);
	if (!hashes && !frame_is_data(m->type) && m->type != PROTO_EPOCH_END &&
	    m->type != PROTO_HASH)
		return refusal_set(why, PROTO_UNEXPECTED, "%s on the bulk connection",
				   proto_type_name(m->type));
	r = begin(a, m->epoch, why);
	if (r || a->ended)
		return r;
	if (hashes)
		return check_ask(a->config.check, m, why);
	if (m->type == PROTO_PAGES)
		return take_pages(a, m, why);
	if (m->type == PROTO_STATE)
		return state_assembly_add(&a->epoch->state, m, why);
	if (m->type == PROTO_EPOCH_END)
		return take_end(a, m, why);
	if (m->type == PROTO_HASH) {
		a->epoch->hashed = true;
		a->epoch->memory_hash = m->hash.hash;
		return 0;
	}
	if (!a->config.apply)
		return refusal_set(why, PROTO_UNEXPECTED, "a disk change for a VM without disks");
	return take_disk(a, m, why);
}

int assemble_frame(void *opaque, const struct message *m, struct refusal *why)
{
	struct assembler *a = opaque;
	int r;

	pthread_mutex_lock(&a->lock);
	r = a->ended ? 0 : take(a, m, why);
	pthread_mutex_unlock(&a->lock);
	return r;
}

void assemble_end(struct assembler *a)
{
	pthread_mutex_lock(&a->lock);
	a->ended = true;
	pthread_mutex_unlock(&a->lock);
}

int assemble_open(const struct assemble_config *config, struct assembler **ret)
{
	struct decode_options o = { .nr_gfns = config->platform->nr_gfns,
				    .codecs = config->codecs,
				    .delta = config->delta };
	struct assembler *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->config = *config;
	a->direct = true;
	pthread_mutex_init(&a->lock, NULL);
	r = decode_open(&a->decoder, &o);
	if (r) {
		free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void assemble_close(struct assembler *a)
{
	if (!a)
		return;
	decode_close(a->decoder);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

uint64_t assemble_disk_ops(const struct assembler *a)
{
	return a->disk_ops;
}

uint64_t assemble_bytes_raw(const struct assembler *a)
{
	return a->bytes_raw;
}
