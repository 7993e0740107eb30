/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for disk-replica/sources.h and what it asks, with the real tracking behind it: of
 * pollux-vmm, and of a server of disk 1 where a disk says that it is served. `vmm` spoils calls.
 * For one test program.
 */
#ifndef POLLUX_TESTS_FAKE_SOURCES_H
#define POLLUX_TESTS_FAKE_SOURCES_H

#include <string.h>

#include "base/bitmap.h"
#include "disk-replica/sources.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/disk_track.h"
#include "tests/lib/test.h"

#define NR 2u

static struct disk_info disks[NR];
static struct disk_track *track;  /* pollux-vmm's */
static struct disk_track *server; /* disk 1's, NULL: none */

static struct {
	bool gone;
	int error; /* of the next calls of `op` */
	enum control_op op;
	size_t cut; /* bytes that a reply of TRACK_READ is short of; SIZE_MAX: one too many */
	uint64_t more_bytes;
	uint8_t reply[16384];
	unsigned int calls;
} vmm;

static struct disk_track *track_of(const struct control *c)
{
	return c == (void *)&server ? server : track;
}

int sources_open(struct control *vm, struct sources *ret, struct reason *ret_why)
{
	(void)ret_why;
	ret->control[0] = vm;
	ret->control[1] = (void *)&server;
	ret->nr = 1;
	ret->nr_disks = NR;
	for (unsigned int i = 0; i < NR; i++) {
		ret->named[i] = disks[i];
		ret->source[i] = disks[i].served;
		ret->local[i] = disks[i].served ? 0 : (uint16_t)i;
		ret->nr += disks[i].served;
	}
	return 0;
}

int sources_connect(const char *run_dir, struct sources *ret, struct reason *ret_why)
{
	assert_string_equal(run_dir, "/run/vm");
	return vmm.gone ? reason_set(ret_why, ECONNREFUSED, "pollux-vmm does not answer")
			: sources_open((void *)&vmm, ret, ret_why);
}

void sources_close(struct sources *s)
{
	(void)s;
}

bool sources_has_disk(const struct sources *s, unsigned int source)
{
	return s->source[0] == source || s->source[1] == source;
}

int sources_count(struct control *control, int fd, struct reason *ret_why)
{
	if (vmm.error && vmm.op == CONTROL_DISK_TRACK)
		return reason_set(ret_why, -vmm.error, "as the test wants");
	if (fd >= 0)
		return disk_track_on(track_of(control), dup(fd), ret_why);
	disk_track_off(track_of(control));
	return 0;
}

int control_simple(struct control *control, enum control_op op)
{
	assert_int_equal(op, CONTROL_TRACK_ROTATE);
	return disk_track_rotate(track_of(control));
}

static int read_back(struct disk_track *of, uint16_t disk, struct cursor *ret)
{
	struct cursor put = cursor_over(vmm.reply, sizeof(vmm.reply));
	struct region_header h;
	uint64_t bits[64];
	int err = disk_track_header(of, &h);

	if (!err)
		err = disk_track_read(of, disk, bits);
	if (err)
		return err;
	cursor_put_bytes(&put, h.token, sizeof(h.token));
	cursor_put_u64(&put, h.disk_bytes[disk] + vmm.more_bytes);
	cursor_put_u64(&put, bitmap_words(region_count(h.disk_bytes[disk])));
	for (size_t i = 0; i < bitmap_words(region_count(h.disk_bytes[disk])); i++)
		cursor_put_u64(&put, bits[i]);
	*ret = cursor_over(vmm.reply, (size_t)(put.pos - vmm.reply) - vmm.cut);
	return 0;
}

static int mark(struct disk_track *of, struct cursor *get)
{
	uint16_t disk = cursor_get_u16(get);
	uint64_t n = cursor_get_u64(get), bits[64] = { 0 };

	assert_true(n <= ARRAY_SIZE(bits));
	for (uint64_t i = 0; i < n; i++)
		bits[i] = cursor_get_u64(get);
	assert_true(cursor_done(get));
	return disk_track_mark(of, disk, bits);
}

int control_call(struct control *c, const struct control_call *call, struct cursor *ret)
{
	struct cursor get = cursor_over(call->request, call->request_len);

	vmm.calls++;
	if (vmm.error && vmm.op == call->op)
		return reason_set(call->why, -vmm.error, "as the test wants");
	switch ((unsigned int)call->op) {
	case CONTROL_TRACK_READ:
		return read_back(track_of(c), cursor_get_u16(&get), ret);
	case CONTROL_TRACK_MARK:
		return mark(track_of(c), &get);
	}
	return -ENOSYS;
}

#endif
