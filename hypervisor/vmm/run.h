/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running, pausing, resetting and ending the VM.
 *
 * The VM is *halted* when every vCPU is parked and the gate is closed: then memory,
 * processors and devices stand still. It is halted while anyone holds it: clients that
 * paused it (counted), a reset under way, or its end.
 *
 * A guest that asks for its own end or restart (poweroff, reset, triple fault) does it on
 * a vCPU thread, which cannot wait for itself to park: it leaves a request, which the
 * main thread executes. A pause that meets a request waits for it to be executed, so no
 * checkpoint ever lies between the guest's request and its effect.
 *
 * Locks: the lock of run, then the gate's. vCPU threads take the first only to park.
 */
#ifndef POLLUX_VMM_RUN_H
#define POLLUX_VMM_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/control/control.h"

struct run;
struct vcpu;
struct vm;

/* A standby begins with one pause, which the first UNPAUSE ends. */
int run_open(struct vm *vm, struct run **ret);
void run_close(struct run *run);

/* The VM is halted when it returns; nanoseconds that took. Nothing is allocated. */
uint64_t run_pause(struct vm *vm);
/* -EINVAL: not paused. */
int run_unpause(struct vm *vm);
/* Halted and held by a client: the state may be read. */
bool run_is_paused(struct vm *vm);
/* No vCPU has run yet: a standby that waits for its state. */
bool run_is_fresh(struct vm *vm);

struct run_info {
	enum control_state state;
	enum control_reason reason; /* of the last stop */
	uint32_t pause_count;
};
void run_info(struct vm *vm, struct run_info *ret);

/* The guest, or a client, asks for this end: what happens is as on_poweroff, on_reboot and
 * on_crash say. DESTROY ends the process. Any thread; returns at once. */
void run_request(struct vm *vm, enum control_reason reason);

/* An eventfd that is raised when the VM stops or starts again. While anyone watches, a
 * process whose VM has ended stays, so that the watcher can look at what is left. */
int run_watch(struct vm *vm, int event_fd);
void run_unwatch(struct vm *vm, int event_fd);

/* The main thread: executes requests until the process shall end. */
void run_main(struct vm *vm);
/* Ends the vCPU threads and the gate. */
void run_quit(struct vm *vm);

/* A vCPU thread offers to park. False: the thread is to end. */
bool run_park(struct vcpu *vcpu);

#endif
