/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/export.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "hypervisor/vmm/memory.h"

static uint64_t page_align(uint64_t bytes)
{
	return (bytes + GUEST_PAGE_BYTES - 1) & ~(uint64_t)(GUEST_PAGE_BYTES - 1);
}

/* All pages are there from the start: none is allocated during a pause. */
int export_open(struct export_area *ret, uint64_t nr_gfns, uint64_t context_max)
{
	uint64_t dirty_bytes = page_align(bitmap_bytes(nr_gfns));
	struct export_area area = {
		.bytes = (size_t)(dirty_bytes + page_align(context_max)),
		.context_offset = dirty_bytes,
		.context_max = context_max,
	};
	int err;

	area.fd = memfd_create("pollux-export", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (area.fd < 0)
		return -errno;
	if (ftruncate(area.fd, (off_t)area.bytes) ||
	    fcntl(area.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		err = -errno;
		goto err_close;
	}
	area.base = mmap(NULL, area.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			 area.fd, 0);
	if (area.base == MAP_FAILED) {
		err = -errno;
		goto err_close;
	}
	area.dirty = (uint64_t *)(void *)area.base;
	area.context = area.base + area.context_offset;
	*ret = area;
	return 0;

err_close:
	close(area.fd);
	return err;
}

void export_close(struct export_area *area)
{
	if (!area->base)
		return;
	munmap(area->base, area->bytes);
	close(area->fd);
	area->base = NULL;
}
