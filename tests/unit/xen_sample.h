/* SPDX-License-Identifier: Apache-2.0 */
/* A description of a domain of Xen, for the tests. */
#ifndef POLLUX_TESTS_XEN_SAMPLE_H
#define POLLUX_TESTS_XEN_SAMPLE_H

#include <stdio.h>

#include "hypervisor/xen/description.h"

/* `%s` after another: disks, memory_mib, nics, version, cpuid, msrs, ranges. */
struct xen_sample {
	const char *disks, *memory_mib, *nics, *version, *cpuid, *msrs, *ranges;
};

#define XEN_SAMPLE_LEAF "000000000000000001000000020000000300000004000000"
#define XEN_SAMPLE_MSR	"ce000000000000000000000080000000"

static const struct xen_sample xen_sample = {
	.disks = "[{\"path\":\"nbd:unix:/a/b\",\"readonly\":true}]",
	.memory_mib = "64",
	.nics = "[{\"mac\":\"00:16:3e:01:02:FF\",\"bridge\":\"lan\"}]",
	.version = "4.17.5",
	.cpuid = XEN_SAMPLE_LEAF XEN_SAMPLE_LEAF,
	.msrs = XEN_SAMPLE_MSR,
	.ranges = "[[0,160],[256,3000],[1044480,8]]",
};

static inline const char *xen_sample_text(const struct xen_sample *s)
{
	static char text[8192];

	snprintf(text, sizeof(text),
		 "{\"platform\":\"xen\",\"name\":\"db\",\"disks\":%s,\"later\":1,"
		 "\"uuid\":\"00112233-4455-6677-8899-aabbccddeeff\",\"memory_mib\":%s,\"vcpus\":2,"
		 "\"nics\":%s,\"xen\":{\"version\":\"%s\",\"libxl\":{\"c_info\":{\"name\":\"db\"}},"
		 "\"cpuid\":\"%s\",\"msrs\":\"%s\",\"ranges\":%s}}",
		 s->disks, s->memory_mib, s->nics, s->version, s->cpuid, s->msrs, s->ranges);
	return text;
}

#endif
