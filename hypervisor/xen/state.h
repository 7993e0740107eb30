/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state that ends an epoch of a domain of Xen: what libxc needs beside memory to let it
 * run somewhere else. Who replicates does not look inside; ha/platform_xen.c writes it
 * while the domain is suspended, pollux-xen reads it at the takeover (CONTROL_SET_CONTEXT).
 *
 *	{u32 magic "PXS2"}
 *	{u32 mode, u32 khz, u64 nsec, u32 incarnation}	xc_domain_get_tsc_info()
 *	{u32 n, n * {u64 index, u64 value}}		xc_hvm_param_get()
 *	{u32 length, bytes}				xc_domain_hvm_getcontext()
 *	{u32 length, bytes}				the device model's own state, of an HVM
 *							guest; none of a PVH guest: 0
 *
 * Little-endian, and nothing behind it. The context comes from the other host: Xen judges it,
 * here only its frame is looked at. It has the extended state (AVX) of each processor.
 */
#ifndef POLLUX_XEN_STATE_H
#define POLLUX_XEN_STATE_H

#include <stdint.h>

#include "base/cursor.h"
#include "base/err.h"

#define XEN_STATE_MAGIC	       0x32535850u
#define XEN_STATE_CONTEXT_MAX  (4u << 20) /* 128 processors have less than half */
#define XEN_STATE_EMULATOR_MAX (4u << 20) /* QEMU's has some 60 KiB */
#define XEN_STATE_PARAMS_MAX   64u
/* Bytes of all but the context and the device model's state, at most. */
#define XEN_STATE_REST_MAX (4u + 20u + 4u + 16u * XEN_STATE_PARAMS_MAX + 4u + 4u)
#define XEN_STATE_MAX	   (XEN_STATE_REST_MAX + XEN_STATE_CONTEXT_MAX + XEN_STATE_EMULATOR_MAX)

/* The parameters that a restored domain is given, in this order; those that are 0 are left
 * out. The list is libxc's own (xg_sr_save_x86_hvm.c): its restore sets nothing else. */
extern const uint32_t xen_state_params[];
extern const unsigned int xen_state_nr_params;

struct xen_state {
	uint32_t tsc_mode, tsc_khz, tsc_incarnation;
	uint64_t tsc_nsec;
	uint32_t nr_params;
	struct xen_state_param {
		uint64_t index, value;
	} param[XEN_STATE_PARAMS_MAX];
	const void *context; /* the caller's, or a view of what was parsed */
	uint32_t context_len;
	const void *emulator; /* likewise */
	uint32_t emulator_len;
};

/* Appends it; the cursor says whether there was room. Allocates nothing. `context` and `emulator`
 * may be where they belong already (below). */
void xen_state_put(struct cursor *out, const struct xen_state *state);
/* Where the context of a state with so many parameters begins, to have it written there
 * without a copy; the device model's state is to follow 4 bytes behind its end. */
static inline uint32_t xen_state_context_offset(uint32_t nr_params)
{
	return 4u + 20u + 4u + 16u * nr_params + 4u;
}

/* Checked and bounded; `ret->context` and `ret->emulator` point into `bytes`. -EINVAL with value
 * and limit. */
int xen_state_get(const void *bytes, size_t len, struct xen_state *ret, struct reason *why);
/* Whether the context has this processor: Xen leaves out those that are down. */
bool xen_state_has_vcpu(const struct xen_state *state, uint32_t vcpu);

#endif
