/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The export area: a memfd that clients of the control socket map. KVM and the devices'
 * marks are gathered into its bitmap, and the saved state is written into it, so that
 * neither is copied once more. What is read from it is the client's and not trusted.
 */
#ifndef POLLUX_VMM_EXPORT_H
#define POLLUX_VMM_EXPORT_H

#include <stddef.h>
#include <stdint.h>

struct export_area {
	int fd;
	uint8_t *base;
	size_t bytes;
	uint64_t *dirty;  /* at dirty_offset: one bit a gfn below nr_gfns */
	uint8_t *context; /* at context_offset, context_max bytes */
	uint64_t dirty_offset, context_offset, context_max;
};

int export_open(struct export_area *ret, uint64_t nr_gfns, uint64_t context_max);
void export_close(struct export_area *area);

#endif
