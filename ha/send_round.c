/* SPDX-License-Identifier: Apache-2.0 */
/* send.h: live rounds, and the comparison of hashes that the first of them may begin with. */
#include "ha/send_impl.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "ha/capture.h"
#include "ha/delta.h"
#include "ha/encode.h"
#include "ha/mailbox.h"
#include "ha/transport.h"
#include "ha/verify.h"

#define ROUND_SLICE 256u /* pages between two looks at the mirror */

/* Pages of a running guest may be torn; they are dirty again then, and come again. What is
 * looked at and what is sent are the same copy. */
static int send_page(struct sender *s, uint64_t gfn)
{
	struct platform *p = s->config.capture->platform;
	const void *page = p->ops->page(p, gfn);
	int r = 0;

	if (page) {
		memcpy(s->page, page, sizeof(s->page));
		if (!s->round_before && s->config.zeroed && page_is_zero(s->page))
			s->kept_pages++;
		else
			r = encode_page(s->encoder, gfn, s->page);
	}
	if (!r && ++s->round_done % ROUND_SLICE == 0)
		r = sender_stops(s) ? -ECANCELED : sender_drain(s);
	return r;
}

static int ask(struct sender *s)
{
	struct message m;
	int r = 0;

	while (!r && offer_ask(s->config.offer, &m)) {
		s->hash_bytes += m.tail_len;
		r = sender_message(s, &m);
		if (!r)
			r = transport_flush(s->config.bulk, clock_now_ns() + PROTO_SEND_NS,
					    &s->why);
		if (!r)
			r = sender_stops(s) ? -ECANCELED : sender_drain(s);
	}
	return r;
}

/* The mirror is drained meanwhile: a ring that is full stops the guest's disk. */
static int await_answer(struct sender *s, uint64_t deadline_ns)
{
	struct pollfd p[3] = {
		{ .fd = offer_fd(s->config.offer), .events = POLLIN },
		{ .fd = s->wake_fd, .events = POLLIN },
		{ .fd = s->config.mirror ? mirror_wait_fd(s->config.mirror) : -1,
		  .events = POLLIN },
	};
	uint64_t now = clock_now_ns();
	eventfd_t ignored;

	if (now >= deadline_ns)
		return reason_set(&s->why.why, ETIMEDOUT,
				  "the backup does not answer which pages it lacks");
	if (poll(p, 3, (int)((deadline_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
		return -errno;
	if (p[1].revents)
		eventfd_read(s->wake_fd, &ignored);
	if (p[2].revents)
		mirror_wait_clear(s->config.mirror);
	return sender_stops(s) ? -ECANCELED : sender_drain(s);
}

static int send_lacked(struct sender *s)
{
	const struct offer_answer *a = &s->answer;
	int r = 0;

	for (uint32_t i = 0; !r && i < a->count; i++) {
		if (a->lacked[i / 8] >> i % 8 & 1) {
			r = send_page(s, a->gfn + i);
		} else {
			s->kept_pages++;
			s->round_done++;
		}
	}
	return r;
}

static int do_offered_round(struct sender *s)
{
	uint64_t deadline = clock_now_ns() + PROTO_SEND_NS;
	int r = 0;

	while (!r) {
		r = ask(s);
		if (!r)
			r = offer_take(s->config.offer, &s->answer);
		if (r == -EAGAIN) {
			r = await_answer(s, deadline);
		} else if (!r) {
			r = send_lacked(s);
			deadline = clock_now_ns() + PROTO_SEND_NS;
		}
	}
	return r == -ENODATA ? 0 : r;
}

static int do_whole_round(struct sender *s)
{
	const struct capture *c = s->config.capture;
	int r = 0;

	bitmap_for_each (gfn, c->round, c->platform->nr_gfns) {
		r = send_page(s, gfn);
		if (r)
			break;
	}
	return r;
}

int sender_do_round(struct sender *s)
{
	const struct capture *c = s->config.capture;
	struct letter l = { .kind = LETTER_ROUND_SENT, .session = s->config.session };
	int r;

	s->round_pages = bitmap_count(c->round, c->platform->nr_gfns);
	s->round_done = 0;
	if (s->config.verify)
		verify_round(s->config.verify, c->round);
	r = s->config.offer && !s->round_before ? do_offered_round(s) : do_whole_round(s);
	s->round_before = true;
	if (!r)
		r = encode_flush(s->encoder);
	sender_count(s);
	if (!r)
		r = sender_drain(s);
	if (!r)
		r = transport_flush(s->config.bulk, clock_now_ns() + PROTO_SEND_NS, &s->why);
	if (!r)
		mailbox_post(s->config.mailbox, &l);
	return r;
}
