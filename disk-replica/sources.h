/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who changes the disks of a VM, and so tells of the changes: pollux-vmm its own; a disk that
 * pollux-vmm uses over NBD (control.h, CONTROL_NBD_PREFIX), the server of it. Each speaks the
 * same control protocol. A number of a disk is that in the VM's configuration, on both hosts.
 *
 * A server of a disk that offers no control socket cannot be followed: its VM is refused.
 *
 * Threads: one at a time.
 */
#ifndef POLLUX_DISK_SOURCES_H
#define POLLUX_DISK_SOURCES_H

#include "disk-replica/format.h"

#define SOURCES_MAX (DISK_MAX + 1u) /* pollux-vmm, and one for each disk */

struct sources {
	struct disk_info named[DISK_MAX]; /* as the VM names them */
	struct disk_info disks[DISK_MAX]; /* the same with the paths of the files or devices */
	uint8_t source[DISK_MAX];	  /* who changes it: a place in control[] */
	uint16_t local[DISK_MAX];	  /* its number there */
	unsigned int nr_disks;
	struct control *control[SOURCES_MAX]; /* 0: pollux-vmm's */
	unsigned int nr;
	bool owns; /* pollux-vmm's connection, too */
};

/*
 * Asks pollux-vmm for its disks, and connects to the servers of those that it does not change
 * itself. -ENOTSUP: one cannot be followed; -EPROTO: the two do not agree on its size.
 */
int sources_open(struct control *vm, struct sources *ret, struct reason *why);
/* The same by a connection of its own to the VM. */
int sources_connect(const char *run_dir, struct sources *ret, struct reason *why);
/* Closes what it has connected. A zeroed one, or one closed before, is fine. */
void sources_close(struct sources *s);
/* Whoever is behind the connection is to count by this region file, or, fd -1, no more. */
int sources_count(struct control *control, int fd, struct reason *why);
/* Whether any disk is changed by the source with this number. */
bool sources_has_disk(const struct sources *s, unsigned int source);

/* Whether a disk is served by another process, by the name that the VM has for it. */
bool sources_is_served(const char *name);
/* The disk that is served under this name: where it lies on this host, and its size. As
 * sources_open() says. */
int sources_look_up(const char *name, struct disk_info *ret, struct reason *why);
/* Its server is to count by this region file, which is taken; a negative one is its -errno. */
int sources_track(const char *name, int fd, struct reason *why);

#endif
