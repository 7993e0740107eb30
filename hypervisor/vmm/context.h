/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The saved state of a whole VM: Xen's framed records (state.h) of all its components.
 *
 *	HEADER (typecode 1), one STATE_VCPU a processor, STATE_CHIPS, one record a device in
 *	the order of the device list, END (typecode 0)
 *
 * A load is refused whole: records of processors and chips are parsed into structures of
 * ours, those of devices into the devices, and when anything in any of them is wrong the
 * devices get back the state they had.
 *
 * Neither saving nor loading allocates. One at a time (the control server's lock).
 */
#ifndef POLLUX_VMM_CONTEXT_H
#define POLLUX_VMM_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct context;
struct vm;

#define CONTEXT_MAX_BYTES (UINT64_C(2) << 20)

/* The VM is built: its components will not change. */
int context_open(struct vm *vm, struct context **ret);
void context_close(struct context *context);
/* The VM is halted. -ENOSPC: `max` is too small. */
int context_save(struct vm *vm, uint8_t *ret, size_t max, size_t *ret_len);
/* The VM is halted and has not run. `data` may change while it is read: it is copied first. */
int context_load(struct vm *vm, const uint8_t *data, size_t len, struct reason *why);

#endif
