/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: one queue, one worker, requests in the order in which they were taken.
 *
 * A request is copied piece by piece through a bounce buffer: guest memory inside the
 * gate, the disk outside. A piece of a change goes to the disk, then into the mirror ring
 * (disk_mirror.h), and the request completes, inside the gate, when all its pieces have.
 * So whatever a checkpoint shows as completed is in the ring before the pause that takes
 * it (P2). Of a request that fails the disk may have a part: then what is in its place goes
 * into the ring, and the request completes with an error.
 *
 * Before its first piece goes to the disk, the regions of a change are marked (disk_track.h),
 * and it counts as under way until its last piece is in the ring.
 *
 * From pop to push a request is in `in_flight`, which is saved. After a load start() has
 * the worker walk those heads again and repeat them, before anything new: repeating a
 * read, a write, a discard or a flush comes to the same (P2).
 *
 * Threads: the worker; vCPUs see the fixed configuration, and may reset the device while
 * a request is on its way to the disk: `resets` then tells the worker not to complete it.
 */
#include "hypervisor/vmm/virtio_blk.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cursor.h"
#include "base/fault.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/blk.h"
#include "hypervisor/vmm/blk_defer.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "hypervisor/vmm/disk_track.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/virtio_pci.h"
#include "hypervisor/vmm/vm.h"

#define SECTOR_BYTES 512u
#define HEAD_BYTES   16u /* {u32 type, u32 0, u64 sector} */
#define RANGE_BYTES  16u /* {u64 sector, u32 sectors, u32 flags}, of discard and write zeroes */
#define MAX_RANGES   16u
#define MAX_SECTORS  UINT32_MAX /* a discard may cover, u32 on the wire */
#define ID_BYTES     20u
#define PIECE_BYTES  CONTROL_DISK_DATA_MAX
#define SEG_MAX	     (VIRTQUEUE_MAX - 2) /* the head and the status take one each */

#define VIRTIO_BLK_F_SEG_MAX	  (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_RO		  (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE	  (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH	  (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_DISCARD	  (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

#define PCI_CLASS_STORAGE 0x018000u

/* virtio 1.2, 5.2.6. */
enum {
	REQUEST_IN = 0,
	REQUEST_OUT = 1,
	REQUEST_FLUSH = 4,
	REQUEST_GET_ID = 8,
	REQUEST_DISCARD = 11,
	REQUEST_WRITE_ZEROES = 13,
};
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };

/* The end of a request that has no answer: the device was reset, or is ending. */
#define STATUS_VOID (-1)

struct virtio_blk {
	struct virtio_device v;
	struct blk disk; /* fixed but for locks, and the file of a deferred standby until start() */
	uint16_t index;

	/* v.lock; heads of requests taken and not completed, in the order taken. One worker
	 * that takes one at a time has one; a state may bring more. */
	uint32_t nr_in_flight;
	uint16_t in_flight[VIRTQUEUE_MAX];

	/* The worker's own: the request under way. */
	struct virtqueue_chain chain;
	uint32_t resets; /* v.resets when it was taken */
	uint32_t type;
	uint64_t offset; /* bytes */
	bool write_through;
	uint8_t piece[PIECE_BYTES];
};

static struct virtio_blk *from_virtio(struct virtio_device *v)
{
	return (struct virtio_blk *)v;
}

/* --- pieces --------------------------------------------------------------------------- */

/* Enters, and says whether the request under way still counts; if not, it has left. */
static bool enter(struct virtio_blk *b)
{
	virtio_enter(&b->v);
	if (b->resets == b->v.resets && virtio_ready(&b->v, 0))
		return true;
	virtio_leave(&b->v);
	return false;
}

static bool fetch(struct virtio_blk *b, uint64_t at, size_t len)
{
	int err;

	if (!enter(b))
		return false;
	err = virtqueue_read(&b->v.queue[0], &b->chain, at, b->piece, len);
	if (err)
		virtio_break(&b->v);
	virtio_leave(&b->v);
	return !err;
}

static bool store(struct virtio_blk *b, uint64_t at, size_t len)
{
	int err;

	if (!enter(b))
		return false;
	err = virtqueue_write(&b->v.queue[0], &b->chain, at, b->piece, len);
	if (err)
		virtio_break(&b->v);
	virtio_leave(&b->v);
	return !err;
}

