/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/blk_nbd.h"

#include <fcntl.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "hypervisor/vmm/dialer.h"

#define SECTOR_BYTES 512u
#define ONE_REQUEST  (UINT64_C(1) << 30) /* of a request without data, below NBD's 32 bits */
#define RETRY_MS     100

struct blk_nbd {
	struct dialer dialer;
	struct nbd_handle *nbd; /* NULL: lost, and not made again yet */
	uint64_t bytes;
	bool readonly, can_flush, can_trim, can_zero;
	int stop_fd; /* eventfd: raised once, and left so */

	/* What ends a request that waits for the server: the connection, by a descriptor of its
	 * own, for libnbd's is locked then. */
	pthread_mutex_t lock;
	int socket; /* lock; -1: none */
};

/* --- the connection ---------------------------------------------------------------------- */

static void set_socket(struct blk_nbd *b, int fd)
{
	pthread_mutex_lock(&b->lock);
	err_close_fd(&b->socket);
	b->socket = fd;
	pthread_mutex_unlock(&b->lock);
}

static void disconnect(struct blk_nbd *b)
{
	set_socket(b, -1);
	nbd_close(b->nbd);
	b->nbd = NULL;
}

static int check_size(const struct blk_nbd *b, int64_t bytes, struct reason *why)
{
	if (bytes <= 0 || bytes % SECTOR_BYTES)
		return reason_set(why, EINVAL, "%lld bytes, not a multiple of %u", (long long)bytes,
				  SECTOR_BYTES);
	if (b->bytes && (uint64_t)bytes != b->bytes)
		return reason_set(why, EINVAL, "%lld bytes, it had %llu", (long long)bytes,
				  (unsigned long long)b->bytes);
	return 0;
}

static int check_server(struct blk_nbd *b, struct reason *why)
{
	int64_t bytes = nbd_get_size(b->nbd);
	int err = check_size(b, bytes, why);

	if (err)
		return err;
	if (!b->readonly && nbd_is_read_only(b->nbd) != 0)
		return reason_set(why, EROFS, "the server allows no writes");
	b->bytes = (uint64_t)bytes;
	b->can_flush = nbd_can_flush(b->nbd) > 0;
	b->can_trim = nbd_can_trim(b->nbd) > 0;
	b->can_zero = nbd_can_zero(b->nbd) > 0;
	return 0;
}

