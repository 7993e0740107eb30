/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMs of this host: a table, each with the process that serves it (vm_platform.h) and its
 * pollux-ha if it has one (guard.h). What a restart needs is in RUN/vm/NUMBER/vm.json.
 *
 * Who changes what: a worker that holds the VM's name (worker.h) starts and ends processes;
 * the loop alone frees. So a worker may keep a pointer as long as it holds the name.
 */
#ifndef POLLUX_DAEMON_VM_H
#define POLLUX_DAEMON_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/control/control.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/process.h"

struct json_object;
struct ipc;
struct vm_platform;

/* pollux-ha of a VM. The first half changes under the lock, by a worker that holds the name
 * (which may read it without) or by the loop (status); the second half is the loop's. */
struct guard {
	bool wanted; /* polluxd keeps it running */
	bool primary;
	char peer[TEXT_NAME_MAX + 1];
	struct process process;
	unsigned int restarts;
	uint64_t retry_at_ns;	    /* not before; 0: at once */
	struct json_object *status; /* what it said last, or NULL; under the lock */
	uint64_t status_at_ns;
	char trouble[200]; /* why it does not run, for status */
	char refusal[220]; /* what the other host said last to "prepare", or why it could not */

	struct ipc *poll, *stream;
	sd_event_source *poll_source, *stream_source;
	uint64_t asked_at_ns; /* 0: no question is open */
	uint64_t connect_at_ns;
};

/* reprotect.h. Changes as the guard does; in vm.json, but for the last. */
struct wish {
	char peer[TEXT_NAME_MAX + 1]; /* the other host it is to have; "": none */
	struct json_object *options;  /* given with it: name -> text; or NULL */
	bool again;		      /* whatever `reprotect` says: it was protected */
	uint64_t retry_at_ns;
};

struct vm {
	struct daemon *daemon;
	struct vm *next;
	char name[TEXT_NAME_MAX + 1];
	char uuid[37];
	const struct vm_platform *platform;
	uint32_t number;	    /* of its folder, RUN/vm/NUMBER */
	uint32_t domid;		    /* the hypervisor's; on KVM that is the same */
	struct process server;	    /* pollux-vmm or pollux-xen */
	int memory_fd;		    /* guest memory, never mapped here; -1: unknown. See kept.h */
	struct json_object *config; /* what describes it; replaced under the lock, never changed */
	bool standby;		    /* waits for a takeover */
	bool foreign;		    /* made by others (xl), who see to its end and its reboot */
	bool gone;		    /* nobody finds it any more; the loop frees it */
	enum control_state state;
	struct guard guard;
	struct wish wish;
	struct json_object *arrival; /* how it came here (status keys), or NULL; under the lock */

	struct control *watch_new; /* a worker's, for the loop; under the lock, as is: */
	bool watch_wanted;	   /* a worker connects */
	struct control *watch;	   /* the loop's */
	sd_event_source *watch_source;
	uint64_t watch_at_ns;
};

/* Under the lock. NULL: none. */
struct vm *vm_find(struct daemon *d, const char *name);

struct vm_start {
	struct json_object *config; /* NULL: */
	const char *adopt;	    /* the name of one that runs and is not known here */
	bool standby;
	const struct wish *wish; /* NULL: none */
	const int *memory_fd; /* a standby's, from kept_take(), or NULL: zeroes. Not taken over */
	const char *regions;  /* the region file by which it is to count its writes; or NULL */
};
/* Workers, the name taken. Starts what serves the VM and waits until it does. */
int vm_start(struct daemon *d, const struct vm_start *s, struct vm **ret, struct reason *why);
/* The same for one that has lost the process that served it, where it lives on without. */
int vm_serve_again(struct daemon *d, struct vm *vm, struct reason *why);
/* Its configuration as it is now, before it is protected. -EPERM: it cannot be. */
int vm_describe(struct daemon *d, struct vm *vm, struct reason *why);
/* Writes down what a restart of polluxd needs. */
int vm_save(struct daemon *d, const struct vm *vm);
/* The event of a process that serves the VM and has ended, with its last words. */
void vm_tell_died(struct daemon *d, const struct vm *vm);
/* Ends both processes and forgets the VM. Its disks stay. */
void vm_end(struct daemon *d, struct vm *vm);
/* The same, but its memory is kept for a standby to come (kept.h). */
void vm_end_keeping(struct daemon *d, struct vm *vm);
/* Ends both processes and forgets the VM, which goes on, if it lives on without them. */
void vm_let_go(struct daemon *d, struct vm *vm);
/* A connection to what serves the VM, whose calls end after 10 s. */
int vm_connect(struct daemon *d, uint32_t number, struct control **ret, struct reason *why);
/* Presses the power button. */
int vm_press_power(struct daemon *d, struct vm *vm, struct reason *why);
/* It stands still, as a standby does that nobody has let run. False, too: it does not say. */
bool vm_stands_still(struct daemon *d, struct vm *vm);
/* Its standby has taken over: it is an ordinary VM from now on. */
void vm_becomes_active(struct daemon *d, struct vm *vm);

/* Before the loop runs: finds what a polluxd before us has left running. */
void vm_adopt_all(struct daemon *d);
/* The loop: frees. */
void vm_free(struct vm *vm);

/* Checks what polluxd itself uses of a configuration; pollux-vmm checks the rest. */
int vm_check_config(struct json_object *config, struct reason *why);
uint64_t vm_memory_bytes(const struct vm *vm);

#endif
