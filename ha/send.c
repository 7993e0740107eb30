/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/send_impl.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "base/bitmap.h"
#include "base/blackbox.h"
#include "base/clock.h"
#include "base/fault.h"
#include "disk-replica/copy.h"
#include "disk-replica/log_record.h"
#include "ha/capture.h"
#include "ha/encode.h"
#include "ha/mailbox.h"
#include "ha/transport.h"
#include "ha/verify.h"

int sender_message(struct sender *s, struct message *m)
{
	m->generation = s->config.generation;
	m->epoch = s->open_epoch;
	return transport_send(s->config.bulk, m, clock_now_ns() + PROTO_SEND_NS, &s->why);
}

static int emit_pages(void *opaque, const void *payload, uint32_t len, unsigned int records)
{
	struct sender *s = opaque;
	struct message m = { .type = PROTO_PAGES, .tail = payload, .tail_len = len };

	s->pages_sent += records;
	return sender_message(s, &m);
}

int sender_record(struct sender *s, const struct disk_record *r, bool initial)
{
	struct message m = {
		.disk = { .disk = r->disk, .offset = r->offset, .length = r->length },
	};

	switch (r->op) {
	case CONTROL_DISK_WRITE:
		m.type = initial ? PROTO_DISK_DATA : PROTO_DISK_WRITE;
		m.tail = r->data;
		m.tail_len = (uint32_t)r->length;
		break;
	case CONTROL_DISK_FLUSH:
		m.type = PROTO_DISK_FLUSH;
		break;
	case CONTROL_DISK_DISCARD:
		m.type = PROTO_DISK_DISCARD;
		break;
	case CONTROL_DISK_ZEROES:
		m.type = PROTO_DISK_ZEROES;
		break;
	}
	s->disk_ops_sent++;
	if (!initial) {
		s->disk_bytes += m.tail_len;
		s->log_bytes += s->open_epoch > 1 ? log_record_size(r) : 0;
	}
	return sender_message(s, &m);
}

static bool log_is_full(const struct sender *s)
{
	return s->config.log_limit_bytes && s->log_bytes >= s->config.log_limit_bytes;
}

/* Up to where records certainly belong to the open epoch. */
static struct mirror_mark drain_limit(struct sender *s)
{
	struct mirror_mark limit = s->drained;
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < s->count && !found; i++) {
		const struct job *j = &s->job[(s->first + i) % JOBS_MAX];

		if (j->slot) {
			limit = j->slot->disk_limit;
			found = true;
		}
	}
	if (!found && !s->cutting)
		mirror_now(s->config.mirror, &limit);
	pthread_mutex_unlock(&s->lock);
	return limit;
}

/* All of it, when an epoch was cut there; else as much as the backup's log is to hold. */
static int drain(struct sender *s, const struct mirror_mark *limit, bool all)
{
	struct disk_record r;
	int err;

	for (;;) {
		if (!all && log_is_full(s))
			return 0;
		err = mirror_next(s->config.mirror, limit, &r, &s->why.why);
		if (err)
			break;
		if (s->config.verify)
			verify_record(s->config.verify, &r);
		err = sender_record(s, &r, false);
		if (err)
			return err;
	}
	s->drained = *limit;
	return err == -EAGAIN ? 0 : err;
}

int sender_drain(struct sender *s)
{
	struct mirror_mark limit;

	if (!s->config.mirror)
		return 0;
	limit = drain_limit(s);
	return drain(s, &limit, false);
}

static int send_state(struct sender *s, const struct stage_slot *slot)
{
	for (uint32_t at = 0; at < slot->state_len;) {
		uint32_t len = MIN(slot->state_len - at, PROTO_PAYLOAD_MAX / 2);
		struct message m = {
			.type = PROTO_STATE,
			.state = { .offset = at, .total = slot->state_len },
			.tail = slot->state + at,
			.tail_len = len,
		};
		int r = sender_message(s, &m);

		if (r)
			return r;
		at += len;
	}
	return 0;
}

static int send_hash(struct sender *s, const struct stage_slot *slot)
{
	struct message m = {
		.type = PROTO_HASH,
		.hash = { .epoch = slot->epoch, .hash = slot->memory_hash },
	};

	return slot->hashed ? sender_message(s, &m) : 0;
}

