/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of one virtual processor: taken from KVM into a structure of ours, visited
 * there by the one function that saves and loads, and given to KVM.
 *
 * That it lies in between is what lets a load be refused whole: all records are parsed
 * into such structures first. Nothing here allocates after vcpu_state_open().
 */
#ifndef POLLUX_VMM_VCPU_STATE_H
#define POLLUX_VMM_VCPU_STATE_H

#include <stdint.h>

#include <linux/kvm.h>

struct state;

#define VCPU_MAX_MSRS	 255u  /* KVM takes no more in one call */
#define VCPU_XSAVE_BYTES 4096u /* all that exists without AMX, which cpuid.c takes away */

struct vcpu_msrs {
	struct kvm_msrs header;
	struct kvm_msr_entry entry[VCPU_MAX_MSRS];
};

struct vcpu_saved {
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_xsave xsave;
	struct vcpu_msrs msrs;
	uint64_t tsc_deadline;
};

/* Finds the registers that this host's KVM can both give and take, on any one processor.
 * `ret->msrs` then holds their indices, in the order in which they are loaded. -E2BIG: there
 * may be more than VCPU_MAX_MSRS. */
int vcpu_state_open(int kvm_fd, int vcpu_fd, struct vcpu_saved *ret);
/*
 * The processor does not run, and nothing that it began is unfinished (vcpu.h). On any thread:
 * KVM loads the processor where it is asked. Of these calls two do more than read, and
 * neither shows to the guest, which may run on: KVM_GET_MP_STATE works off an INIT or SIPI
 * that waits, KVM_GET_VCPU_EVENTS an NMI, and it puts a pending exception's address into
 * CR2 or DR6, where the guest will look for it; so both come before the registers.
 */
int vcpu_state_take(int vcpu_fd, struct vcpu_saved *saved);
int vcpu_state_give(int vcpu_fd, struct vcpu_saved *saved);
/* Both ways. Loading: `saved` knows the MSRs of this host, an unknown one is bad. */
void vcpu_state_visit(struct vcpu_saved *saved, struct state *s);

#endif
