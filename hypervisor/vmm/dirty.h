/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dirty set: the pages that changed since it was last taken, KVM's log and the
 * devices' marks together.
 *
 * Order that makes it right at any time, also while the guest runs: the set is taken
 * first and the pages are read afterwards. A page that changes in between is in the
 * next set. A set may name pages that did not change: hot ones (hot.h).
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
