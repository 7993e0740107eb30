/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty set: the pages that changed since it was last taken, KVM's log and the
 * devices' marks together.
 *
 * Order that makes it right at any time, also while the guest runs: the set is taken
 * first and the pages are read afterwards. A page that changes in between is in the
 * next set. A set may name pages that did not change: hot ones (hot.h).
 *
 * Why the log and not KVM's dirty ring: `make bench-dirty` measures both. The ring's cost does
 * not grow with memory and it takes a set of 700 pages of 4 GiB some 0.1 ms sooner, a
 * fiftieth of a pause; but a reset protects every page again, so that it cannot leave hot
 * ones alone, and their faults cost the guest more than that in every epoch.
 *
 * Threads: any; calls are serialised by a lock. The bitmap they fill in is shared with the
 * clients, who agree among themselves who uses it.
 *
 * Source: Documentation/virt/kvm/api.rst, KVM_CLEAR_DIRTY_LOG and
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
 */
#ifndef POLLUX_VMM_DIRTY_H
#define POLLUX_VMM_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

struct dirty;
struct vm;

/* Gives the guest's memory to KVM, without logging; `bitmap` is where sets are put. */
int dirty_open(struct vm *vm, uint64_t *bitmap, struct dirty **ret);
void dirty_close(struct dirty *dirty);
/* From here on changes are logged, and every page counts as changed. */
int dirty_enable(struct dirty *dirty);
int dirty_disable(struct dirty *dirty);
/* The set into the bitmap; its size. `keep`: it is not cleared. -EINVAL: not enabled. */
int dirty_take(struct dirty *dirty, bool keep, uint64_t *ret_pages);

#endif
