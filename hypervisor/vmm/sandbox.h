/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pollux-vmm may still do once it is set up: run as nobody in particular, with no
 * capabilities, no way to gain any, and a list of system calls that opens no file, starts
 * no program and makes no connection. A guest that broke out of its devices would
 * find itself there. To open a file fails with EACCES; any other call beyond the list is the end.
 */
#ifndef POLLUX_VMM_SANDBOX_H
#define POLLUX_VMM_SANDBOX_H

#include "base/err.h"

/*
 * Gives everything up, for the whole process: before the VM's threads are started. The
 * files and sockets that are open stay usable. Run as root, it becomes the user `pollux`,
 * or `nobody` where there is none; else it keeps its user.
 */
int sandbox_enter(struct reason *why);

#endif
