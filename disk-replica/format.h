/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a change of a disk looks like on its way from the primary's disk to the
 * backup's: the one shape that mirror, copy, log and apply hand to each other, and the
 * limits that bound it. docs/disk-format.md describes the forms it takes in memory that
 * two processes share and on disk.
 */
#ifndef POLLUX_DISK_FORMAT_H
#define POLLUX_DISK_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hypervisor/control/control.h"

#define DISK_MAX	8u		     /* disks of one VM */
#define DISK_PATH_MAX	1024u		     /* with its NUL */
#define DISK_DATA_MAX	(256u << 10)	     /* data of one record; the ring's own limit is lower */
#define DISK_ZEROES_MAX (UINT64_C(64) << 20) /* what the initial copy puts into one ZEROES */

/* One disk of the VM: the same list, in the same order, on both hosts; paths may differ. */
struct disk_info {
	char path[DISK_PATH_MAX];
	uint64_t bytes; /* the guest's view: the size on the primary */
	bool readonly;
	bool served; /* another process than pollux-vmm changes it (sources.h) */
};

/* Whether the path is the name of a resource of DRBD, which keeps both hosts' disks alike by
 * itself: nothing of it is copied or counted, and its changes are kept (drbd.h). */
bool disk_is_drbd(const struct disk_info *disk);

/*
 * One change. WRITE has exactly `length` bytes of `data`, 1 to DISK_DATA_MAX. FLUSH has
 * offset and length 0: everything before it on that disk is on stable storage when it
 * completes. DISCARD and ZEROES have a length of at least 1; both leave zeroes here.
 */
struct disk_record {
	enum control_disk_op op;
	uint16_t disk;
	uint64_t offset;
	uint64_t length;
	const void *data; /* of a WRITE; whose memory, and how long, the giver says */
};

/* Whether the record is one of the above and lies within its disk. 0, or -EPROTO with the
 * value and the limit. */
int disk_record_check(const struct disk_record *r, const struct disk_info *disks,
		      unsigned int nr_disks, struct reason *why);

/* A short lower-case name; "unknown" for a number that is none. */
const char *disk_op_name(unsigned int op);

#endif
