/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the keys of a text in xl.cfg syntax: the identifiers before `=` or `+=` outside
 * strings, comments and lists. It judges keys only; libxlutil judges the rest.
 */
#ifndef POLLUX_TOOLS_VMFILE_SCAN_H
#define POLLUX_TOOLS_VMFILE_SCAN_H

#include <stddef.h>

#define VMFILE_KEY_MAX 64u

/* Called for each key, in order; a negative return ends the scan and is its result. */
typedef int vmfile_key_fn(void *user, const char *key, unsigned int line);

/* -E2BIG: a key has more than VMFILE_KEY_MAX characters (the line in *ret_line). */
int vmfile_scan(const char *text, size_t len, vmfile_key_fn *fn, void *user,
		unsigned int *ret_line);

#endif
