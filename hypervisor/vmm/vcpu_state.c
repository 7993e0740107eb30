/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/vcpu_state.h"

#include <sys/ioctl.h>

#include "base/err.h"
#include "hypervisor/vmm/state.h"

#define MSR_TSC		  0x10u
#define MSR_KVM_WALL_OLD  0x11u
#define MSR_KVM_TIME_OLD  0x12u
#define MSR_TSC_DEADLINE  0x6e0u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MSR_KVM_WALL	  0x4b564d00u
#define MSR_KVM_FIRST	  0x4b564d00u
#define MSR_KVM_TIME	  0x4b564d01u
#define MSR_HYPERV_FIRST  0x40000000u
#define MSR_HYPERV_LAST	  0x400001ffu

/* KVM keeps them and does not list them. */
static const uint32_t unlisted[] = {
	0x200, 0x201, 0x202, 0x203,
	0x204, 0x205, 0x206, 0x207, /* MTRR, variable */
	0x208, 0x209, 0x20a, 0x20b,
	0x20c, 0x20d, 0x20e, 0x20f,
	0x250, 0x258, 0x259, 0x268,
	0x269, 0x26a, 0x26b, 0x26c, /* MTRR, fixed */
	0x26d, 0x26e, 0x26f, MSR_MTRR_DEF_TYPE,
};

/*
 * Registers that are not carried over. Writing the wall clock's has KVM write into the
 * guest's memory, at an address that may no longer be a clock; nobody reads it again. The
 * old kvmclock register is an alias of the new. Of KVM's others and of Hyper-V's the
 * guest has none (cpuid.c). The performance counters' likewise, in their three ranges.
 */
static bool is_left_out(uint32_t index)
{
	if (index == MSR_KVM_WALL_OLD || index == MSR_KVM_TIME_OLD || index == MSR_TSC_DEADLINE)
		return true;
	if (index >= MSR_KVM_FIRST && index < MSR_KVM_FIRST + 0x100)
		return index != MSR_KVM_TIME;
	return (index >= MSR_HYPERV_FIRST && index <= MSR_HYPERV_LAST) ||
	       (index >= 0xc1 && index <= 0xd2) || (index >= 0x186 && index <= 0x197) ||
	       (index >= 0x309 && index <= 0x30b) || (index >= 0x38d && index <= 0x390) ||
	       (index >= 0xc0010000 && index <= 0xc0010007) ||
	       (index >= 0xc0010200 && index <= 0xc001020b);
}

/* Kept if KVM gives it and takes what it gave. */
static void try_msr(int vcpu_fd, uint32_t index, struct vcpu_msrs *msrs)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} one = { .header.nmsrs = 1, .entry.index = index };

	for (uint32_t i = 0; i < msrs->header.nmsrs; i++)
		if (msrs->entry[i].index == index)
			return;
	if (is_left_out(index) || msrs->header.nmsrs == VCPU_MAX_MSRS)
		return;
	if (ioctl(vcpu_fd, KVM_GET_MSRS, &one) != 1 || ioctl(vcpu_fd, KVM_SET_MSRS, &one) != 1)
		return;
	msrs->entry[msrs->header.nmsrs++] = one.entry;
}

int vcpu_state_open(int kvm_fd, int vcpu_fd, struct vcpu_saved *ret)
{
	struct {
		struct kvm_msr_list header;
		uint32_t index[1024];
	} list = { .header.nmsrs = 1024 };

	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &list.header))
		return -errno;
	memset(ret, 0, sizeof(*ret));
	/* First, so that on loading all processors' counters are set close to one another:
	 * KVM then takes them for one counter and keeps them in step. */
	try_msr(vcpu_fd, MSR_TSC, &ret->msrs);
	for (uint32_t i = 0; i < list.header.nmsrs; i++)
		try_msr(vcpu_fd, list.index[i], &ret->msrs);
	for (size_t i = 0; i < ARRAY_SIZE(unlisted); i++)
		try_msr(vcpu_fd, unlisted[i], &ret->msrs);
	return ret->msrs.header.nmsrs < VCPU_MAX_MSRS ? 0 : -E2BIG;
}