/* The letter goes before the frame, so that no acknowledgement can overtake it. */
static int send_end(struct sender *s, const struct stage_slot *slot)
{
	struct letter l = { .kind = LETTER_SENDING_END,
			    .session = s->config.session,
			    .epoch = slot->epoch,
			    .value = transport_epoch_digest(s->config.bulk, slot->epoch) };
	struct message m = {
		.type = PROTO_EPOCH_END,
		.end = { .pages = s->pages_sent,
			 .disk_ops = s->disk_ops_sent,
			 .state_bytes = slot->state_len,
			 .sent_ns = clock_now_ns() },
	};
	int r;

	blackbox_record("end", slot->epoch, s->pages_sent);
	mailbox_post(s->config.mailbox, &l);
	r = sender_message(s, &m);
	if (!r)
		r = transport_flush(s->config.bulk, clock_now_ns() + PROTO_SEND_NS, &s->why);
	s->pages_sent = 0;
	s->disk_ops_sent = 0;
	s->log_bytes = 0; /* before the epoch that it is said to be of */
	s->open_epoch++;
	return r;
}

void sender_count(struct sender *s)
{
	const struct encode_counters *c = encode_counters(s->encoder);

	s->bytes_raw = c->bytes_raw;
	s->bytes_wire = c->bytes_wire + s->hash_bytes;
}

static int do_epoch(struct sender *s, const struct stage_slot *slot)
{
	int r = 0;

	assert(slot->epoch == s->open_epoch);
	blackbox_record("encode", slot->epoch, slot->nr_pages);
	if (s->config.mirror) {
		r = mirror_check(s->config.mirror, &s->why.why);
		s->disk_lost = r != 0;
		if (!r)
			r = drain(s, &slot->disk_limit, true);
	}
	if (!r)
		r = sender_verify_epoch(s, slot);
	for (uint64_t i = 0; !r && i < slot->nr_pages; i++)
		r = encode_page(s->encoder, slot->gfn[i], slot->pages + i * PLATFORM_PAGE_BYTES);
	if (!r)
		r = encode_flush(s->encoder);
	sender_count(s);
	if (!r)
		r = send_state(s, slot);
	if (!r)
		r = send_hash(s, slot);
	return r ? r : send_end(s, slot);
}

bool sender_stops(struct sender *s)
{
	bool stopping;

	pthread_mutex_lock(&s->lock);
	stopping = s->stopping;
	pthread_mutex_unlock(&s->lock);
	return stopping;
}

/* Data counts at the cap, holes and zeroes cost next to nothing. Time that went unused is not
 * made up for. */
static void charge(struct sender *s, const struct disk_record *r)
{
	uint64_t now = clock_now_ns();

	if (!s->config.copy_cap || r->op != CONTROL_DISK_WRITE)
		return;
	s->copy_next_ns = MAX(s->copy_next_ns, now) + r->length * NS_PER_S / s->config.copy_cap;
}

static void note_position(struct sender *s)
{
	pthread_mutex_lock(&s->lock);
	s->at.ops = s->disk_ops_sent;
	copy_position(s->config.copy, &s->at.disk, &s->at.offset);
	pthread_mutex_unlock(&s->lock);
	s->copied_bytes = copy_done_bytes(s->config.copy);
}

/* One piece of the disks' first copy, then what the guest wrote meanwhile. */
static int copy_step(struct sender *s)
{
	struct disk_record r;
	int err = fault_at("copy.next") ? -EIO : copy_next(s->config.copy, &r, &s->why.why);

	if (err == -ENODATA) {
		s->copied = true;
		note_position(s);
		err = sender_drain(s);
		s->disks_copied = !err;
		return err;
	}
	if (!err)
		err = sender_record(s, &r, true);
	if (err)
		return err;
	charge(s, &r);
	note_position(s);
	return sender_drain(s);
}

void sender_position(struct sender *s, struct sender_position *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->at;
	pthread_mutex_unlock(&s->lock);
}

static bool take_job(struct sender *s, struct job *ret)
{
	bool taken = false;

	pthread_mutex_lock(&s->lock);
	if (s->count && !s->stopping) {
		*ret = s->job[s->first];
		s->first = (s->first + 1) % JOBS_MAX;
		s->count--;
		taken = true;
	}
	pthread_mutex_unlock(&s->lock);
	return taken;
}

