/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netbuf over the queue in pollux-vmm (control.h, CONTROL_NET_*).
 *
 * Two control connections: one marks, in the pause, and one does all that may take long,
 * so that a release never stands between a pause and its mark.
 */
#ifndef POLLUX_NETBUF_HOLD_H
#define POLLUX_NETBUF_HOLD_H

struct netbuf;

/* Connects to the VM whose run directory this is; holds nothing yet. */
int netbuf_hold_open(const char *run_dir, struct netbuf **ret);

#endif
