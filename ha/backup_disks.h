/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The standby's disks, as backup.c opens them: what a log of before holds is recovered first
 * (disk-replica/recover.h), then comes the new log, in memory or on disk, and the disks.
 */
#ifndef POLLUX_HA_BACKUP_DISKS_H
#define POLLUX_HA_BACKUP_DISKS_H

struct engine;
struct reason;

/* Fills disks, log, apply and harden of e->side; what it has opened backup_close() closes. */
int backup_open_disks(struct engine *e, struct reason *why);

#endif
