/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/control_track.h"

#include "base/bitmap.h"
#include "hypervisor/vmm/disk_track.h"

static int bad_request(struct control_work *w)
{
	return reason_set(&w->why, EPROTO,
			  "the request is not of the length that its operation asks for");
}

static int turn(struct disk_track *t, struct control_work *w)
{
	uint8_t on = cursor_get_u8(&w->in);

	if (!cursor_done(&w->in) || on > 1 || w->nr_in_fds != on)
		return bad_request(w);
	if (on)
		return disk_track_on(t, take_fd(&w->in_fds[0]), &w->why);
	disk_track_off(t);
	return 0;
}

static int op_rotate(struct disk_track *t, struct control_work *w)
{
	return cursor_done(&w->in) ? disk_track_rotate(t) : bad_request(w);
}

static int op_forget(struct disk_track *t, struct control_work *w)
{
	uint16_t disk = cursor_get_u16(&w->in);
	uint64_t offset = cursor_get_u64(&w->in);

	if (!cursor_done(&w->in))
		return bad_request(w);
	return disk_track_forget(t, disk, offset);
}

static int op_read(struct disk_track *t, struct control_work *w)
{
	uint16_t disk = cursor_get_u16(&w->in);
	cleanup_free uint64_t *bits = NULL;
	struct region_header header;
	size_t words;
	int err;

	if (!cursor_done(&w->in))
		return bad_request(w);
	err = disk_track_header(t, &header);
	if (!err && disk >= header.nr_disks)
		err = -EINVAL;
	if (err)
		return err;
	words = bitmap_words(region_count(header.disk_bytes[disk]));
	bits = calloc(words, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	err = disk_track_read(t, disk, bits);
	if (err)
		return err;
	cursor_put_bytes(&w->out, header.token, sizeof(header.token));
	cursor_put_u64(&w->out, header.disk_bytes[disk]);
	cursor_put_u64(&w->out, words);
	for (size_t i = 0; i < words; i++)
		cursor_put_u64(&w->out, bits[i]);
	return 0;
}

static int op_mark(struct disk_track *t, struct control_work *w)
{
	uint16_t disk = cursor_get_u16(&w->in);
	uint64_t words = cursor_get_u64(&w->in);
	cleanup_free uint64_t *bits = NULL;
	struct region_header header;
	int err = disk_track_header(t, &header);
	uint64_t count;

	if (!err && disk >= header.nr_disks)
		err = -EINVAL;
	if (err)
		return err;
	count = region_count(header.disk_bytes[disk]);
	if (words != bitmap_words(count))
		return reason_set(&w->why, EINVAL, "disk %u has %zu words of regions, not %llu",
				  disk, bitmap_words(count), (unsigned long long)words);
	bits = calloc(words, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	for (uint64_t i = 0; i < words; i++)
		bits[i] = cursor_get_u64(&w->in);
	if (!cursor_done(&w->in))
		return bad_request(w);
	if (count % BITMAP_WORD_BITS)
		bits[words - 1] &= (UINT64_C(1) << (count % BITMAP_WORD_BITS)) - 1;
	return disk_track_mark(t, disk, bits);
}

static int (*const ops[])(struct disk_track *, struct control_work *) = {
	[CONTROL_DISK_TRACK] = turn,	    [CONTROL_TRACK_ROTATE] = op_rotate,
	[CONTROL_TRACK_FORGET] = op_forget, [CONTROL_TRACK_READ] = op_read,
	[CONTROL_TRACK_MARK] = op_mark,
};

bool control_track_is(uint32_t op)
{
	return op < ARRAY_SIZE(ops) && ops[op];
}

int control_track(struct disk_track *track, uint32_t op, struct control_work *work)
{
	return ops[op](track, work);
}