static int wait_for_work(struct sender *s)
{
	struct pollfd p[2] = {
		{ .fd = s->wake_fd, .events = POLLIN },
		{ .fd = s->config.mirror ? mirror_wait_fd(s->config.mirror) : -1,
		  .events = POLLIN },
	};
	eventfd_t ignored;
	int r = sender_drain(s);

	if (!r)
		r = transport_flush(s->config.bulk, clock_now_ns() + PROTO_SEND_NS, &s->why);
	if (r)
		return r;
	if (poll(p, 2, s->copied ? -1 : clock_ms_until(s->copy_next_ns)) < 0 && errno != EINTR)
		return -errno;
	if (p[0].revents)
		eventfd_read(s->wake_fd, &ignored);
	if (p[1].revents)
		mirror_wait_clear(s->config.mirror);
	return 0;
}

static void *run(void *opaque)
{
	struct sender *s = opaque;
	struct letter l = { .kind = LETTER_BROKEN, .session = s->config.session };
	struct job job;
	int r = 0;

	while (!r && !sender_stops(s)) {
		if (take_job(s, &job))
			r = job.slot ? do_epoch(s, job.slot) : sender_do_round(s);
		else if (!s->copied && clock_now_ns() >= s->copy_next_ns)
			r = copy_step(s);
		else if (sender_verify_due(s))
			r = sender_verify(s);
		else
			r = wait_for_work(s);
	}
	if (r && !sender_stops(s)) {
		if (!s->why.why.text[0])
			reason_set(&s->why.why, -r, "sending: %s", strerror(-r));
		l.why = s->why.why;
		if (s->disk_lost)
			l.kind = LETTER_FAILED;
		mailbox_post(s->config.mailbox, &l);
	}
	return NULL;
}

static void push(struct sender *s, const struct job *job)
{
	pthread_mutex_lock(&s->lock);
	assert(s->count < JOBS_MAX);
	s->job[(s->first + s->count++) % JOBS_MAX] = *job;
	if (job->slot)
		s->cutting = false;
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->wake_fd, 1);
}

void sender_round(struct sender *s, uint64_t epoch)
{
	push(s, &(struct job){ .epoch = epoch });
}

void sender_epoch(struct sender *s, const struct stage_slot *slot)
{
	push(s, &(struct job){ .slot = slot, .epoch = slot->epoch });
}

static void set_cutting(struct sender *s, bool cutting)
{
	pthread_mutex_lock(&s->lock);
	s->cutting = cutting;
	pthread_mutex_unlock(&s->lock);
}

void sender_cut(struct sender *s)
{
	set_cutting(s, true);
}

void sender_uncut(struct sender *s)
{
	set_cutting(s, false);
	eventfd_write(s->wake_fd, 1);
}

bool sender_disks_copied(struct sender *s)
{
	return s->disks_copied;
}

void sender_progress(struct sender *s, struct sender_progress *ret)
{
	*ret = (struct sender_progress){
		.copied_bytes = s->copied_bytes,
		.total_bytes = s->total_bytes,
		.round_done = s->round_done,
		.round_pages = s->round_pages,
		.bytes_raw = s->bytes_raw,
		.bytes_wire = s->bytes_wire,
		.kept_pages = s->kept_pages,
		.disk_bytes = s->disk_bytes,
		.open_epoch = s->open_epoch,
		.log_bytes = s->log_bytes,
	};
}

int sender_open(const struct sender_config *config, struct sender **ret)
{
	struct sender *s = calloc(1, sizeof(*s));
	struct encode_options o = { .codec = config->codec,
				    .delta = config->delta,
				    .cache_bytes = config->cache_bytes,
				    .emit = emit_pages,
				    .opaque = s };
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->open_epoch = 1;
	s->copied = !config->copy;
	s->disks_copied = s->copied;
	s->total_bytes = config->copy ? copy_total_bytes(config->copy) : 0;
	if (config->mirror)
		mirror_now(config->mirror, &s->drained);
	pthread_mutex_init(&s->lock, NULL);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->wake_fd < 0 ? -errno : encode_open(&s->encoder, &o);
	if (r)
		goto err_free;
	r = -pthread_create(&s->thread, NULL, run, s);
	if (r)
		goto err_encoder;
	*ret = s;
	return 0;
err_encoder:
	encode_close(s->encoder);
err_free:
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return r;
}

void sender_close(struct sender *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->wake_fd, 1);
	pthread_join(s->thread, NULL);
	encode_close(s->encoder);
	close(s->wake_fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
