/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the libraries of Xen say: each line goes to the log, and the first error since it was
 * last asked for is kept, as the reason of the failure that follows. Any thread.
 */
#ifndef POLLUX_XEN_JOURNAL_H
#define POLLUX_XEN_JOURNAL_H

#include <stddef.h>

struct xentoollog_logger;

/* One a process; never closed. */
struct xentoollog_logger *xen_journal(void);
void xen_journal_clear(void);
/* The first error since, or "" */
void xen_journal_error(char *ret, size_t size);

#endif
