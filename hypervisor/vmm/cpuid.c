/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/cpuid.h"

#include <stdbool.h>
#include <sys/ioctl.h>

#include "base/err.h"

/* A rule: these bits of a register of a leaf are taken away. */
struct mask {
	uint32_t leaf, subleaf;
	enum { EAX, EBX, ECX, EDX } reg;
	uint32_t bits;
};

#define BIT(n) (UINT32_C(1) << (n))

/*
 * Taken away because their state is not saved, or is not the guest's to see on two hosts:
 * nested virtualisation (5: VMX, SVM), performance counters, Intel PT, SGX, AMX (tile data
 * needs a permission and 8 KiB), protection keys for supervisors and CET (supervisor
 * state of XSAVES), the invariant TSC (after a takeover another TSC goes on: the guest
 * shall use kvmclock, which P6 keeps monotonic), and of KVM's own features those
 * by which the host writes to the guest between a pause and a resume (steal time, PV EOI,
 * asynchronous page faults).
 */
static const struct mask masks[] = {
	{ 0x1, 0, ECX, BIT(2) | BIT(3) | BIT(5) | BIT(15) },
	{ 0x7, 0, EBX, BIT(2) | BIT(12) | BIT(15) | BIT(25) },
	{ 0x7, 0, ECX, BIT(7) | BIT(30) | BIT(31) },
	{ 0x7, 0, EDX, BIT(18) | BIT(19) | BIT(20) | BIT(22) | BIT(24) | BIT(25) },
	{ 0x7, 1, EAX, BIT(21) },
	{ 0xd, 0, EAX, BIT(17) | BIT(18) },
	{ 0xd, 1, EAX, BIT(3) | BIT(4) },
	{ 0xd, 1, ECX, UINT32_MAX },
	{ 0x80000001, 0, ECX, BIT(2) | BIT(22) | BIT(23) | BIT(24) | BIT(28) },
	{ 0x80000007, 0, EDX, BIT(8) },
	{ 0x40000001, 0, EAX, ~(BIT(1) | BIT(3) | BIT(11) | BIT(24)) },
};

/* Leaves that belong to the above, or describe the host's own topology and caches. */
static const uint32_t dropped[] = { 0xa,	0x12,	    0x14,	0x1d,
				    0x1e,	0x1f,	    0x8000000a, 0x8000001b,
				    0x8000001d, 0x8000001e, 0x8000001f, 0x80000022 };

static void apply_masks(struct kvm_cpuid_entry2 *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		uint32_t *reg[] = { &e->eax, &e->ebx, &e->ecx, &e->edx };

		if (masks[i].leaf == e->function && masks[i].subleaf == e->index)
			*reg[masks[i].reg] &= ~masks[i].bits;
	}
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		if (dropped[i] == e->function)
			e->eax = e->ebx = e->ecx = e->edx = 0;
}

/* How many bits number `n` things. */
static unsigned int bits_for(unsigned int n)
{
	return n <= 1 ? 0 : 32 - (unsigned int)__builtin_clz(n - 1);
}

static void set_topology(struct kvm_cpuid_entry2 *e, unsigned int n)
{
	uint32_t ids = BIT(bits_for(n));

	switch (e->function) {
	case 0x1:
		e->ebx = (e->ebx & 0xff00) | (n > 1 ? ids : 1) << 16;
		e->edx = n > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
		e->ecx |= BIT(31); /* a hypervisor is present */
		break;
	case 0x4: /* Intel: caches private to a core, as many cores as processors */
		e->eax = (e->eax & 0x3fff) | (ids - 1) << 26;
		break;
	case 0xb:
		e->ecx = e->index & 0xff;
		if (e->index == 0) { /* threads in a core */
			e->eax = 0;
			e->ebx = 1;
			e->ecx |= 1 << 8;
		} else if (e->index == 1) { /* cores in the package */
			e->eax = bits_for(n);
			e->ebx = n;
			e->ecx |= 2 << 8;
		} else {
			e->eax = e->ebx = 0;
		}
		break;
	case 0x80000001: /* AMD: cores, not threads */
		e->ecx = n > 1 ? e->ecx | BIT(1) : e->ecx & ~BIT(1);
		break;
	case 0x80000008:
		e->ecx = (bits_for(n) << 12) | (n - 1);
		break;
	}
}

static bool has_tsc_deadline(int kvm_fd)
{
	return ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
}

int cpuid_open(int kvm_fd, unsigned int nr_vcpus, struct cpuid_table *ret)
{
	struct cpuid_table *table = calloc(1, sizeof(*table));
	int err = 0;

	if (!table)
		return -ENOMEM;
	table->header.nent = CPUID_MAX_ENTRIES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, &table->header)) {
		err = -errno;
		goto out;
	}
	for (unsigned int i = 0; i < table->header.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entry[i];

		apply_masks(e);
		set_topology(e, nr_vcpus);
		/* KVM leaves this bit to us, because the LAPIC might be ours. */
		if (e->function == 0x1 && has_tsc_deadline(kvm_fd))
			e->ecx |= BIT(24);
	}
	*ret = *table;
out:
	free(table);
	return err;
}

void cpuid_for_vcpu(const struct cpuid_table *table, unsigned int index, struct cpuid_table *ret)
{
	*ret = *table;
	for (unsigned int i = 0; i < ret->header.nent; i++) {
		struct kvm_cpuid_entry2 *e = &ret->entry[i];

		if (e->function == 0x1)
			e->ebx = (e->ebx & 0x00ffffff) | index << 24;
		if (e->function == 0xb)
			e->edx = index;
	}
}

/* FNV-1a over the numbers, not over the structures' bytes. */
static uint64_t mix(uint64_t digest, uint32_t v)
{
	for (unsigned int i = 0; i < 4; i++)
		digest = (digest ^ (v >> (i * 8) & 0xff)) * UINT64_C(0x100000001b3);
	return digest;
}

/*
 * Left out: leaf 0x1's EBX and 0xb's EDX carry the APIC identifier, 0xd's EBX depends on
 * what the guest has switched on, and 0x15, 0x16 and 0x40000010 say how fast the host is.
 */
uint64_t cpuid_digest(const struct cpuid_table *table)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	for (unsigned int i = 0; i < table->header.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &table->entry[i];

		if (e->function == 0x15 || e->function == 0x16 || e->function == 0x40000010)
			continue;
		digest = mix(mix(digest, e->function), e->index);
		digest = mix(mix(digest, e->eax), e->ecx);
		if (e->function != 0x1 && e->function != 0xd)
			digest = mix(digest, e->ebx);
		if (e->function != 0xb)
			digest = mix(digest, e->edx);
	}
	return digest;
}
