/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything lies. Runtime state under [paths] run (a tmpfs), what must survive
 * a power cut under [paths] state.
 *
 *	RUN/polluxd.sock	the command line's door
 *	RUN/vm/NUMBER/		one VM: control, console, config.json, vm.json (polluxd's)
 *	RUN/ha/VM.sock, .json, .run	pollux-ha of a VM: its socket, settings, process
 *	STATE/VM/record		generation and role (ha/record.h)
 *	STATE/events.jsonl
 *	LOG/VM-vmm.log or LOG/VM-xen.log, LOG/VM-ha.log
 */
#ifndef POLLUX_DAEMON_PATHS_H
#define POLLUX_DAEMON_PATHS_H

#include <limits.h>
#include <stdint.h>

#include "base/err.h"
#include "tools/common/conf.h"

struct path {
	char text[256];
};

/* One of the folders and a name below it. */
__attribute__((format(printf, 2, 3))) struct path path_under(const char *folder, const char *fmt,
							     ...);
struct path path_vm_dir(const struct conf *conf, uint32_t number);
/* `suffix`: "sock", "json" or "run". */
struct path path_ha(const struct conf *conf, const char *vm, const char *suffix);
struct path path_state_dir(const struct conf *conf, const char *vm);
/* A program of ours: $POLLUX_LIBEXEC, [paths] libexec, or beside this program; the first
 * that has it. */
int path_program(const struct conf *conf, const char *name, struct path *ret, struct reason *why);
/* mkdir -p of all folders. */
int paths_make(const struct conf *conf, struct reason *why);

#endif
