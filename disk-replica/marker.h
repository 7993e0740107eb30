/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marker "these disks are a standby's": a small file in the VM's state directory,
 * replaced as a whole and fsynced. Its layout is in docs/disk-format.md. While it is
 * there the disks are not to be booted from, whatever it says.
 */
#ifndef POLLUX_DISK_MARKER_H
#define POLLUX_DISK_MARKER_H

#include <stdint.h>

#include "base/err.h"
#include "hypervisor/control/region_file.h"

#define APPLY_MARKER_NAME    "standby-disks"	  /* in the state directory */
#define APPLY_MARKER_MAGIC   UINT32_C(0x44584c50) /* the bytes "PLXD" */
#define APPLY_MARKER_VERSION 3u
#define APPLY_MARKER_BYTES   284u

enum apply_state {
	APPLY_COPYING = 1,   /* the initial copy is under way */
	APPLY_FOLLOWING = 2, /* a standby's disk: epochs being applied; recover.h may finish them */
	APPLY_FAILED = 3,    /* a write failed half-way */
	APPLY_CONSISTENT = 4, /* recovered: exactly the VM's disks at the end of `epoch` */
};
struct apply_marker {
	enum apply_state state;
	int32_t error; /* errno of APPLY_FAILED, else 0 */
	uint64_t wall_ns;
	uint8_t token[REGION_TOKEN_BYTES]; /* whose copy they are; zeroes: nobody keeps count */
	struct region_stamp stamp;	   /* closed: how they were left */
	uint64_t generation;		   /* of the primary that is followed */
	uint64_t epoch;			   /* of APPLY_CONSISTENT, else 0 */
	uint64_t log_key; /* of the log in which epochs lie that the disks may lack; 0: none */
};

/* -ENOENT: no marker, the disks are the VM's own. -EBADMSG: one that cannot be read counts
 * as one that is there. */
int apply_marker_read(const char *state_dir, struct apply_marker *ret);
/* On stable storage when it returns 0; else the marker is the old one or the new one. */
int apply_marker_write(const char *state_dir, const struct apply_marker *marker);
int apply_marker_remove(const char *state_dir);

#endif
