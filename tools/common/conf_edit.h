/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to pollux.conf that programs make: whole sections, behind what the operator has written,
 * which stays as it is. The file is replaced whole and on disk; who else changes it waits. What
 * would not be read again is not written.
 */
#ifndef POLLUX_TOOLS_CONF_EDIT_H
#define POLLUX_TOOLS_CONF_EDIT_H

#include "base/err.h"

/* -EEXIST: there is one. */
int conf_create(const char *path, const char *text, struct reason *why);
/* 0 also when it is there at that address. -EEXIST: it is at another. */
int conf_add_peer(const char *path, const char *name, const char *address, struct reason *why);
/* -ENOENT: there is none of that name. */
int conf_remove_peer(const char *path, const char *name, struct reason *why);

#endif
