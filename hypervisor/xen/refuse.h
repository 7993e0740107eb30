/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which domains cannot be protected, by their configuration: libxl cannot migrate them, or a
 * checkpoint would miss a part of them. Pure: looks at nothing else. docs/man/pollux-xen.8.
 */
#ifndef POLLUX_XEN_REFUSE_H
#define POLLUX_XEN_REFUSE_H

#include <libxl.h>

#include "base/err.h"

/* 0, or -EPERM with what it is and what would help. */
int xen_refuse(const libxl_domain_config *config, struct reason *why);

#endif
