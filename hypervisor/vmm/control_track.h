/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of the control protocol that are about changed regions of disks
 * (control.h, from CONTROL_DISK_TRACK to CONTROL_TRACK_MARK): disk_track.h by request and reply,
 * for whoever changes disks: pollux-vmm, and the server of a disk.
 */
#ifndef POLLUX_VMM_CONTROL_TRACK_H
#define POLLUX_VMM_CONTROL_TRACK_H

#include <stdbool.h>

#include "hypervisor/control/server.h"

struct disk_track;

bool control_track_is(uint32_t op);
/* One of them. */
int control_track(struct disk_track *track, uint32_t op, struct control_work *work);

#endif
