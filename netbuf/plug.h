/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netbuf in the kernel, for the network devices of any hypervisor's VM: redirect.h takes every
 * frame, valve.h holds it, lanes.h says what may go.
 *
 * The kernel cannot make a guest wait: a frame beyond the limit is dropped, counted and told
 * (netbuf_stats). netbuf_output_fd() is a timer; at each tick the queues are looked at, and the
 * caller ends the epoch early before the limit is reached. What somebody deleted or set down
 * meanwhile is made anew and counted as a fault.
 *
 * Everything in the kernel stays when this process dies; the next netbuf_start() takes it up.
 */
#ifndef POLLUX_NETBUF_PLUG_H
#define POLLUX_NETBUF_PLUG_H

#include <stdint.h>

#include "base/err.h"
#include "netbuf/valve.h"

#define PLUG_DEVICES_MAX 16u
#define PLUG_LIMIT_MAX	 (UINT64_C(1) << 30)

struct netbuf;

struct plug_config {
	char device[PLUG_DEVICES_MAX][VALVE_NAME_ROOM];
	unsigned int nr_devices;
	uint64_t look_ns; /* between two looks at the queues */
};

/* Whether this kernel and this process can do it at all: else the reason. Leaves nothing. */
int plug_check(struct reason *why);

/* Refuses with the reason when the kernel, the right or a device is missing. Holds nothing yet;
 * removes what earlier processes left behind for devices that are gone. */
int netbuf_plug_open(const struct plug_config *config, struct netbuf **ret, struct reason *why);

/* What the link of these devices can carry in two intervals, at least `least_bytes` and at most
 * PLUG_LIMIT_MAX. */
uint64_t plug_limit_bytes(const struct plug_config *config, uint64_t interval_ns,
			  uint64_t least_bytes);

#endif
