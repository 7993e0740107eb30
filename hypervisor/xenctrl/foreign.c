/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxenforeignmemory over a VM's memfd. A run of frames that lie side by side in it is
 * one mmap, so the whole of a guest is two mappings.
 *
 * A mapping stays what it is when the VM ends: its pages live until the last user goes.
 *
 * Threads: any.
 */
#include <sys/mman.h>
#include <xenforeignmemory.h>

#include "hypervisor/xenctrl/link.h"

#define FOREIGN_PAGES_MAX (UINT64_C(1) << 28) /* 1 TiB */

struct xenforeignmemory_handle {
	struct link_table links;
};

struct foreign_map {
	const struct link *link;
	uint8_t *base;
	const xen_pfn_t *gfns;
	size_t pages;
	int prot;
	int flags;
};

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger,
					       unsigned open_flags)
{
	struct xenforeignmemory_handle *fmem = malloc(sizeof(*fmem));

	(void)logger;
	(void)open_flags;
	if (fmem)
		link_table_init(&fmem->links, false);
	return fmem;
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
	if (!fmem)
		return 0;
	link_table_close(&fmem->links);
	free(fmem);
	return 0;
}

/* How many frames from `at` on lie side by side; 0: the first is no memory. */
static size_t run_length(const struct foreign_map *m, size_t at, uint64_t *ret_offset)
{
	uint64_t start, offset;
	size_t n = 1;

	if (!link_gfn_offset(m->link, m->gfns[at], &start))
		return 0;
	while (at + n < m->pages && link_gfn_offset(m->link, m->gfns[at + n], &offset) &&
	       offset == start + (n << LINK_PAGE_SHIFT))
		n++;
	*ret_offset = start;
	return n;
}

/* Maps one run, or passes over one frame that is none; how many frames that was. */
static size_t map_run(const struct foreign_map *m, size_t at, int *ret_err)
{
	uint64_t offset = 0;
	size_t n = run_length(m, at, &offset);
	void *p;

	if (!n) {
		*ret_err = EINVAL;
		return 1;
	}
	p = mmap(m->base + (at << LINK_PAGE_SHIFT), n << LINK_PAGE_SHIFT, m->prot,
		 MAP_SHARED | MAP_FIXED | m->flags, m->link->memory_fd, (off_t)offset);
	*ret_err = p == MAP_FAILED ? errno : 0;
	return n;
}

static int map_all(const struct foreign_map *m, int *err)
{
	for (size_t at = 0; at < m->pages;) {
		int failed;
		size_t n = map_run(m, at, &failed);

		if (failed && !err)
			return -failed;
		for (size_t i = 0; err && i < n; i++)
			err[at + i] = failed;
		at += n;
	}
	return 0;
}

/* The link, still connected: a domain number may have gone to another VM since. */
static int get_live(struct link_table *t, uint32_t dom, struct link **ret)
{
	struct link *link;
	int err = link_get(t, dom, &link, NULL);

	if (err)
		return err;
	err = link_check(link);
	if (err) {
		link_put(t, link);
		return link_get(t, dom, ret, NULL);
	}
	*ret = link;
	return 0;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom, void *addr, int prot,
			    int flags, size_t pages, const xen_pfn_t arr[], int err[])
{
	struct foreign_map m = {
		.gfns = arr, .pages = pages, .prot = prot, .flags = flags & MAP_POPULATE
	};
	struct link *link;
	int failed;

	if (!pages || pages > FOREIGN_PAGES_MAX) {
		errno = EINVAL;
		return NULL;
	}
	failed = get_live(&fmem->links, dom, &link);
	if (failed) {
		errno = -failed;
		return NULL;
	}
	m.link = link;
	m.base = mmap(addr, pages << LINK_PAGE_SHIFT, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	failed = m.base == MAP_FAILED ? -errno : map_all(&m, err);
	link_put(&fmem->links, link);
	if (!failed)
		return m.base;
	if (m.base != MAP_FAILED)
		munmap(m.base, pages << LINK_PAGE_SHIFT);
	errno = -failed;
	return NULL;
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom, int prot, size_t pages,
			   const xen_pfn_t arr[], int err[])
{
	return xenforeignmemory_map2(fmem, dom, NULL, prot, 0, pages, arr, err);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t pages)
{
	(void)fmem;
	return munmap(addr, pages << LINK_PAGE_SHIFT);
}
