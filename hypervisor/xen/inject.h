/* SPDX-License-Identifier: Apache-2.0 */
/* A frame on a guest's behalf, to where the guest's own would go: the bridge of its vif. */
#ifndef POLLUX_XEN_INJECT_H
#define POLLUX_XEN_INJECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define XEN_FRAME_MIN 14u
#define XEN_FRAME_MAX 9216u

/* -ENODEV: there is no such vif, or it is in no bridge. */
int xen_inject(uint32_t domid, uint16_t nic, const void *frame, size_t len, struct reason *why);

#endif
