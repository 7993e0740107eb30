/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/blk.h"

#include "hypervisor/control/control.h"
#include "hypervisor/vmm/blk_defer.h"
#include "hypervisor/vmm/blk_nbd.h"
#include "hypervisor/vmm/config.h"
#include "hypervisor/vmm/disk_mirror.h"

bool blk_is_served(const struct vm_config_disk *disk)
{
	return !strncmp(disk->path, CONTROL_NBD_PREFIX, strlen(CONTROL_NBD_PREFIX));
}

static int open_served(struct blk *b, const struct vm_config_disk *disk, struct reason *why)
{
	int err;

	if (disk->deferred)
		return reason_set(why, EINVAL, "disk %s is served and cannot be deferred",
				  disk->path);
	err = blk_nbd_open(&b->served, disk->path + strlen(CONTROL_NBD_PREFIX), disk->readonly,
			   why);
	if (err)
		return err;
	b->file.bytes = blk_nbd_bytes(b->served);
	b->file.readonly = disk->readonly;
	return 0;
}

/* A deferred disk of a standby cannot be opened yet (the other host has it). */
static int open_it(struct blk *b, const struct vm_config_disk *disk, bool standby,
		   struct reason *why)
{
	if (blk_is_served(disk))
		return open_served(b, disk, why);
	if (standby && disk->deferred)
		return blk_file_foresee(&b->file, disk->path, disk->readonly, why);
	return blk_file_open(&b->file, disk->path, disk->readonly, why);
}

int blk_open(struct blk *b, const struct vm_config_disk *disk, bool standby, struct reason *why)
{
	int err;

	*b = (struct blk){ .file.fd = -1 };
	err = open_it(b, disk, standby, why);
	if (err)
		return err;
	err = standby ? 0 : blk_lock(b);
	if (err)
		reason_set(why, -err, "disk %s is in use", disk->path);
	else if (disk->deferred)
		err = blk_defer_open(&b->file, &b->defer);
	if (err)
		blk_close(b);
	return err;
}

void blk_close(struct blk *b)
{
	blk_defer_close(b->defer);
	blk_nbd_close(b->served);
	blk_file_close(&b->file);
	b->defer = NULL;
	b->served = NULL;
}

int blk_lock(struct blk *b)
{
	if (b->served)
		return blk_nbd_claim(b->served);
	return b->file.fd < 0 ? -ENODEV : blk_file_lock(&b->file);
}

void blk_stop(struct blk *b)
{
	if (b->defer)
		blk_defer_cancel(b->defer);
	if (b->served)
		blk_nbd_stop(b->served);
}

int blk_read(const struct blk *b, uint64_t offset, void *ret, size_t len)
{
	if (b->defer)
		return blk_defer_read(b->defer, offset, ret, len);
	if (b->served)
		return blk_nbd_read(b->served, offset, ret, len);
	return blk_file_read(&b->file, offset, ret, len);
}

static int to_server(struct blk_nbd *n, const struct disk_change *change)
{
	int err;

	switch (change->op) {
	case CONTROL_DISK_WRITE:
		return blk_nbd_write(n, change->offset, change->data, change->length);
	case CONTROL_DISK_FLUSH:
		return blk_nbd_flush(n);
	case CONTROL_DISK_ZEROES:
		return blk_nbd_zero(n, change->offset, change->length);
	default:
		err = blk_nbd_discard(n, change->offset, change->length);
		return err == -EOPNOTSUPP ? 0 : err;
	}
}

int blk_change(struct blk *b, const struct disk_change *change)
{
	int err;

	/* Whoever serves the disk tells the mirror: CONTROL_DISK_LIST. */
	if (b->served) {
		err = to_server(b->served, change);
		return err ? err : 1;
	}

	switch (change->op) {
	case CONTROL_DISK_WRITE:
		return blk_file_write(&b->file, change->offset, change->data, change->length);
	case CONTROL_DISK_FLUSH:
		return blk_file_flush(&b->file);
	case CONTROL_DISK_ZEROES:
		return blk_file_zero(&b->file, change->offset, change->length);
	default:
		err = blk_file_discard(&b->file, change->offset, change->length);
		/* A disk that cannot discard keeps its data, on both sides: a hint was lost. */
		return err == -EOPNOTSUPP ? 1 : err;
	}
}
