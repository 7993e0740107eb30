/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of the control protocol that are about changed regions of disks
 * (control.h, from CONTROL_DISK_TRACK on): disk_track.h by request and reply.
 */
#ifndef POLLUX_VMM_CONTROL_TRACK_H
#define POLLUX_VMM_CONTROL_TRACK_H

struct control_request;

int control_disk_track(struct control_request *r);
int control_track_rotate(struct control_request *r);
int control_track_forget(struct control_request *r);
int control_track_read(struct control_request *r);
int control_track_mark(struct control_request *r);

#endif
