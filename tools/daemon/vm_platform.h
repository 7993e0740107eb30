/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VMs of a hypervisor are to polluxd: which programs serve and replicate one, how
 * these are started, what is known of it once it serves. A VM has one platform for life: its
 * configuration's "platform" names it, and where that is missing it is "kvm".
 *
 * All functions: workers, the VM's name taken, unless it says otherwise.
 */
#ifndef POLLUX_DAEMON_VM_PLATFORM_H
#define POLLUX_DAEMON_VM_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hypervisor/control/control.h"
#include "tools/daemon/paths.h"

#define VM_ARGS_MAX 15u

struct daemon;
struct json_object;
struct vm;
struct vm_start;

/* How the program that serves a VM is started. */
struct vm_launch {
	const char *argv[VM_ARGS_MAX + 1];
	unsigned int nr;
	struct path config; /* where a configuration for it belongs */
	char domid[16];
	int pass_fd; /* becomes descriptor 3; -1: none */
};
void vm_launch_add(struct vm_launch *l, const char *arg);

struct vm_platform {
	const char *name;    /* "kvm", "xen" */
	const char *program; /* serves a VM: <run-dir>/control */
	const char *log;     /* LOG/VM-<log>.log is its */
	const char *engine;  /* replicates a VM */
	bool memory_here;    /* the guest's memory is memory of this Linux */
	bool lives_on;	     /* the VM goes on without the program, and a new one takes it up */
	uint64_t end_ns;     /* what the end of a VM, or of its engine, may take */

	/* What follows the program's name and --run-dir. `s` NULL: it is to take the VM up that
	 * has lost it; only where it lives on. */
	int (*arguments)(struct daemon *d, struct vm *vm, const struct vm_start *s,
			 struct vm_launch *ret, struct reason *why);
	/* It serves: fills in of `vm` what only it knows. */
	int (*greet)(struct daemon *d, struct vm *vm, struct reason *why);
	/* Before the VM is protected: its configuration as it is now. -EPERM: it cannot be
	 * protected. NULL: it never changes. */
	int (*describe)(struct daemon *d, struct vm *vm, struct reason *why);
};

extern const struct vm_platform vm_platform_kvm, vm_platform_xen;

/* Of a configuration; NULL: no such platform. Any thread. */
const struct vm_platform *vm_platform_of(struct json_object *config);
/* Of this host: Xen where this Linux is its control domain. Any thread. */
const struct vm_platform *vm_platform_of_host(void);

#endif
