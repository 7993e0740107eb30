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
 *	"disks"		[{"path", "readonly"}], in the order of libxl's; a path is the socket of
 *			its server, CONTROL_NBD_PREFIX before it, on either host
 *	"xen"		{"version":	"4.17.5": of the hypervisor
 *			 "libxl":	{...} libxl_retrieve_domain_configuration()
 *			 "cpuid":	leaves of 24 bytes in hex, as xen_cpuid_leaf_t has them
 *			 "msrs":	entries of 16 bytes in hex, as xen_msr_entry_t has them
 *			 "ranges":	[[first gfn, count], ...]: where memory is, rising}
 *
 * An unknown key is let be, as libxl does. It comes from the other host: bad input is refused
 * with the value and the limit (P4).
 */
#ifndef POLLUX_XEN_DESCRIPTION_H
#define POLLUX_XEN_DESCRIPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define XEN_TEXT_MAX	   (1u << 20) /* bytes of the object */
#define XEN_NAME_MAX	   127u
#define XEN_VERSION_MAX	   31u
#define XEN_VCPUS_MAX	   128u
#define XEN_MEMORY_MIB_MAX (1u << 20)
#define XEN_LEAF_BYTES	   24u
#define XEN_LEAVES_MAX	   1024u
#define XEN_MSR_BYTES	   16u
#define XEN_MSRS_MAX	   64u
#define XEN_RANGES_MAX	   16384u
#define XEN_GFNS_MAX	   (UINT64_C(1) << 28) /* gfns are below; 1 TiB */
#define XEN_NICS_MAX	   8u
#define XEN_BRIDGE_MAX	   15u
#define XEN_DISKS_MAX	   8u
#define XEN_DISK_PATH_MAX  255u

struct xen_range {
	uint64_t first, count;
};

struct xen_description {
	char name[XEN_NAME_MAX + 1], version[XEN_VERSION_MAX + 1];
	uint8_t uuid[16];
	uint64_t memory_mib;
	uint32_t nr_vcpus;
	uint32_t nr_nics;
	struct xen_nic {
		uint8_t mac[6];
		char bridge[XEN_BRIDGE_MAX + 1];
	} nic[XEN_NICS_MAX];
	uint32_t nr_disks;
	struct xen_disk {
		char path[XEN_DISK_PATH_MAX + 1];
		bool readonly;
	} disk[XEN_DISKS_MAX];
	char *libxl; /* JSON text of libxl's configuration */
	uint8_t *cpuid, *msrs;
	uint32_t nr_leaves, nr_msrs;
	struct xen_range *range;
	uint32_t nr_ranges;
	uint64_t nr_pages; /* of all ranges */
	uint64_t nr_gfns;  /* above the last */
};

int xen_description_parse(const char *text, struct xen_description *ret, struct reason *why);
int xen_description_read(const char *path, struct xen_description *ret, struct reason *why);
/* The text; the caller frees. */
int xen_description_write(const struct xen_description *d, char **ret);
void xen_description_free(struct xen_description *d);

/* "4.17.5-pre" -> 4, 17; false: it is none. */
bool xen_version_parse(const char *text, uint32_t *ret_major, uint32_t *ret_minor);

#endif
