/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VM files: xl.cfg syntax, parsed by libxlutil, turned into the JSON that pollux-vmm is
 * started with (hypervisor/vmm/config.h). The same file describes the VM to xl.
 *
 * libxlutil does not enumerate keys: vmfile_scan.c finds them, so that an unknown key, or
 * one given twice, is refused with its line. Every refusal names value and limit.
 *
 * Only the command line links this: libxlutil brings the real libxenctrl with it.
 */
#ifndef POLLUX_TOOLS_VMFILE_H
#define POLLUX_TOOLS_VMFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct json_object;

#define VMFILE_MAX_BYTES 65536u

#define VMFILE_MIN_MEMORY_MIB 64u
#define VMFILE_MAX_MEMORY_MIB (1u << 20)
#define VMFILE_MAX_VCPUS      64u
#define VMFILE_MAX_DISKS      8u
#define VMFILE_MAX_NICS	      8u
#define VMFILE_MAX_CMDLINE    2000u

/* Reads and checks the file, and that the files it names are there. What it leaves out
 * is made: uuid and mac at random. `*ret` is the caller's to put. */
int vmfile_read(const char *path, struct json_object **ret, struct reason *why);
/* The text alone: looks at no other file. */
int vmfile_parse(const char *text, size_t len, const char *name, struct json_object **ret,
		 struct reason *why);

#endif
