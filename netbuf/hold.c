/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netbuf over control connections to pollux-vmm. `marker` is used by mark alone, so that a
 * long release on `carrier` cannot delay it; requests are built on the stack.
 *
 * Threads: one may mark while another does the rest; replies are views into a connection,
 * and each connection has one user at a time.
 */
#include "netbuf/hold.h"

#include <sys/eventfd.h>

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"
#include "netbuf/netbuf.h"

#define REQUEST_MAX 16u

struct hold {
	struct netbuf nb; /* first: what callers see */
	struct control *marker;
	struct control *carrier;
};

static struct hold *from_netbuf(struct netbuf *nb)
{
	return (struct hold *)nb;
}

static int call(struct control *c, enum control_op op, const struct cursor *request,
		const uint8_t *bytes, struct cursor *ret_reply)
{
	const struct control_call call = {
		.op = op,
		.request = bytes,
		.request_len = (size_t)(request->pos - bytes),
	};

	assert(cursor_ok(request));
	return control_call(c, &call, ret_reply);
}

static int start(struct netbuf *nb, uint64_t limit_bytes)
{
	struct hold *h = from_netbuf(nb);
	uint8_t bytes[REQUEST_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;
	int err, fd = -1;

	cursor_put_u8(&request, 1);
	cursor_put_u64(&request, limit_bytes);
	err = control_call(h->carrier,
			   &(struct control_call){
				   .op = CONTROL_NET_HOLD,
				   .request = bytes,
				   .request_len = (size_t)(request.pos - bytes),
				   .ret_fds = &fd,
				   .nr_fds = 1,
			   },
			   &reply);
	if (err)
		return err;
	err_close_fd(&nb->output_fd);
	nb->output_fd = fd;
	return 0;
}

static int mark(struct netbuf *nb, uint64_t epoch)
{
	uint8_t bytes[REQUEST_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;

	cursor_put_u64(&request, epoch);
	return call(from_netbuf(nb)->marker, CONTROL_NET_MARK, &request, bytes, &reply);
}

static int release(struct netbuf *nb, uint64_t epoch, uint64_t not_after_ns,
		   struct netbuf_released *ret)
{
	uint8_t bytes[REQUEST_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;
	struct netbuf_released released;
	int err;

	cursor_put_u64(&request, epoch);
	cursor_put_u64(&request, not_after_ns);
	err = call(from_netbuf(nb)->carrier, CONTROL_NET_RELEASE, &request, bytes, &reply);
	if (err)
		return err;
	released.frames = cursor_get_u64(&reply);
	released.bytes = cursor_get_u64(&reply);
	if (!cursor_ok(&reply))
		return -EPROTO;
	*ret = released;
	return 0;
}

static int drop(struct netbuf *nb)
{
	return control_simple(from_netbuf(nb)->carrier, CONTROL_NET_DROP);
}

/* The limit means nothing when holding ends, and the eventfd of the reply is not asked for. */
static int stop(struct netbuf *nb)
{
	uint8_t bytes[REQUEST_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;

	cursor_put_u8(&request, 0);
	cursor_put_u64(&request, 0);
	return call(from_netbuf(nb)->carrier, CONTROL_NET_HOLD, &request, bytes, &reply);
}

static bool output_waits(struct netbuf *nb)
{
	eventfd_t times;

	return eventfd_read(nb->output_fd, &times) == 0;
}

static int stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	uint8_t bytes[REQUEST_MAX] = { 0 };
	struct cursor request = cursor_over(bytes, sizeof(bytes)), reply;
	struct netbuf_stats now = { 0 };
	int err;

	err = call(from_netbuf(nb)->carrier, CONTROL_NET_STATS, &request, bytes, &reply);
	if (err)
		return err;
	now.held_frames = cursor_get_u64(&reply);
	now.held_bytes = cursor_get_u64(&reply);
	now.limit_hits = cursor_get_u64(&reply);
	now.released_frames = cursor_get_u64(&reply);
	hist_get(&now.hold_ns, &reply);
	if (!cursor_ok(&reply))
		return -EPROTO;
	*ret = now;
	return 0;
}

static void hold_close(struct netbuf *nb)
{
	struct hold *h = from_netbuf(nb);

	err_close_fd(&nb->output_fd);
	control_close(h->carrier);
	control_close(h->marker);
	free(h);
}

static const struct netbuf_ops ops = {
	.start = start,
	.mark = mark,
	.release = release,
	.drop = drop,
	.stop = stop,
	.output_waits = output_waits,
	.stats = stats,
	.close = hold_close,
};

int netbuf_hold_open(const char *run_dir, struct netbuf **ret)
{
	struct hold *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return -ENOMEM;
	h->nb.ops = &ops;
	h->nb.output_fd = -1;
	err = control_connect(run_dir, &h->marker);
	if (err)
		goto err_free;
	err = control_connect(run_dir, &h->carrier);
	if (err)
		goto err_close;
	*ret = &h->nb;
	return 0;

err_close:
	control_close(h->marker);
err_free:
	free(h);
	return err;
}
