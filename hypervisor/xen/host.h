/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this host can run a domain that was described elsewhere. */
#ifndef POLLUX_XEN_HOST_H
#define POLLUX_XEN_HOST_H

#include <libxl.h>

#include "base/err.h"

struct xen_domain;

/* `d->about` is the description, `config` its libxl part. Refuses another version of Xen, missing
 * processor features, too little free memory, a bridge or script that is not there. */
int xen_host_check(struct xen_domain *d, libxl_domain_config *config, struct reason *why);

#endif
