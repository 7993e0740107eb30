/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which epoch is on stable storage, on the backup: a thread that syncs the standby's disks
 * every few seconds, when something was written, so that the primary can forget which regions
 * may differ. Commits do not wait for it, nor does a takeover: it has descriptors of its own,
 * which take no lock, and its end is not waited for.
 *
 * Fault point: "durable.sync".
 *
 * Threads: all calls by one.
 */
#ifndef POLLUX_HA_DURABLE_H
#define POLLUX_HA_DURABLE_H

#include "disk-replica/format.h"

#define DURABLE_EVERY_NS UINT64_C(2000000000)
#define DURABLE_COPY_NS	 UINT64_C(300000000) /* in the first copy, which may be cut short */

struct durable;

/* How far the standby is: read in this order, so that `bytes` covers the others. */
struct durable_mark {
	uint64_t epoch; /* last one applied, 0: none */
	uint64_t ops;	/* records of the first copy applied */
	uint64_t bytes; /* ever written */
};

int durable_open(const struct disk_info *disks, unsigned int nr_disks, struct durable **ret);
/* Takes NULL. */
void durable_close(struct durable *d);
void durable_news(struct durable *d, const struct durable_mark *mark);
/* What of it is on stable storage. False: nothing more than when last asked. */
bool durable_progress(struct durable *d, struct durable_mark *ret);
/* The -errno of a sync that failed, else 0: what was written last may be lost. */
int durable_error(struct durable *d);

#endif
