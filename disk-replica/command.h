/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is run to its end, with what it prints: no shell, no input, a deadline.
 * Threads: any. SIGCHLD may be ignored.
 */
#ifndef POLLUX_DISK_COMMAND_H
#define POLLUX_DISK_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * `argv` ends with NULL; the program is looked for on the path, then in the usual folders. What
 * it prints, standard error too, is in `out`, NUL-terminated, cut at `size`. 0: it ended with
 * status 0. -EREMOTEIO: another status, with the last line that it printed; -ETIMEDOUT: killed;
 * -ENOENT: no such program.
 */
int command_run(const char *const argv[], uint64_t timeout_ns, char *out, size_t size,
		struct reason *why);

#endif
