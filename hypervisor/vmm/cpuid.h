/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's processors say they are (CPUID): what KVM supports, less what cannot be
 * saved and loaded, with the VM's own topology: one package of nr_vcpus cores.
 */
#ifndef POLLUX_VMM_CPUID_H
#define POLLUX_VMM_CPUID_H

#include <stdint.h>

#include <linux/kvm.h>

#define CPUID_MAX_ENTRIES 256u

struct cpuid_table {
	struct kvm_cpuid2 header;
	struct kvm_cpuid_entry2 entry[CPUID_MAX_ENTRIES];
};

/* The table of processor 0. */
int cpuid_open(int kvm_fd, unsigned int nr_vcpus, struct cpuid_table *ret);
/* The same for processor `index`, its APIC identifier filled in. */
void cpuid_for_vcpu(const struct cpuid_table *table, unsigned int index, struct cpuid_table *ret);
/* One number that differs when the tables differ: a state is only loaded where the
 * processors are what the guest has found at its boot. */
uint64_t cpuid_digest(const struct cpuid_table *table);

#endif
