/* SPDX-License-Identifier: Apache-2.0 */
/* send.h: the sender as a door to what `pollux verify` compares (verify.h). */
#include "ha/send_impl.h"

#include "base/clock.h"
#include "disk-replica/copy.h"
#include "ha/encode.h"
#include "ha/transport.h"
#include "ha/verify.h"

/* What is asked now is answered with the epoch: it need not wait here for more. */
static int ask(void *opaque, struct message *m)
{
	struct sender *s = opaque;
	int r = sender_message(s, m);

	return r ? r : transport_flush(s->config.bulk, clock_now_ns() + PROTO_SEND_NS, &s->why);
}

static int send_whole(void *opaque, uint64_t gfn, const void *bytes)
{
	struct sender *s = opaque;

	encode_forget(s->encoder, gfn);
	return bytes ? encode_page(s->encoder, gfn, bytes) : 0;
}

static int write_chunk(void *opaque, const struct disk_record *r)
{
	return sender_record(opaque, r, false);
}

static int read_chunk(void *opaque, unsigned int disk, uint64_t offset, void *ret, size_t len)
{
	struct sender *s = opaque;

	return copy_read(s->config.copy, disk, offset, ret, len);
}

static bool is_busy(void *opaque)
{
	struct sender *s = opaque;
	bool busy;

	pthread_mutex_lock(&s->lock);
	busy = s->count || s->cutting || s->stopping;
	pthread_mutex_unlock(&s->lock);
	return busy;
}

static struct verify_door door(struct sender *s)
{
	return (struct verify_door){ .send = ask,
				     .page = send_whole,
				     .write = write_chunk,
				     .read = read_chunk,
				     .busy = is_busy,
				     .opaque = s };
}

bool sender_verify_due(struct sender *s)
{
	return s->config.verify && verify_due(s->config.verify, clock_now_ns());
}

int sender_verify(struct sender *s)
{
	struct verify_door d = door(s);

	return verify_idle(s->config.verify, &d);
}

int sender_verify_epoch(struct sender *s, const struct stage_slot *slot)
{
	struct verify_door d = door(s);

	return s->config.verify ? verify_epoch(s->config.verify, &d, slot) : 0;
}