/* The other host gets what the disk has of it. When not even that is known, nor do the marks
 * say what may differ from here on. */
static void tell_failed(struct virtio_blk *b, const struct disk_change *c)
{
	if (b->disk.served) /* who serves it tells */
		return;
	if (disk_mirror_put_found(b->v.vm->disk_mirror, b->disk.file.fd, c))
		disk_track_distrust(b->v.vm->disk_track);
}

/*
 * The disk gets the change, now or once its epoch is committed (blk_defer.h), then the mirror
 * is told. That also for a request that a reset has voided: the disk has it all the same. Of a
 * disk that mirrors itself the other host has what did not wait.
 */
static int change(struct virtio_blk *b, enum control_disk_op op, uint64_t offset, uint64_t len)
{
	const struct disk_change c = {
		.op = (uint8_t)op,
		.disk = b->index,
		.offset = offset,
		.length = len,
		.data = op == CONTROL_DISK_WRITE ? b->piece : NULL,
	};
	int passes = b->disk.defer ? blk_defer_add(b->disk.defer, &c) : 1;
	uint64_t position;
	int r;

	if (passes < 0)
		return passes == -ECANCELED ? STATUS_VOID : STATUS_IOERR;
	r = passes ? blk_change(&b->disk, &c) : 0;
	if (passes && b->disk.defer) {
		blk_defer_passed(b->disk.defer);
		return r < 0 ? STATUS_IOERR : STATUS_OK;
	}
	if (r == -ECANCELED)
		return STATUS_VOID;
	if (r < 0)
		tell_failed(b, &c);
	if (r)
		return r < 0 ? STATUS_IOERR : STATUS_OK;
	r = disk_mirror_put(b->v.vm->disk_mirror, &c, &position);
	if (!passes)
		blk_defer_stamp(b->disk.defer, position);
	return r ? STATUS_VOID : STATUS_OK;
}

static int flush(struct virtio_blk *b)
{
	return fault_at("blk.flush") ? STATUS_IOERR : change(b, CONTROL_DISK_FLUSH, 0, 0);
}

/* --- requests ------------------------------------------------------------------------- */

static bool range_ok(const struct virtio_blk *b, uint64_t offset, uint64_t len)
{
	return offset <= b->disk.file.bytes && len <= b->disk.file.bytes - offset;
}

static int do_read(struct virtio_blk *b)
{
	uint64_t total = b->chain.in_bytes - 1; /* the last byte is the status */

	if (total % SECTOR_BYTES || !range_ok(b, b->offset, total))
		return STATUS_IOERR;
	for (uint64_t at = 0; at < total; at += PIECE_BYTES) {
		size_t len = (size_t)MIN(total - at, PIECE_BYTES);

		int err = blk_read(&b->disk, b->offset + at, b->piece, len);

		if (err)
			return err == -ECANCELED ? STATUS_VOID : STATUS_IOERR;
		if (!store(b, at, len))
			return STATUS_VOID;
	}
	return STATUS_OK;
}

/* A deferred disk mirrors itself, and keeps its own account of what differs; of a served one its
 * server does. */
static bool is_tracked(const struct virtio_blk *b)
{
	return !b->disk.defer && !b->disk.served;
}

static int track_begin(struct virtio_blk *b, struct disk_track_write *w, uint64_t offset,
		       uint64_t len)
{
	return is_tracked(b) ? disk_track_begin(b->v.vm->disk_track, w, b->index, offset, len) : 0;
}

static void track_end(struct virtio_blk *b, struct disk_track_write *w)
{
	if (is_tracked(b))
		disk_track_end(b->v.vm->disk_track, w);
}

static int write_piece(struct virtio_blk *b, uint64_t at, size_t len)
{
	if (!fetch(b, HEAD_BYTES + at, len))
		return STATUS_VOID;
	if (fault_at("blk.write"))
		return STATUS_IOERR;
	return change(b, CONTROL_DISK_WRITE, b->offset + at, len);
}

