/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/format.h"

const char *disk_op_name(unsigned int op)
{
	static const char *const names[] = {
		[CONTROL_DISK_WRITE] = "write",
		[CONTROL_DISK_FLUSH] = "flush",
		[CONTROL_DISK_DISCARD] = "discard",
		[CONTROL_DISK_ZEROES] = "zeroes",
	};

	return op < ARRAY_SIZE(names) && names[op] ? names[op] : "unknown";
}

static int check_range(const struct disk_record *r, uint64_t bytes, struct reason *why)
{
	if (!r->length || r->offset > bytes || r->length > bytes - r->offset)
		return reason_set(why, EPROTO, "%s of %llu bytes at %llu, disk %u has %llu",
				  disk_op_name(r->op), (unsigned long long)r->length,
				  (unsigned long long)r->offset, r->disk,
				  (unsigned long long)bytes);
	return 0;
}

bool disk_is_drbd(const struct disk_info *disk)
{
	return !strncmp(disk->path, CONTROL_DRBD_PREFIX, strlen(CONTROL_DRBD_PREFIX));
}

int disk_record_check(const struct disk_record *r, const struct disk_info *disks,
		      unsigned int nr_disks, struct reason *why)
{
	if (r->disk >= nr_disks)
		return reason_set(why, EPROTO, "disk %u, the VM has %u", r->disk, nr_disks);
	switch (r->op) {
	case CONTROL_DISK_WRITE:
		if (r->length > DISK_DATA_MAX)
			return reason_set(why, EPROTO, "write of %llu bytes, the limit is %u",
					  (unsigned long long)r->length, DISK_DATA_MAX);
		return check_range(r, disks[r->disk].bytes, why);
	case CONTROL_DISK_DISCARD:
	case CONTROL_DISK_ZEROES:
		return check_range(r, disks[r->disk].bytes, why);
	case CONTROL_DISK_FLUSH:
		if (r->offset || r->length)
			return reason_set(why, EPROTO, "flush of %llu bytes at %llu, both are 0",
					  (unsigned long long)r->length,
					  (unsigned long long)r->offset);
		return 0;
	}
	return reason_set(why, EPROTO, "disk operation %u, known are %u to %u", (unsigned int)r->op,
			  CONTROL_DISK_WRITE, CONTROL_DISK_ZEROES);
}