static int msr_deadline(int vcpu_fd, unsigned long request, uint64_t *value)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} one = { .header.nmsrs = 1, .entry = { .index = MSR_TSC_DEADLINE, .data = *value } };

	if (ioctl(vcpu_fd, request, &one) < 0)
		return -errno;
	*value = one.entry.data;
	return 0;
}

static int all_msrs(int vcpu_fd, unsigned long request, struct vcpu_msrs *msrs)
{
	int done = ioctl(vcpu_fd, request, &msrs->header);

	if (done < 0)
		return -errno;
	return (uint32_t)done == msrs->header.nmsrs ? 0 : -EIO;
}

/* The two that change registers come first (vcpu_state.h). */
int vcpu_state_take(int vcpu_fd, struct vcpu_saved *saved)
{
	int err;

	if (ioctl(vcpu_fd, KVM_GET_MP_STATE, &saved->mp_state) ||
	    ioctl(vcpu_fd, KVM_GET_VCPU_EVENTS, &saved->events) ||
	    ioctl(vcpu_fd, KVM_GET_REGS, &saved->regs) ||
	    ioctl(vcpu_fd, KVM_GET_SREGS2, &saved->sregs) ||
	    ioctl(vcpu_fd, KVM_GET_XSAVE, &saved->xsave) ||
	    ioctl(vcpu_fd, KVM_GET_XCRS, &saved->xcrs) ||
	    ioctl(vcpu_fd, KVM_GET_DEBUGREGS, &saved->debugregs) ||
	    ioctl(vcpu_fd, KVM_GET_LAPIC, &saved->lapic))
		return -errno;
	err = all_msrs(vcpu_fd, KVM_GET_MSRS, &saved->msrs);
	if (!err)
		err = msr_deadline(vcpu_fd, KVM_GET_MSRS, &saved->tsc_deadline);
	return err;
}

/*
 * The order:
 * - special registers first: they hold the APIC base, whose mode decides how the LAPIC's
 *   page is read, and CR4 and EFER, without which some of the rest is refused;
 * - the LAPIC after the MSRs, for its timer counts in the TSC that they set;
 * - the deadline after the LAPIC: KVM drops it while the timer is not in that mode;
 * - the run state after the LAPIC, which may hold a SIPI for it;
 * - events last: setting general registers drops a pending exception.
 */
int vcpu_state_give(int vcpu_fd, struct vcpu_saved *saved)
{
	int err;

	if (ioctl(vcpu_fd, KVM_SET_SREGS2, &saved->sregs) ||
	    ioctl(vcpu_fd, KVM_SET_REGS, &saved->regs) ||
	    ioctl(vcpu_fd, KVM_SET_XCRS, &saved->xcrs) ||
	    ioctl(vcpu_fd, KVM_SET_XSAVE, &saved->xsave) ||
	    ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &saved->debugregs))
		return -errno;
	err = all_msrs(vcpu_fd, KVM_SET_MSRS, &saved->msrs);
	if (err)
		return err;
	if (ioctl(vcpu_fd, KVM_SET_LAPIC, &saved->lapic))
		return -errno;
	err = msr_deadline(vcpu_fd, KVM_SET_MSRS, &saved->tsc_deadline);
	if (err)
		return err;
	if (ioctl(vcpu_fd, KVM_SET_MP_STATE, &saved->mp_state) ||
	    ioctl(vcpu_fd, KVM_SET_VCPU_EVENTS, &saved->events))
		return -errno;
	return 0;
}

/* --- both ways --------------------------------------------------------------------------- */

static void visit_regs(struct kvm_regs *r, struct state *s)
{
	__u64 *all[] = { &r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi,
			 &r->rsp, &r->rbp, &r->r8,  &r->r9,  &r->r10, &r->r11,
			 &r->r12, &r->r13, &r->r14, &r->r15, &r->rip, &r->rflags };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		state_u64(s, (uint64_t *)all[i]);
}

static void visit_segment(struct kvm_segment *g, struct state *s)
{
	uint8_t *flags[] = { &g->type, &g->present, &g->dpl, &g->db,	  &g->s,
			     &g->l,    &g->g,	    &g->avl, &g->unusable };

	state_u64(s, (uint64_t *)&g->base);
	state_u32(s, &g->limit);
	state_u16(s, &g->selector);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		state_u8(s, flags[i]);
}

