/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xen-extended DOMID: tells Xen that a domain, which is paused and has not run yet, uses all
 * extended state (AVX) that the processors have.
 *
 * A guest says so itself, by XSETBV, which a hypervisor of SVM intercepts. QEMU 7.2's emulation
 * has no such intercept: the guest's XCR0 is then that of the processor, unknown to Xen,
 * which neither keeps the guest's AVX registers nor gives it XCR0 back. Told first, Xen does
 * for the guest what it does on real processors.
 *
 * Prints what Xen knew, and what it knows then: XCR0, and all bits that were ever in it.
 * Source: Xen 4.17, public/domctl.h (XEN_DOMCTL_setvcpuextstate), arch/x86/domctl.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

/* Two words, XCR0 and what it ever was; then an XSAVE area. In the area: the control words
 * of the old part, which are not all zero at first, and no component in use. */
#define WORDS	  2u
#define AREA_MAX  4096u
#define BYTES_MAX (WORDS * sizeof(uint64_t) + AREA_MAX)
#define LEGACY	  512u
#define HEADER	  64u
#define YMM	  256u
#define FCW	  0x37fu
#define MXCSR_AT  24u
#define MXCSR	  0x1f80u
#define AVX	  7u /* x87, SSE, and the upper halves of YMM */

struct extended {
	xc_interface *xch;
	uint32_t domid;
	xc_hypercall_buffer_t buffer;
	uint8_t *bytes;
	uint64_t mask; /* what the processors have; Xen wants to hear it again */
};

static int call(struct extended *x, uint32_t cmd, uint64_t *size)
{
	DECLARE_HYPERCALL_BUFFER_SHADOW(void, bytes, &x->buffer);
	struct xen_domctl ctl = { .cmd = cmd, .domain = (domid_t)x->domid };

	(void)bytes;
	ctl.u.vcpuextstate.xfeature_mask = x->mask;
	ctl.u.vcpuextstate.size = *size;
	if (*size)
		set_xen_guest_handle(ctl.u.vcpuextstate.buffer, bytes);
	if (xc_domctl(x->xch, &ctl))
		return -1;
	x->mask = ctl.u.vcpuextstate.xfeature_mask;
	*size = ctl.u.vcpuextstate.size;
	return 0;
}

static int print(struct extended *x, const char *when)
{
	uint64_t size = 0, words[WORDS];

	if (call(x, XEN_DOMCTL_getvcpuextstate, &size))
		return -1;
	if (size > BYTES_MAX) {
		errno = E2BIG;
		return -1;
	}
	memset(x->bytes, 0, BYTES_MAX);
	if (size && call(x, XEN_DOMCTL_getvcpuextstate, &size))
		return -1;
	memcpy(words, x->bytes, sizeof(words));
	printf("%s: xcr0=%" PRIx64 " ever=%" PRIx64 " bytes=%" PRIu64 "\n", when, words[0],
	       words[1], size);
	return 0;
}

static int tell(struct extended *x)
{
	uint64_t size = WORDS * sizeof(uint64_t) + LEGACY + HEADER + YMM;
	uint64_t words[WORDS] = { AVX, AVX };
	uint16_t fcw = FCW;
	uint32_t mxcsr = MXCSR;

	memset(x->bytes, 0, BYTES_MAX);
	memcpy(x->bytes, words, sizeof(words));
	memcpy(x->bytes + sizeof(words), &fcw, sizeof(fcw));
	memcpy(x->bytes + sizeof(words) + MXCSR_AT, &mxcsr, sizeof(mxcsr));
	return call(x, XEN_DOMCTL_setvcpuextstate, &size);
}

int main(int argc, char **argv)
{
	struct extended x = { .domid = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0 };
	DECLARE_HYPERCALL_BUFFER_SHADOW(void, bytes, &x.buffer);

	if (argc < 2) {
		fprintf(stderr, "usage: xen-extended DOMID [show]\n");
		return 2;
	}
	x.xch = xc_interface_open(NULL, NULL, 0);
	if (!x.xch)
		return 1;
	bytes = xc_hypercall_buffer_alloc_pages(x.xch, bytes, BYTES_MAX / XC_PAGE_SIZE + 1);
	x.bytes = bytes;
	if (!x.bytes || print(&x, "before") || (argc == 2 && (tell(&x) || print(&x, "after")))) {
		fprintf(stderr, "xen-extended: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}
