/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/vcpu_report.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "hypervisor/vmm/vcpu.h"

struct report {
	const char *when;
	const struct kvm_regs *regs;
	const struct kvm_sregs2 *sregs;
	const struct kvm_vcpu_events *events;
	uint64_t age_ns;
};

/* An event that was on its way in: vector, and whether it was injected or waits. */
static unsigned int pack(unsigned int injected, unsigned int pending, unsigned int vector)
{
	return injected << 9 | pending << 8 | vector;
}

static void record(unsigned int index, const struct report *r)
{
	const struct kvm_vcpu_events *e = r->events;
	char name[9];

	snprintf(name, sizeof(name), "%.4s.ip", r->when);
	blackbox_record(name, r->regs->rip, r->regs->rsp);
	snprintf(name, sizeof(name), "%.4s.cr", r->when);
	blackbox_record(name, r->sregs->cr2, r->sregs->cr3);
	snprintf(name, sizeof(name), "%.4s.ev", r->when);
	blackbox_record(name,
			(uint64_t)pack(e->exception.injected, e->exception.pending, e->exception.nr)
					<< 32 |
				pack(e->interrupt.injected, 0, e->interrupt.nr),
			(uint64_t)index << 32 | (uint32_t)(r->age_ns / NS_PER_MS));
}

static void report(unsigned int index, const struct report *r)
{
	const struct kvm_vcpu_events *e = r->events;

	log_notice("event=vcpu_state vcpu=%u when=%s age_ms=%llu rip=0x%llx rsp=0x%llx "
		   "rflags=0x%llx cr0=0x%llx cr2=0x%llx cr3=0x%llx cr4=0x%llx efer=0x%llx "
		   "cs=0x%x idt=0x%llx gdt=0x%llx tr=0x%llx exception=0x%x error=0x%x "
		   "interrupt=0x%x nmi=0x%x",
		   index, r->when, (unsigned long long)(r->age_ns / NS_PER_MS), r->regs->rip,
		   r->regs->rsp, r->regs->rflags, r->sregs->cr0, r->sregs->cr2, r->sregs->cr3,
		   r->sregs->cr4, r->sregs->efer, r->sregs->cs.selector, r->sregs->idt.base,
		   r->sregs->gdt.base, r->sregs->tr.base,
		   pack(e->exception.injected, e->exception.pending, e->exception.nr),
		   e->exception.error_code, pack(e->interrupt.injected, 0, e->interrupt.nr),
		   pack(e->nmi.injected, e->nmi.pending, e->nmi.masked));
	record(index, r);
}

void vcpu_report(const struct vcpu *vcpu)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs2 sregs = { 0 };
	struct kvm_vcpu_events events = { 0 };
	const struct report now = { "now", &regs, &sregs, &events, 0 };
	const struct report then = { "then", &vcpu->saved.regs, &vcpu->saved.sregs,
				     &vcpu->saved.events, clock_now_ns() - vcpu->taken_ns };

	/* What fails stays zero: this is a report, not a state. */
	ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	ioctl(vcpu->fd, KVM_GET_SREGS2, &sregs);
	report(vcpu->index, &now);
	/* Only a paused VM's state is taken: `saved` rests while this thread has not parked. */
	if (vcpu->taken_ns)
		report(vcpu->index, &then);
}
