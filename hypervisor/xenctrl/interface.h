/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the libxenctrl-compatible library. What it offers, and to what prototypes, is
 * Debian's <xenctrl.h> and <xenforeignmemory.h>, unchanged; a call does here to a VM of
 * pollux-vmm what it does there to a domain of Xen. Where the meaning differs:
 *  - a domain is a VM with a directory under the run directory; its number is the name;
 *  - xc_domain_shutdown(poweroff) presses the power button, the guest does the rest;
 *  - enabling log-dirty makes every page dirty, so that a first full pass is not lost;
 *  - xc_logdirty_control() wants a bitmap for all of xc_domain_nr_gpfns().
 * Errors are libxenctrl's: -1 and errno, the text in xc_get_last_error().
 *
 * xc_domain_pause(), xc_domain_unpause(), xc_logdirty_control() and
 * xc_domain_hvm_getcontext() allocate nothing and log nothing once the domain has been
 * used through this handle: they are the pause.
 */
#ifndef POLLUX_XENCTRL_INTERFACE_H
#define POLLUX_XENCTRL_INTERFACE_H

#include <xenctrl.h>

#include "hypervisor/xenctrl/link.h"

struct xc_interface_core {
	struct link_table links;
};

/* Ends a call: 0 or more is passed through; -errno becomes errno, the text and -1. */
int interface_result(int err, const struct reason *why);

#endif
