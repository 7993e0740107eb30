/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hypercall buffers. Xen needs memory that it can reach from inside a hypercall; here it
 * is ordinary memory, touched when it is allocated so that the pause meets no page fault.
 */
#include <sys/mman.h>

#include "hypervisor/xenctrl/interface.h"

#define BUFFER_PAGES_MAX (1 << 20)

xc_hypercall_buffer_t XC__HYPERCALL_BUFFER_NAME(HYPERCALL_BUFFER_NULL) = {
	.hbuf = NULL,
	.param_shadow = NULL,
	HYPERCALL_BUFFER_INIT_NO_BOUNCE,
};

void *xc__hypercall_buffer_alloc_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages)
{
	void *p;

	(void)xch;
	if (nr_pages <= 0 || nr_pages > BUFFER_PAGES_MAX) {
		interface_result(-EINVAL, NULL);
		return NULL;
	}
	p = mmap(NULL, (size_t)nr_pages << LINK_PAGE_SHIFT, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED) {
		interface_result(-errno, NULL);
		return NULL;
	}
	b->hbuf = p;
	return p;
}

void xc__hypercall_buffer_free_pages(xc_interface *xch, xc_hypercall_buffer_t *b, int nr_pages)
{
	(void)xch;
	if (b->hbuf)
		munmap(b->hbuf, (size_t)nr_pages << LINK_PAGE_SHIFT);
	b->hbuf = NULL;
}

void *xc__hypercall_buffer_alloc(xc_interface *xch, xc_hypercall_buffer_t *b, size_t size)
{
	(void)xch;
	if (size > (size_t)BUFFER_PAGES_MAX << LINK_PAGE_SHIFT) {
		interface_result(-EINVAL, NULL);
		return NULL;
	}
	size = (size + LINK_PAGE_BYTES - 1) & ~(LINK_PAGE_BYTES - 1);
	b->hbuf = aligned_alloc(LINK_PAGE_BYTES, size);
	if (!b->hbuf) {
		interface_result(-ENOMEM, NULL);
		return NULL;
	}
	memset(b->hbuf, 0, size);
	return b->hbuf;
}

void xc__hypercall_buffer_free(xc_interface *xch, xc_hypercall_buffer_t *b)
{
	(void)xch;
	free(b->hbuf);
	b->hbuf = NULL;
}