static int do_write(struct virtio_blk *b)
{
	uint64_t total = b->chain.out_bytes - HEAD_BYTES;
	struct disk_track_write w;
	int status = STATUS_OK;

	if (b->disk.file.readonly || total % SECTOR_BYTES || !range_ok(b, b->offset, total))
		return STATUS_IOERR;
	if (track_begin(b, &w, b->offset, total))
		return STATUS_IOERR;
	for (uint64_t at = 0; at < total && status == STATUS_OK; at += PIECE_BYTES)
		status = write_piece(b, at, (size_t)MIN(total - at, PIECE_BYTES));
	track_end(b, &w);
	/* 5.2.6.2: without FLUSH the driver takes what is completed for durable. */
	if (status == STATUS_OK && b->write_through)
		status = flush(b);
	return status;
}

/* One range of a discard or of write zeroes. */
static int erase_range(struct virtio_blk *b, uint64_t sector, uint32_t sectors)
{
	uint64_t offset = sector * SECTOR_BYTES, len = (uint64_t)sectors * SECTOR_BYTES;
	bool discard = b->type == REQUEST_DISCARD;
	struct disk_track_write w;
	int status;

	if (sector > b->disk.file.bytes / SECTOR_BYTES || !range_ok(b, offset, len))
		return STATUS_IOERR;
	if (!len)
		return STATUS_OK;
	if (fault_at("blk.write") || track_begin(b, &w, offset, len))
		return STATUS_IOERR;
	status = change(b, discard ? CONTROL_DISK_DISCARD : CONTROL_DISK_ZEROES, offset, len);
	track_end(b, &w);
	return status;
}

static int do_erase(struct virtio_blk *b)
{
	uint64_t total = b->chain.out_bytes - HEAD_BYTES;
	uint8_t ranges[MAX_RANGES * RANGE_BYTES] = { 0 };
	struct cursor c = cursor_over(ranges, (size_t)MIN(total, sizeof(ranges)));
	int status = STATUS_OK;

	if (b->disk.file.readonly || !total || total % RANGE_BYTES || total > sizeof(ranges))
		return STATUS_IOERR;
	if (!fetch(b, HEAD_BYTES, (size_t)total))
		return STATUS_VOID;
	memcpy(ranges, b->piece, (size_t)total);
	while (status == STATUS_OK && cursor_left(&c)) {
		uint64_t sector = cursor_get_u64(&c);
		uint32_t sectors = cursor_get_u32(&c), flags = cursor_get_u32(&c);

		/* 5.2.6.2: bit 0, unmap, belongs to write zeroes alone, where it is a hint. */
		if (flags & ~(b->type == REQUEST_DISCARD ? 0u : 1u))
			return STATUS_UNSUPP;
		status = erase_range(b, sector, sectors);
	}
	if (status == STATUS_OK && b->write_through)
		status = flush(b);
	return status;
}

static int do_get_id(struct virtio_blk *b)
{
	char id[ID_BYTES + 1] = { 0 };

	if (b->chain.in_bytes - 1 < ID_BYTES)
		return STATUS_IOERR;
	snprintf(id, sizeof(id), "pollux-disk%u", b->index);
	memcpy(b->piece, id, ID_BYTES);
	return store(b, 0, ID_BYTES) ? STATUS_OK : STATUS_VOID;
}

static int execute(struct virtio_blk *b)
{
	switch (b->type) {
	case REQUEST_IN:
		return do_read(b);
	case REQUEST_OUT:
		return do_write(b);
	case REQUEST_FLUSH:
		return flush(b);
	case REQUEST_GET_ID:
		return do_get_id(b);
	case REQUEST_DISCARD:
	case REQUEST_WRITE_ZEROES:
		return do_erase(b);
	default:
		return STATUS_UNSUPP;
	}
}

/* --- the worker ----------------------------------------------------------------------- */

