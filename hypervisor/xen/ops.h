/* SPDX-License-Identifier: Apache-2.0 */
/* What each operation of the control protocol does to a domain of Xen. */
#ifndef POLLUX_XEN_OPS_H
#define POLLUX_XEN_OPS_H

#include "hypervisor/control/server.h"

struct xen_domain;
struct xen_standby;

struct xen_ops {
	struct xen_domain *domain;
	struct xen_standby *standby; /* NULL: adopted */
};

/* A control server's execute(), with a struct xen_ops. Any thread. */
int xen_ops_execute(void *opaque, uint32_t op, struct control_work *work);

#endif
