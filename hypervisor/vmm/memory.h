/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory and its two doors.
 *
 * The first door is KVM's: what the processors write shows in KVM's dirty log. The
 * second is guest_write(): what device code writes. KVM's log does not see the
 * second, so guest_write() is the only way in, checks every bound (P4) and marks
 * every page; a page missed there is silent corruption after a takeover.
 *
 * Addresses are guest physical, in bytes. Threads: any; marking is atomic. Device
 * code calls these inside the gate (gate.h) or on a vCPU thread.
 */
#ifndef POLLUX_VMM_MEMORY_H
#define POLLUX_VMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE_BYTES 4096u
#define GUEST_HOLE_START UINT64_C(0xc0000000)  /* 3 GiB: devices live above, up to 4 GiB */
#define GUEST_HIGH_START UINT64_C(0x100000000) /* 4 GiB: the rest of memory */
#define GUEST_MIN_BYTES	 (UINT64_C(64) << 20)
#define GUEST_MAX_BYTES	 (UINT64_C(1) << 40)

struct guest_memory {
	int fd;	       /* memfd: low memory, then high memory */
	uint8_t *base; /* mapping of the whole memfd; nobody but memory.c and boot.c uses it */
	uint64_t low_bytes;
	uint64_t high_bytes;
	uint64_t nr_gfns; /* one past the highest gfn, the hole included */
	/*
	 * Pages written through guest_write() since the last harvest; one bit a gfn. Each bit
	 * of the summary stands for one word of it, so that a harvest costs what is dirty and
	 * not what there is. Both are atomic; the page's bit is set before the summary's.
	 */
	uint64_t *device_dirty;
	uint64_t *device_summary;
};

/*
 * Reserves address space, not pages. -EINVAL: not a multiple of 1 MiB between the two limits.
 * `inherited_fd`, if not -1, is memory of that size which another process had, with what it
 * left there; taken over on success. -EINVAL: of another size, or not sealed as ours is.
 * The memfd is sealed against a change of its size, so that no one who maps it can make an
 * access of ours fault.
 */
int guest_memory_open(struct guest_memory *ret, uint64_t bytes, int inherited_fd);
void guest_memory_close(struct guest_memory *mem);

/* Copies out of / into the guest. -EFAULT, nothing done, unless all of it is memory. */
int guest_read(const struct guest_memory *mem, uint64_t gpa, void *ret, size_t len);
int guest_write(struct guest_memory *mem, uint64_t gpa, const void *src, size_t len);
bool guest_range_ok(const struct guest_memory *mem, uint64_t gpa, uint64_t len);

/* --- for the dirty set alone (dirty.h) --- */

/* Marks every page of the guest, as guest_write() would. */
void guest_mark_all(struct guest_memory *mem);
/* Moves what devices marked into `bitmap` (one bit a gfn), and returns how many of these
 * pages were not yet set in it. With `keep` the marks stay. */
uint64_t guest_harvest_marks(struct guest_memory *mem, uint64_t *bitmap, bool keep);

#endif