/* Inside: reads the head of the chain that was taken. False: it is none, the device broke. */
static bool parse(struct virtio_blk *b)
{
	uint8_t head[HEAD_BYTES] = { 0 };
	struct cursor c = cursor_over(head, sizeof(head));
	uint64_t sector;

	if (b->chain.out_bytes < HEAD_BYTES || !b->chain.in_bytes ||
	    virtqueue_read(&b->v.queue[0], &b->chain, 0, head, sizeof(head))) {
		virtio_break(&b->v);
		return false;
	}
	b->type = cursor_get_u32(&c);
	(void)cursor_get_u32(&c);
	sector = cursor_get_u64(&c);
	/* One past the end stands for all that lies beyond, and does not overflow. */
	b->offset = MIN(sector, b->disk.file.bytes / SECTOR_BYTES + 1) * SECTOR_BYTES;
	b->write_through = !(b->v.accepted & VIRTIO_BLK_F_FLUSH);
	b->resets = b->v.resets;
	return true;
}

/* Inside: takes the next request, one that a loaded state brought before all others. */
static bool take(struct virtio_blk *b)
{
	if (!virtio_ready(&b->v, 0))
		return false;
	if (b->nr_in_flight) {
		if (virtqueue_walk(&b->v.queue[0], b->in_flight[0], &b->chain)) {
			virtio_break(&b->v);
			return false;
		}
	} else {
		/* Once: a guest that moves its index back and forth is not waited for. */
		if (!virtio_pop(&b->v, 0, &b->chain) &&
		    !(virtio_arm(&b->v, 0) && virtio_pop(&b->v, 0, &b->chain)))
			return false;
		b->in_flight[b->nr_in_flight++] = b->chain.head;
	}
	return parse(b);
}

static void complete(struct virtio_blk *b, int status)
{
	uint8_t byte = (uint8_t)status;
	uint64_t written = 1;

	if (status == STATUS_VOID || !enter(b))
		return;
	if (status == STATUS_OK && (b->type == REQUEST_IN || b->type == REQUEST_GET_ID))
		written = b->chain.in_bytes;
	if (virtqueue_write(&b->v.queue[0], &b->chain, b->chain.in_bytes - 1, &byte, 1)) {
		virtio_break(&b->v);
	} else {
		virtio_push(&b->v, 0, b->chain.head, (uint32_t)written);
		b->nr_in_flight--;
		memmove(b->in_flight, b->in_flight + 1, b->nr_in_flight * sizeof(*b->in_flight));
		virtio_signal(&b->v, 0);
	}
	virtio_leave(&b->v);
}

static unsigned int work(struct virtio_device *v, unsigned int ready)
{
	struct virtio_blk *b = from_virtio(v);
	bool taken = true;

	(void)ready;
	for (unsigned int i = 0; i < VIRTIO_TURN && taken && !virtio_stopping(v); i++) {
		virtio_enter(v);
		taken = take(b);
		virtio_leave(v);
		if (taken)
			complete(b, execute(b));
	}
	return taken ? VIRTIO_READY_QUEUE(0) : 0;
}

/* --- the device ----------------------------------------------------------------------- */

/* struct virtio_blk_config, 5.2.4; what no feature offers is zero. */
static void config(struct virtio_device *v, uint8_t ret[VIRTIO_CONFIG_BYTES])
{
	struct virtio_blk *b = from_virtio(v);
	struct cursor c = cursor_over(ret, VIRTIO_CONFIG_BYTES);

	cursor_put_u64(&c, b->disk.file.bytes / SECTOR_BYTES);
	cursor_put_u32(&c, 0); /* size_max */
	cursor_put_u32(&c, SEG_MAX);
	cursor_put_u32(&c, 0); /* geometry */
	cursor_put_u32(&c, SECTOR_BYTES);
	(void)cursor_put_room(&c, 8); /* topology */
	(void)cursor_put_room(&c, 4); /* writeback, unused, num_queues */
	cursor_put_u32(&c, MAX_SECTORS);
	cursor_put_u32(&c, MAX_RANGES);
	cursor_put_u32(&c, 1); /* discard alignment, in sectors */
	cursor_put_u32(&c, MAX_SECTORS);
	cursor_put_u32(&c, MAX_RANGES);
	cursor_put_u8(&c, 1); /* write zeroes may unmap */
}

