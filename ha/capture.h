/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a checkpoint: the pause, and all that happens in it.
 *
 * Stop (a guest that has to be asked for it, first is: platform.h); take the dirty set; mark the
 * boundary in netbuf and disk; take the state; copy the dirty pages, by several threads if they are
 * many (copier.h); resume. Between stop and resume nothing is allocated or logged, and nobody else
 * waited for. The dirty set is always taken first and read after, so a page written in between
 * shows again in the next.
 *
 * A dirty set that does not fit the slot is not copied: it is carried over to the next
 * live round, in which the sender reads pages while the guest runs.
 */
#ifndef POLLUX_HA_CAPTURE_H
#define POLLUX_HA_CAPTURE_H

#include <stdint.h>
#include <xenctrl.h>

#include "ha/platform.h"
#include "ha/stage.h"

struct copier;
struct mirror;
struct netbuf;

struct capture {
	struct platform *platform;
	struct netbuf *netbuf;
	struct mirror *mirror; /* NULL: no disks */
	bool oracle;	       /* hash all memory at every checkpoint: slow, for tests */
	bool stay;	       /* the next checkpoint that succeeds leaves the domain stopped */
	xc_hypercall_buffer_t hbuf;
	uint64_t *dirty; /* hbuf's memory: the set taken last */
	uint64_t *round; /* what the live round in progress is to send; the sender reads it */
	uint64_t *carry; /* taken and not sent yet */
	bool carrying;
	struct copier *copier;
};

/* Durations of the steps, in nanoseconds; pause is all of them together. */
struct capture_steps {
	uint64_t stop, dirty, state, copy, resume, pause;
	uint64_t nr_dirty;
};

/* `mirror` may change from link to link: set it before capture_begin(). */
int capture_open(struct capture *ret, struct platform *p, struct netbuf *nb);
void capture_close(struct capture *c);

/* From here on every page counts as dirty: what the first round sends. */
int capture_begin(struct capture *c);
int capture_end(struct capture *c);

/* Takes the checkpoint of `epoch` into `slot`. A guest that was asked to stop (platform.h) has
 * done so. -E2BIG: the dirty set (nr_dirty) does not fit; the domain runs again and a live
 * round must come first. */
int capture_epoch(struct capture *c, uint64_t epoch, struct stage *stage, struct stage_slot *slot,
		  struct capture_steps *ret);
/* Takes the dirty set of the running domain into `round`, with what is carried. */
int capture_round(struct capture *c, uint64_t *ret_pages);
/* How many pages are dirty now; takes nothing. */
int capture_peek(struct capture *c, uint64_t *ret_pages);

#endif
