/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A handle's connections to the virtual machines it has been asked about: one a domain,
 * made at first use and kept, with what the VM said about itself and the areas it shares.
 * After the first use nothing here allocates: the pause path depends on it.
 *
 * A VM's process may be in the hands of its guest (P4): sizes are checked against each
 * other and against the descriptors, which must not be able to shrink under a mapping.
 *
 * Threads: any. Order of locks: link_table.lock, then link.lock; a link is handed out
 * locked, so that a reply and the area it speaks of are read before the next call.
 */
#ifndef POLLUX_XENCTRL_LINK_H
#define POLLUX_XENCTRL_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"

#define LINK_MAX	 32u
#define LINK_CONTEXT_MAX (UINT64_C(256) << 20)
#define LINK_MEMORY_MAX	 (UINT64_C(1) << 40)
#define LINK_HIGH_START	 (UINT64_C(1) << 32) /* where memory goes on after the hole */
#define LINK_PAGE_SHIFT	 12
#define LINK_PAGE_BYTES	 (UINT64_C(1) << LINK_PAGE_SHIFT)

struct link {
	/* Guarded by link_table.lock; domid changes only while users is 0. */
	uint32_t domid;
	unsigned int users;
	/* Guarded by lock; also stable while users is 0 and the table is locked. */
	pthread_mutex_t lock;
	struct control *control; /* NULL: not connected */
	uint8_t uuid[16];
	uint64_t low_bytes;
	uint64_t high_bytes;
	uint64_t nr_gfns;
	uint64_t context_max;
	uint32_t nr_vcpus;
	int memory_fd;
	void *export_base; /* mapping of the export area, or NULL */
	size_t export_bytes;
	const uint64_t *dirty;
	uint8_t *context;
};

struct link_table {
	pthread_mutex_t lock;
	bool with_export; /* map the export area: not for handles that only map memory */
	struct link links[LINK_MAX];
};

void link_table_init(struct link_table *t, bool with_export);
void link_table_close(struct link_table *t);

/* The link of a domain, connected and locked. -ESRCH: no such VM; -ENOBUFS: all links are
 * in use at this moment. */
int link_get(struct link_table *t, uint32_t domid, struct link **ret, struct reason *why);
void link_put(struct link_table *t, struct link *link);

/* A call over a link that is held. A lost connection is -ESRCH, as for a domain that is
 * gone; the next link_get() tries afresh. */
int link_call(struct link *link, const struct control_call *call, struct cursor *ret_reply);
/* Notices, without a call, that the VM's end was closed. Then as after a failed link_get(). */
int link_check(struct link *link);

/* Where a guest frame lies in the memory descriptor; false: it is none. */
bool link_gfn_offset(const struct link *link, uint64_t gfn, uint64_t *ret);

/* <run directory>/vm, "/run/pollux" unless POLLUX_RUN_DIR says otherwise. */
int link_vm_dir(char *ret, size_t size);

#endif
