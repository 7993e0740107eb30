/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that a server on this host offers over NBD, by a unix socket: through libnbd, one
 * connection, one request at a time.
 *
 * A connection that is lost is made again, for as long as it takes, and the request is
 * repeated, which comes to the same: to the guest its disk is slow meanwhile. A server that
 * says that it is ending (ESHUTDOWN) counts as lost. What a server had completed and not
 * flushed is still in this host's page cache when its process dies, so nothing is lost by it.
 *
 * Connections are made by a process of our own that is forked while we have our privileges
 * and can do nothing else (dialer.h): this one gives its own up.
 *
 * Threads: one at a time, but blk_nbd_stop(). 0 or -errno; -ECANCELED once stopped.
 */
#ifndef POLLUX_VMM_BLK_NBD_H
#define POLLUX_VMM_BLK_NBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct blk_nbd;

/* Before the process is confined or has other threads. -EROFS: it is to be written, and the
 * server does not allow that. -EINVAL: a size of 0, or not a multiple of 512. */
int blk_nbd_open(struct blk_nbd **ret, const char *socket, bool readonly, struct reason *why);
void blk_nbd_close(struct blk_nbd *b); /* NULL is fine */
void blk_nbd_stop(struct blk_nbd *b);

uint64_t blk_nbd_bytes(const struct blk_nbd *b);
/* A server may let nobody else have the disk from the first request on, so here is one. */
int blk_nbd_claim(struct blk_nbd *b);

int blk_nbd_read(struct blk_nbd *b, uint64_t offset, void *ret, size_t len);
int blk_nbd_write(struct blk_nbd *b, uint64_t offset, const void *src, size_t len);
int blk_nbd_flush(struct blk_nbd *b);
/* -EOPNOTSUPP: the server cannot discard. */
int blk_nbd_discard(struct blk_nbd *b, uint64_t offset, uint64_t len);
int blk_nbd_zero(struct blk_nbd *b, uint64_t offset, uint64_t len);

#endif
