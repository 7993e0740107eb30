/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-vmm's end of the disk ring, for tests: control_call() answers DISK_LIST and
 * DISK_MIRROR from here, and the test is the producer.
 */
#ifndef POLLUX_TEST_DISK_STUB_H
#define POLLUX_TEST_DISK_STUB_H

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/ring.h"
#include "disk-replica/mirror.h"

static struct {
	uint8_t list[4096]; /* reply to DISK_LIST */
	size_t list_len;
	bool unsealed;
	uint64_t cut; /* bytes that the ring is short of */
	int memfd;
	int records_fd;
	int room_fd;
	void *mapping;
	uint64_t bytes;
	struct ring ring;
	unsigned int offs; /* times the mirror was turned off */
} stub = { .memfd = -1, .records_fd = -1, .room_fd = -1 };

static inline void stub_reset(void)
{
	if (stub.mapping)
		munmap(stub.mapping, ring_map_bytes(stub.bytes));
	err_close_fd(&stub.memfd);
	err_close_fd(&stub.records_fd);
	err_close_fd(&stub.room_fd);
	memset(&stub, 0, sizeof(stub));
	stub.memfd = stub.records_fd = stub.room_fd = -1;
}

static inline int stub_mirror_on(uint64_t ring_bytes, int *fds)
{
	size_t bytes = ring_map_bytes(ring_bytes);

	stub.memfd = memfd_create("ring", MFD_CLOEXEC | (stub.unsealed ? 0 : MFD_ALLOW_SEALING));
	if (stub.memfd < 0 || ftruncate(stub.memfd, (off_t)bytes))
		return -errno;
	stub.mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, stub.memfd, 0);
	if (stub.mapping == MAP_FAILED)
		return -errno;
	stub.bytes = ring_bytes;
	if (stub.cut && ftruncate(stub.memfd, (off_t)(bytes - stub.cut)))
		return -errno;
	ring_attach_producer(&stub.ring, stub.mapping, ring_bytes);
	stub.records_fd = eventfd(0, EFD_CLOEXEC);
	stub.room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[0] = dup(stub.memfd);
	fds[1] = dup(stub.records_fd);
	fds[2] = dup(stub.room_fd);
	return 0;
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret_reply)
{
	struct cursor get = cursor_over(call->request, call->request_len);

	(void)c;
	if (call->op == CONTROL_DISK_LIST) {
		*ret_reply = cursor_over(stub.list, stub.list_len);
		return 0;
	}
	if (call->op != CONTROL_DISK_MIRROR)
		return -EINVAL;
	if (cursor_get_u8(&get))
		return stub_mirror_on(cursor_get_u64(&get), call->ret_fds);
	stub.offs++;
	return 0;
}

int control_fd(const struct control *c)
{
	(void)c;
	return -1;
}

/* Of sources_open(), which these tests do not need: there is one source. */
int control_connect(const char *run_dir, struct control **ret)
{
	(void)run_dir;
	(void)ret;
	return -ENOENT;
}

void control_close(struct control *c)
{
	(void)c;
}

/* All disks are one source's. */
static inline void stub_sources(struct sources *ret, const struct disk_info *disks, unsigned int nr)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->disks, disks, nr * sizeof(*disks));
	for (unsigned int i = 0; i < nr; i++)
		ret->local[i] = (uint16_t)i;
	ret->nr_disks = nr;
	ret->nr = 1;
}

/* Everything that was put until now. */
static inline const struct mirror_mark *stub_now(const struct mirror *m)
{
	static struct mirror_mark now;

	mirror_now(m, &now);
	return &now;
}

/* The 24 bytes in front of a record's data. */
static inline void stub_header(uint8_t ret[CONTROL_DISK_RECORD_BYTES], const struct disk_record *r)
{
	struct cursor c = cursor_over(ret, CONTROL_DISK_RECORD_BYTES);

	cursor_put_u8(&c, (uint8_t)r->op);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, r->disk);
	cursor_put_u32(&c, 0);
	cursor_put_u64(&c, r->offset);
	cursor_put_u64(&c, r->length);
}

static inline int stub_put_raw(const void *head, size_t head_len, const void *data, size_t len)
{
	struct ring_piece pieces[] = { { head, head_len }, { data, len } };

	return ring_put(&stub.ring, pieces, len ? 2 : 1);
}

static inline int stub_put(const struct disk_record *r)
{
	uint8_t head[CONTROL_DISK_RECORD_BYTES];
	int err;

	stub_header(head, r);
	err = stub_put_raw(head, sizeof(head), r->data, r->data ? (size_t)r->length : 0);
	if (!err)
		err = eventfd_write(stub.records_fd, 1) ? -errno : 0;
	return err;
}

#endif
