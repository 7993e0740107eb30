/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chips that KVM emulates for the whole VM: the two PICs, the IOAPIC, the PIT and
 * the clock that kvmclock shows. Taken, visited and given like a processor
 * (vcpu_state.h).
 */
#ifndef POLLUX_VMM_CHIP_STATE_H
#define POLLUX_VMM_CHIP_STATE_H

#include <stdint.h>

#include <linux/kvm.h>

struct state;
struct vm;

struct chips_saved {
	struct kvm_irqchip pic[2], ioapic;
	struct kvm_pit_state2 pit;
	uint64_t clock_ns;
	uint32_t tsc_khz;
	uint64_t cpuid_digest;
};

struct chip_state {
	struct chips_saved saved; /* what was last taken or loaded */
	struct chips_saved power_on;
	uint64_t cpuid_digest; /* of this VM on this host */
	uint32_t tsc_khz;      /* of this host's processors, as KVM gives them */
};

/* Creates the chips in KVM: before the processors. */
int chip_state_open(struct vm *vm, struct chip_state **ret);
void chip_state_close(struct chip_state *chips);
int chip_state_take(struct vm *vm, struct chips_saved *saved);
/*
 * After the processors' own state, so that an interrupt that the IOAPIC still had to
 * deliver lands in LAPICs that will not be overwritten. Sets the clock last: P6, kvmclock
 * goes on from the value it had.
 */
int chip_state_give(struct vm *vm, struct chips_saved *saved);
void chip_state_visit(struct chips_saved *saved, struct state *s);

#endif
