/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting, on the primary: a thread that tells whoever changes the disks (sources.h), whenever
 * the backup has synced its disks (durable.h), which of the regions it has marked the backup holds
 * durably by now (CONTROL_TRACK_ROTATE, _FORGET). It has connections of its own, since forgetting
 * waits for our own disks to be synced.
 *
 * While epochs run: rotate; what was written before is, by the mirror's order, in epochs up to
 * the one whose boundary is cut next; when the backup says that this one is durable, forget.
 * During the first copy: what was marked when it began (the caller rotates before he reads the
 * set that is copied) is copied in order; when the backup says that so many records are
 * durable, what lies before the last of them is forgotten. So an interrupted copy goes on
 * where it was. What was written since stays marked.
 *
 * One a link: epochs and records count anew with each.
 *
 * Threads: all calls by one, but track_hold().
 */
#ifndef POLLUX_HA_TRACK_H
#define POLLUX_HA_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#define TRACK_AGAIN_NS UINT64_C(100000000) /* a write was under way */

struct track;

/* How far the copy is: everything of earlier disks and of that one below `offset` is in the
 * first `ops` records. */
struct track_copied {
	uint64_t ops;
	unsigned int disk;
	uint64_t offset;
};
struct track_news {
	struct track_copied copied; /* ops 0: no word of it */
	uint64_t durable_epoch;	    /* 0: none */
	uint64_t durable_ops;
};

int track_open(const char *run_dir, struct track **ret);
/* Not waited for. Takes NULL. */
void track_close(struct track *t);
/* The boundary of this epoch is about to be cut; at once, while the VM still runs. */
void track_cut(struct track *t, uint64_t epoch);
void track_tell(struct track *t, const struct track_news *news);
/* What is marked from here on (CONTROL_TRACK_MARK) is not forgotten before this epoch is durable.
 * -EAGAIN: something is being forgotten right now. Any thread. */
int track_hold(struct track *t, uint64_t epoch);
/* The -errno that ended it, else 0. */
int track_error(struct track *t);

#endif