static void visit_sregs(struct kvm_sregs2 *r, struct state *s)
{
	struct kvm_segment *segment[] = { &r->cs, &r->ds, &r->es, &r->fs,
					  &r->gs, &r->ss, &r->tr, &r->ldt };
	__u64 *control[] = { &r->cr0, &r->cr2,	&r->cr3,       &r->cr4,
			     &r->cr8, &r->efer, &r->apic_base, &r->flags };

	for (size_t i = 0; i < ARRAY_SIZE(segment); i++)
		visit_segment(segment[i], s);
	state_u64(s, (uint64_t *)&r->gdt.base);
	state_u16(s, &r->gdt.limit);
	state_u64(s, (uint64_t *)&r->idt.base);
	state_u16(s, &r->idt.limit);
	for (size_t i = 0; i < ARRAY_SIZE(control); i++)
		state_u64(s, (uint64_t *)control[i]);
	for (size_t i = 0; i < 4; i++)
		state_u64(s, (uint64_t *)&r->pdptrs[i]);
}

static void visit_events(struct kvm_vcpu_events *e, struct state *s)
{
	uint8_t *bytes[] = {
		&e->exception.injected,
		&e->exception.nr,
		&e->exception.has_error_code,
		&e->exception.pending,
		&e->interrupt.injected,
		&e->interrupt.nr,
		&e->interrupt.soft,
		&e->interrupt.shadow,
		&e->nmi.injected,
		&e->nmi.pending,
		&e->nmi.masked,
		&e->smi.smm,
		&e->smi.pending,
		&e->smi.smm_inside_nmi,
		&e->smi.latched_init,
		&e->triple_fault.pending,
		&e->exception_has_payload,
	};

	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
		state_u8(s, bytes[i]);
	state_u32(s, &e->exception.error_code);
	state_u32(s, &e->sipi_vector);
	state_u32(s, &e->flags);
	state_u64(s, (uint64_t *)&e->exception_payload);
}

static void visit_xcrs(struct kvm_xcrs *x, struct state *s)
{
	state_count(s, &x->nr_xcrs, KVM_MAX_XCRS);
	state_u32(s, &x->flags);
	for (uint32_t i = 0; i < x->nr_xcrs; i++) {
		state_u32(s, &x->xcrs[i].xcr);
		state_u64(s, (uint64_t *)&x->xcrs[i].value);
	}
}

static void visit_debugregs(struct kvm_debugregs *d, struct state *s)
{
	for (size_t i = 0; i < 4; i++)
		state_u64(s, (uint64_t *)&d->db[i]);
	state_u64(s, (uint64_t *)&d->dr6);
	state_u64(s, (uint64_t *)&d->dr7);
	state_u64(s, (uint64_t *)&d->flags);
}

/*
 * Index and value of each. A host of another kernel may know others: one that this host
 * does not know is refused, for it could not be given to the guest; one that is missing
 * keeps the value it had here, which in a standby is that of power-on.
 */
static void visit_msrs(struct vcpu_msrs *msrs, struct state *s)
{
	uint32_t n = msrs->header.nmsrs;

	state_count(s, &n, VCPU_MAX_MSRS);
	for (uint32_t i = 0; i < n && state_ok(s); i++) {
		uint32_t at = i, index = msrs->entry[i].index;
		uint64_t value = msrs->entry[i].data;

		state_u32(s, &index);
		state_u64(s, &value);
		if (!s->loading)
			continue;
		if (msrs->entry[at].index != index)
			for (at = 0; at < msrs->header.nmsrs; at++)
				if (msrs->entry[at].index == index)
					break;
		state_check(s, at < msrs->header.nmsrs);
		if (state_ok(s))
			msrs->entry[at].data = value;
	}
}

void vcpu_state_visit(struct vcpu_saved *saved, struct state *s)
{
	state_u32(s, &saved->mp_state.mp_state);
	visit_events(&saved->events, s);
	visit_regs(&saved->regs, s);
	visit_sregs(&saved->sregs, s);
	visit_xcrs(&saved->xcrs, s);
	visit_debugregs(&saved->debugregs, s);
	state_bytes(s, saved->lapic.regs, sizeof(saved->lapic.regs));
	state_bytes(s, &saved->xsave, VCPU_XSAVE_BYTES);
	visit_msrs(&saved->msrs, s);
	state_u64(s, &saved->tsc_deadline);
}
