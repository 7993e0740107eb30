/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain in words: what another host needs to make a standby of it. One JSON object that
 * is a VM's configuration for polluxd (CONTROL_DESCRIBE), handed to the other host as it is,
 * and what `pollux-xen --standby --config` reads there:
 *
 *	"platform"	"xen"
 *	"name", "uuid"	as xl shows them
 *	"memory_mib"	maxmem, rounded up
 *	"vcpus"		at most
 *	"nics"		[{"mac", "bridge"}], in the order of their devid, 0 the first
 *	"disks"		[]
 *	"xen"		{"version":	"4.17.5": of the hypervisor
 *			 "libxl":	{...} libxl_retrieve_domain_configuration()
 *			 "cpuid":	leaves of 24 bytes in hex, as xen_cpuid_leaf_t has them
 *			 "msrs":	entries of 16 bytes in hex, as xen_msr_entry_t has them
 *			 "ranges":	[[first gfn, count], ...]: where memory is, rising}
 *
 * An unknown key is let be, as libxl does.
 */
#ifndef POLLUX_XEN_DESCRIBE_H
#define POLLUX_XEN_DESCRIBE_H

#include <stdint.h>

#include "base/err.h"

#define XEN_TEXT_MAX	(1u << 20) /* bytes of the object */
#define XEN_LEAVES_MAX	1024u
#define XEN_MSRS_MAX	64u
#define XEN_RANGES_MAX	16384u
#define XEN_GFNS_MAX	(1u << 28) /* 1 TiB; gfns are below */
#define XEN_NICS_MAX	8u
#define XEN_VERSION_MAX 31u

struct xen_range {
	uint64_t first, count;
};

/* What --standby reads. */
struct xen_description {
	char name[128], uuid_text[37], version[XEN_VERSION_MAX + 1];
	uint8_t uuid[16];
	uint64_t memory_mib;
	uint32_t nr_vcpus, nr_nics;
	char *libxl;	/* JSON text of libxl's configuration */
	uint8_t *cpuid; /* 24 bytes a leaf */
	uint8_t *msrs;	/* 16 bytes an entry */
	uint32_t nr_leaves, nr_msrs;
	struct xen_range *range;
	uint32_t nr_ranges;
	uint64_t nr_pages; /* of all ranges */
	uint64_t nr_gfns;  /* above the last */
};

/* Reads a file. Bad input is refused with the value and the limit (P4). */
int xen_description_read(const char *path, struct xen_description *ret, struct reason *why);
/* The same from a text in memory. */
int xen_description_parse(const char *text, struct xen_description *ret, struct reason *why);
void xen_description_free(struct xen_description *d);

#endif
