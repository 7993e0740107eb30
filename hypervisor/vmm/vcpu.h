/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual processor and its thread.
 *
 * The thread alternates between KVM_RUN and the device that KVM_RUN came back for. It
 * parks (run.h) only when KVM_RUN has answered "interrupted": an access to a port or to
 * MMIO is completed at the *next* KVM_RUN, and with immediate_exit set that one does
 * just this and then answers "interrupted". So the registers of a parked processor are
 * those between two instructions, and may be saved.
 */
#ifndef POLLUX_VMM_VCPU_H
#define POLLUX_VMM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hypervisor/vmm/vcpu_state.h"

struct cpuid_table;
struct kvm_run;
struct vm;

struct vcpu {
	struct vm *vm;
	unsigned int index;
	int fd;
	struct kvm_run *run; /* shared with KVM */
	size_t run_bytes;
	pthread_t thread;
	bool started;
	struct vcpu_saved saved; /* what was last taken or is about to be given */
	uint64_t taken_ns;	 /* when, for a report; 0: never */
	struct vcpu_saved power_on;
};

/* Creates all config.nr_vcpus processors, as at power-on; vm->vcpu. After the chips. */
int vcpus_open(struct vm *vm, const struct cpuid_table *cpuid, struct reason *why);
void vcpus_close(struct vm *vm);
int vcpus_start(struct vm *vm);
/* Joins the threads: after run_quit(). */
void vcpus_join(struct vm *vm);
/* Has processor 0 start at `entry` in flat 32-bit protected mode, with rsi set. */
int vcpu_set_entry(struct vm *vm, uint64_t entry, uint64_t rsi);
/* All processors back to power-on. No processor runs. */
int vcpus_reset(struct vm *vm);
/* Makes the thread come out of KVM_RUN soon, whatever it is doing. */
void vcpu_kick(struct vcpu *vcpu);

#endif
