/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying memory to a standby that has memory of this VM already: the primary offers hashes of
 * its pages (PAGE_HASHES), the backup compares them with its own and answers which it lacks
 * (PAGES_LACKED), and only those are sent. A batch is at most PROTO_HASHES_MAX pages; up to
 * PROTO_HASHES_OPEN of them wait for their answers, so that a long link stays busy.
 *
 * Why the guest may write meanwhile. A round's pages were taken out of the dirty set before the
 * first of them is hashed (ha/capture.h). A write that comes later marks its page dirty again,
 * and the page is in a later round or in the checkpoint, whatever its hash or the answer was.
 * A page without such a write is the same while it is hashed, compared and, if need be, sent.
 *
 * The hash is XXH3-128 with the link's session id, which is random, as seed. It finds chance
 * differences; a guest that could choose pages by it would harm its own memory alone.
 *
 * Threads: on the primary the sender asks and takes, the link's bulk receiver brings answers;
 * on the backup offer_judge() runs on the bulk receiver, apart from heartbeats.
 */
#ifndef POLLUX_HA_OFFER_H
#define POLLUX_HA_OFFER_H

#include <stdint.h>

#include "ha/message.h"

struct offer;
struct platform;

struct offer_answer {
	uint64_t gfn;
	uint32_t count;
	uint8_t lacked[PROTO_HASHES_MAX / 8]; /* bit i: page gfn + i is to be sent */
};

/* For one round over `pages` (a bit a gfn), which outlives it. */
int offer_open(struct platform *platform, uint64_t seed, const uint64_t *pages, struct offer **ret);
void offer_close(struct offer *o);

/* Sender: the next question, if there is one and few enough are open. The message is to be
 * sent before the next call. */
bool offer_ask(struct offer *o, struct message *ret);
/* Sender: the next answer, in the order of asking. -EAGAIN: it has not come; -ENODATA: that
 * was all, once offer_ask() has no more. */
int offer_take(struct offer *o, struct offer_answer *ret);
/* Readable when an answer has come; offer_take() clears it. */
int offer_fd(const struct offer *o);
/* Receiver, as a link_sink with the offer: any other frame, and what was not asked, is refused. */
int offer_answered(void *opaque, const struct message *m, struct refusal *why);

/* Backup: fills `ret` (of PROTO_HASHES_MAX / 8 bytes) with the answer to a PAGE_HASHES. */
int offer_judge(struct platform *platform, uint64_t seed, const struct message *m, uint8_t *ret,
		struct refusal *why);

#endif
