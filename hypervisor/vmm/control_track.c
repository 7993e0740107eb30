/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/control_track.h"

#include "base/bitmap.h"
#include "hypervisor/vmm/control_ops.h"
#include "hypervisor/vmm/disk_track.h"
#include "hypervisor/vmm/vm.h"

static int bad_request(struct control_request *r)
{
	return reason_set(&r->why, EPROTO,
			  "the request is not of the length that its operation asks for");
}

int control_disk_track(struct control_request *r)
{
	uint8_t on = cursor_get_u8(&r->in);

	if (!cursor_done(&r->in) || on > 1 || r->nr_in_fds != on)
		return bad_request(r);
	if (on)
		return disk_track_on(r->vm->disk_track, take_fd(&r->in_fds[0]), &r->why);
	disk_track_off(r->vm->disk_track);
	return 0;
}

int control_track_rotate(struct control_request *r)
{
	return cursor_done(&r->in) ? disk_track_rotate(r->vm->disk_track) : bad_request(r);
}

int control_track_forget(struct control_request *r)
{
	uint16_t disk = cursor_get_u16(&r->in);
	uint64_t offset = cursor_get_u64(&r->in);

	if (!cursor_done(&r->in))
		return bad_request(r);
	return disk_track_forget(r->vm->disk_track, disk, offset);
}

int control_track_read(struct control_request *r)
{
	uint16_t disk = cursor_get_u16(&r->in);
	cleanup_free uint64_t *bits = NULL;
	struct region_header header;
	size_t words;
	int err;

	if (!cursor_done(&r->in))
		return bad_request(r);
	err = disk_track_header(r->vm->disk_track, &header);
	if (!err && disk >= header.nr_disks)
		err = -EINVAL;
	if (err)
		return err;
	words = bitmap_words(region_count(header.disk_bytes[disk]));
	bits = calloc(words, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	err = disk_track_read(r->vm->disk_track, disk, bits);
	if (err)
		return err;
	cursor_put_bytes(&r->out, header.token, sizeof(header.token));
	cursor_put_u64(&r->out, header.disk_bytes[disk]);
	cursor_put_u64(&r->out, words);
	for (size_t i = 0; i < words; i++)
		cursor_put_u64(&r->out, bits[i]);
	return 0;
}

int control_track_mark(struct control_request *r)
{
	uint16_t disk = cursor_get_u16(&r->in);
	uint64_t words = cursor_get_u64(&r->in);
	cleanup_free uint64_t *bits = NULL;
	struct region_header header;
	int err = disk_track_header(r->vm->disk_track, &header);
	uint64_t count;

	if (!err && disk >= header.nr_disks)
		err = -EINVAL;
	if (err)
		return err;
	count = region_count(header.disk_bytes[disk]);
	if (words != bitmap_words(count))
		return reason_set(&r->why, EINVAL, "disk %u has %zu words of regions, not %llu",
				  disk, bitmap_words(count), (unsigned long long)words);
	bits = calloc(words, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	for (uint64_t i = 0; i < words; i++)
		bits[i] = cursor_get_u64(&r->in);
	if (!cursor_done(&r->in))
		return bad_request(r);
	if (count % BITMAP_WORD_BITS)
		bits[words - 1] &= (UINT64_C(1) << (count % BITMAP_WORD_BITS)) - 1;
	return disk_track_mark(r->vm->disk_track, disk, bits);
}
