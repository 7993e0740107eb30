/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a domain: each is served by Pollux's nbdkit plugin on the domain's own host,
 * under the same path on either. libxl has the script attach Linux's nbd client to it when it
 * builds the domain, and detach it at the end; blkback serves that device to the guest.
 */
#ifndef POLLUX_XEN_DISK_H
#define POLLUX_XEN_DISK_H

#include <stdint.h>

#include "base/err.h"

struct xen_description;

#define XEN_DISK_SCRIPT	     "block-pollux"
#define XEN_DISK_SCRIPT_PATH "/etc/xen/scripts/" XEN_DISK_SCRIPT

/* The size that its server gives for a disk, named with CONTROL_NBD_PREFIX. -ENOTSUP: there is
 * no server of ours. */
int xen_disk_bytes(const char *name, uint64_t *ret, struct reason *why);
/* What attaching a disk would fail at, on a host that may come to do so. */
int xen_disk_check_host(struct reason *why);
/* The same for these disks, now: their servers answer. */
int xen_disks_check(const struct xen_description *about, struct reason *why);

#endif