static void state(struct virtio_device *v, struct state *s)
{
	struct virtio_blk *b = from_virtio(v);
	uint64_t bytes = b->disk.file.bytes;

	/* The other host's disk must be as large: what the guest knows of it does not change. */
	state_u64(s, &bytes);
	state_check(s, bytes == b->disk.file.bytes);
	state_count(s, &b->nr_in_flight, VIRTQUEUE_MAX);
	for (uint32_t i = 0; i < b->nr_in_flight && i < VIRTQUEUE_MAX; i++)
		state_u16(s, &b->in_flight[i]);
	if (!state_ok(s))
		b->nr_in_flight = 0;
}

static void reset(struct virtio_device *v)
{
	from_virtio(v)->nr_in_flight = 0;
}

static int start(struct virtio_device *v)
{
	struct virtio_blk *b = from_virtio(v);

	return blk_lock(&b->disk);
}

static void stop(struct virtio_device *v)
{
	struct virtio_blk *b = from_virtio(v);

	blk_stop(&b->disk);
	disk_mirror_stop(v->vm->disk_mirror);
}

static void destroy(struct virtio_device *v)
{
	struct virtio_blk *b = from_virtio(v);

	virtio_release(v);
	blk_close(&b->disk);
	free(b);
}

static const struct virtio_ops ops = {
	.config = config,
	.state = state,
	.reset = reset,
	.start = start,
	.work = work,
	.stop = stop,
	.destroy = destroy,
};

/* A descriptor of its own: disk_track.h says why. */
static int add_to_track(struct vm *vm, const struct vm_config_disk *disk, uint64_t bytes,
			struct reason *why)
{
	bool none = disk->deferred || blk_is_served(disk);
	int fd = none ? -1 : open(disk->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err = fd < 0 && !none ? -errno : disk_track_add(vm->disk_track, fd, bytes);

	return err ? reason_set(why, -err, "disk %s: %s", disk->path, strerror(-err)) : 0;
}

int virtio_blk_create(struct vm *vm, unsigned int index, struct reason *why)
{
	const struct vm_config_disk *disk = &vm->config.disk[index];
	struct virtio_identity identity = {
		.id = VIRTIO_ID_BLK,
		.state_type = STATE_VIRTIO_BLK,
		.instance = (uint16_t)index,
		.class_revision = PCI_CLASS_STORAGE,
		.nr_queues = 1,
		.features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH,
	};
	struct virtio_blk *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return reason_set(why, ENOMEM, "no memory for disk %s", disk->path);
	b->index = (uint16_t)index;
	b->v.vm = vm;
	err = blk_open(&b->disk, disk, vm->standby, why);
	if (err)
		goto err_free;
	identity.features |=
		disk->readonly ? VIRTIO_BLK_F_RO : VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
	err = virtio_add(&b->v, vm, &ops, &identity, why);
	if (err)
		goto err_close;
	/* The device is in the VM's list by now, which frees it. */
	return add_to_track(vm, disk, b->disk.file.bytes, why);

err_close:
	blk_close(&b->disk);
err_free:
	free(b);
	return err;
}

static struct virtio_blk *find(struct vm *vm, unsigned int index)
{
	for (struct vm_device *dev = vm->devices; dev; dev = dev->next) {
		if (dev->type == STATE_VIRTIO_BLK && dev->instance == index)
			return (struct virtio_blk *)dev;
	}
	return NULL;
}

int virtio_blk_info(struct vm *vm, unsigned int index, struct virtio_blk_info *ret)
{
	const struct virtio_blk *b = find(vm, index);

	if (!b)
		return -ENODEV;
	*ret = (struct virtio_blk_info){ b->disk.file.bytes, b->disk.file.readonly };
	return 0;
}

struct blk_defer *virtio_blk_defer(struct vm *vm, unsigned int index)
{
	const struct virtio_blk *b = find(vm, index);

	return b ? b->disk.defer : NULL;
}

int virtio_blk_give(struct vm *vm, unsigned int index, int fd, struct reason *why)
{
	struct virtio_blk *b = find(vm, index);
	int err = !b || !b->disk.defer ? -ENODEV : b->disk.file.fd >= 0 ? -EBUSY : 0;

	if (err) {
		close(fd);
		return reason_set(why, -err, "disk %u does not wait for a descriptor", index);
	}
	return blk_file_give(&b->disk.file, fd, why);
}