static int connect_now(struct blk_nbd *b, struct reason *why)
{
	int fd, err = dialer_call(&b->dialer, &fd);

	if (err)
		return reason_set(why, -err, "%s", strerror(-err));
	b->nbd = nbd_create();
	if (!b->nbd) {
		close(fd);
		return -ENOMEM;
	}
	set_socket(b, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (nbd_connect_socket(b->nbd, fd)) { /* which takes the descriptor */
		err = reason_set(why, ECONNREFUSED, "%s", nbd_get_error());
		disconnect(b);
		return err;
	}
	err = check_server(b, why);
	if (err)
		disconnect(b);
	return err;
}

static int connect_again(struct blk_nbd *b)
{
	struct pollfd stop = { .fd = b->stop_fd, .events = POLLIN };
	struct reason why;

	do {
		if (poll(&stop, 1, RETRY_MS) > 0)
			return -ECANCELED;
	} while (connect_now(b, &why));
	/* blk_nbd_stop() has found this connection, or it came before. */
	if (poll(&stop, 1, 0) <= 0)
		return 0;
	disconnect(b);
	return -ECANCELED;
}

/* --- life -------------------------------------------------------------------------------- */

int blk_nbd_open(struct blk_nbd **ret, const char *socket, bool readonly, struct reason *why)
{
	struct blk_nbd *b = calloc(1, sizeof(*b));
	struct reason text = { 0 };
	int err;

	if (!b)
		return -ENOMEM;
	b->readonly = readonly;
	b->socket = -1;
	pthread_mutex_init(&b->lock, NULL);
	b->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = b->stop_fd < 0 ? -errno : dialer_open(&b->dialer, socket);
	if (!err) {
		err = connect_now(b, &text);
		if (err)
			dialer_close(&b->dialer);
	}
	if (err) {
		err_close_fd(&b->stop_fd);
		free(b);
		return reason_set(why, -err, "disk nbd:unix:%s: %s", socket,
				  text.text[0] ? text.text : strerror(-err));
	}
	*ret = b;
	return 0;
}

void blk_nbd_close(struct blk_nbd *b)
{
	if (!b)
		return;
	disconnect(b);
	dialer_close(&b->dialer);
	close(b->stop_fd);
	free(b);
}

void blk_nbd_stop(struct blk_nbd *b)
{
	eventfd_write(b->stop_fd, 1);
	pthread_mutex_lock(&b->lock);
	if (b->socket >= 0)
		shutdown(b->socket, SHUT_RDWR);
	pthread_mutex_unlock(&b->lock);
}

uint64_t blk_nbd_bytes(const struct blk_nbd *b)
{
	return b->bytes;
}

int blk_nbd_claim(struct blk_nbd *b)
{
	uint8_t sector[SECTOR_BYTES];

	/* NBD has no EBUSY. */
	return blk_nbd_read(b, 0, sector, sizeof(sector)) ? -EBUSY : 0;
}

/* --- requests ---------------------------------------------------------------------------- */

struct request {
	enum { READ, WRITE, FLUSH, TRIM, ZERO } kind;
	uint64_t offset;
	uint64_t len;
	void *to;
	const void *from;
};

static int issue(struct nbd_handle *nbd, const struct request *r)
{
	switch (r->kind) {
	case READ:
		return nbd_pread(nbd, r->to, r->len, r->offset, 0);
	case WRITE:
		return nbd_pwrite(nbd, r->from, r->len, r->offset, 0);
	case FLUSH:
		return nbd_flush(nbd, 0);
	case TRIM:
		return nbd_trim(nbd, r->len, r->offset, 0);
	case ZERO:
		return nbd_zero(nbd, r->len, r->offset, 0);
	}
	return -1;
}

static int run(struct blk_nbd *b, const struct request *r)
{
	for (;;) {
		int err = b->nbd ? 0 : connect_again(b);

		if (err)
			return err;
		if (!issue(b->nbd, r))
			return 0;
		err = nbd_get_errno();
		if (!nbd_aio_is_dead(b->nbd) && !nbd_aio_is_closed(b->nbd) && err != ESHUTDOWN)
			return err ? -err : -EIO;
		disconnect(b);
	}
}

int blk_nbd_read(struct blk_nbd *b, uint64_t offset, void *ret, size_t len)
{
	return run(b, &(struct request){ .kind = READ, .offset = offset, .len = len, .to = ret });
}

int blk_nbd_write(struct blk_nbd *b, uint64_t offset, const void *src, size_t len)
{
	return run(b,
		   &(struct request){ .kind = WRITE, .offset = offset, .len = len, .from = src });
}

int blk_nbd_flush(struct blk_nbd *b)
{
	/* One that has no flush has what it completed on stable storage. */
	return b->can_flush ? run(b, &(struct request){ .kind = FLUSH }) : 0;
}

static int run_pieces(struct blk_nbd *b, struct request r, uint64_t len)
{
	int err = 0;

	while (!err && len) {
		r.len = MIN(len, ONE_REQUEST);
		err = run(b, &r);
		r.offset += r.len;
		len -= r.len;
	}
	return err;
}

int blk_nbd_discard(struct blk_nbd *b, uint64_t offset, uint64_t len)
{
	if (!b->can_trim)
		return -EOPNOTSUPP;
	return run_pieces(b, (struct request){ .kind = TRIM, .offset = offset }, len);
}

int blk_nbd_zero(struct blk_nbd *b, uint64_t offset, uint64_t len)
{
	static const uint8_t zeros[65536];
	int err = 0;

	if (b->can_zero)
		return run_pieces(b, (struct request){ .kind = ZERO, .offset = offset }, len);
	while (!err && len) {
		size_t n = (size_t)MIN(len, sizeof(zeros));

		err = blk_nbd_write(b, offset, zeros, n);
		offset += n;
		len -= n;
	}
	return err;
}
