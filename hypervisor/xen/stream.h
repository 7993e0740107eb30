/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream from which libxl restores a domain, written piece by piece, so that the restore
 * waits where the stream waits: Xen's docs/specs/libxl-migration-stream and
 * libxc-migration-stream, version 2 and 3, one libxl stream that contains one of libxc.
 *
 *	open		both headers, the processors' policy, the end of the static data
 *	allocate	memory at these gfns, without content
 *	settle		returns when the reader has taken in all that was written before
 *	end		TSC, context, parameters, the end; the device model's state, the end
 *
 * The parameters clear the pages of store and console, so they come after all content.
 * Each writes to a pipe and blocks as that does: 0 or -errno, -EPIPE when the reader has
 * ended. SIGPIPE is the caller's to ignore. Any thread, one at a time.
 */
#ifndef POLLUX_XEN_STREAM_H
#define POLLUX_XEN_STREAM_H

#include "hypervisor/xen/description.h"
#include "hypervisor/xen/state.h"

int xen_stream_open(int fd, const struct xen_description *d);
int xen_stream_allocate(int fd, const struct xen_range *range, uint32_t nr_ranges);
/* `fd` is a pipe of XEN_STREAM_PIPE_BYTES; `gfn` has memory. */
#define XEN_STREAM_PIPE_BYTES 4096u
int xen_stream_settle(int fd, uint64_t gfn);
int xen_stream_end(int fd, const struct xen_state *state);

#endif
