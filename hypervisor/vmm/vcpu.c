/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/vcpu.h"

#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/log.h"
#include "hypervisor/control/control.h"
#include "hypervisor/vmm/cpuid.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/vcpu_report.h"
#include "hypervisor/vmm/vm.h"

#define KICK_SIGNAL SIGUSR1

/* --- leaving the guest ------------------------------------------------------------------- */

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		uint32_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			io_write(vcpu->vm->io, run->io.port, run->io.size, value);
		} else {
			value = io_read(vcpu->vm->io, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (!pci_mmio(vcpu->vm, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
		      run->mmio.is_write) &&
	    !run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static void handle_crash(struct vcpu *vcpu, const char *what, uint64_t detail)
{
	log_error("event=vcpu_failed vcpu=%u cause=%s detail=0x%llx", vcpu->index, what,
		  (unsigned long long)detail);
	vcpu_report(vcpu);
	run_request(vcpu->vm, CONTROL_CRASH);
}

/* Real machines reset at a triple fault, and kernels use it to reboot. One that no kernel
 * meant leaves no other trace. */
static void handle_triple_fault(struct vcpu *vcpu)
{
	log_notice("event=triple_fault vcpu=%u", vcpu->index);
	vcpu_report(vcpu);
	run_request(vcpu->vm, CONTROL_REBOOT);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT:
		break;
	case KVM_EXIT_SHUTDOWN:
		handle_triple_fault(vcpu);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		handle_crash(vcpu, "internal", run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		handle_crash(vcpu, "entry", run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		handle_crash(vcpu, "exit", run->exit_reason);
		break;
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	if (!run_park(vcpu))
		return NULL;
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			handle_exit(vcpu);
		} else if (errno == EINTR) {
			if (!run_park(vcpu))
				return NULL;
		} else if (errno != EAGAIN) {
			handle_crash(vcpu, "run", (uint64_t)errno);
		}
	}
}

/* immediate_exit catches a thread that is about to enter the guest; the signal, one that
 * is in it. */
void vcpu_kick(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->started)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

/* --- building ---------------------------------------------------------------------------- */

/* As firmware would leave it: memory is write-back; the variable ranges are unused. */
static void set_mtrr_default(struct vcpu_saved *saved)
{
	for (uint32_t i = 0; i < saved->msrs.header.nmsrs; i++)
		if (saved->msrs.entry[i].index == 0x2ff)
			saved->msrs.entry[i].data = 0x806;
}

/* LINT0 takes the PIC's interrupts and LINT1 the NMI, as firmware sets them (MultiProcessor
 * Specification 1.4, 3.6.2.2). */
static void set_lapic_pins(struct vcpu_saved *saved)
{
	saved->lapic.regs[0x351] = 0x07;
	saved->lapic.regs[0x352] = 0;
	saved->lapic.regs[0x361] = 0x04;
	saved->lapic.regs[0x362] = 0;
}

static int vcpu_power_on(struct vcpu *vcpu)
{
	int err = vcpu_state_open(vcpu->vm->kvm_fd, vcpu->fd, &vcpu->saved);

	if (!err)
		err = vcpu_state_take(vcpu->fd, &vcpu->saved);
	if (err)
		return err;
	set_mtrr_default(&vcpu->saved);
	set_lapic_pins(&vcpu->saved);
	vcpu->power_on = vcpu->saved;
	return vcpu_state_give(vcpu->fd, &vcpu->saved);
}

static int vcpu_open(struct vcpu *vcpu, const struct cpuid_table *cpuid)
{
	struct cpuid_table *own;
	int bytes = ioctl(vcpu->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int err;

	if (bytes < (int)sizeof(struct kvm_run))
		return -EIO;
	vcpu->fd = ioctl(vcpu->vm->fd, KVM_CREATE_VCPU, vcpu->index);
	if (vcpu->fd < 0)
		return -errno;
	vcpu->run_bytes = (size_t)bytes;
	vcpu->run = mmap(NULL, vcpu->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return -errno;
	}
	own = malloc(sizeof(*own));
	if (!own)
		return -ENOMEM;
	cpuid_for_vcpu(cpuid, vcpu->index, own);
	err = ioctl(vcpu->fd, KVM_SET_CPUID2, &own->header) ? -errno : 0;
	free(own);
	return err ? err : vcpu_power_on(vcpu);
}

static void ignore_signal(int number)
{
	(void)number;
}

int vcpus_open(struct vm *vm, const struct cpuid_table *cpuid, struct reason *why)
{
	struct sigaction action = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART };
	unsigned int n = vm->config.nr_vcpus;
	int err;

	sigaction(KICK_SIGNAL, &action, NULL);
	vm->vcpu = calloc(n, sizeof(*vm->vcpu));
	if (!vm->vcpu)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++)
		vm->vcpu[i] = (struct vcpu){ .vm = vm, .index = i, .fd = -1 };
	for (unsigned int i = 0; i < n; i++) {
		err = vcpu_open(&vm->vcpu[i], cpuid);
		if (err)
			return reason_set(why, -err, "virtual processor %u of %u: %s", i, n,
					  strerror(-err));
	}
	return 0;
}

void vcpus_close(struct vm *vm)
{
	for (unsigned int i = 0; vm->vcpu && i < vm->config.nr_vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpu[i];

		if (vcpu->run)
			munmap(vcpu->run, vcpu->run_bytes);
		if (vcpu->fd >= 0)
			close(vcpu->fd);
	}
	free(vm->vcpu);
}

int vcpus_start(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->config.nr_vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpu[i];
		int err = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);

		if (err)
			return -err;
		vcpu->started = true;
	}
	return 0;
}

void vcpus_join(struct vm *vm)
{
	for (unsigned int i = 0; vm->vcpu && i < vm->config.nr_vcpus; i++)
		if (vm->vcpu[i].started)
			pthread_join(vm->vcpu[i].thread, NULL);
}

/* --- starting at a kernel ---------------------------------------------------------------- */

static struct kvm_segment flat_segment(uint16_t selector, bool code)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = selector,
		.type = code ? 0xb : 0x3, /* execute/read or read/write, accessed */
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

/* Documentation/arch/x86/boot.rst, "32-bit boot protocol": __BOOT_CS 0x10, __BOOT_DS 0x18. */
int vcpu_set_entry(struct vm *vm, uint64_t entry, uint64_t rsi)
{
	struct vcpu *vcpu = &vm->vcpu[0];
	struct kvm_sregs2 *sregs = &vcpu->saved.sregs;

	vcpu->saved = vcpu->power_on;
	sregs->cs = flat_segment(0x10, true);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat_segment(0x18, false);
	sregs->cr0 |= 1;
	vcpu->saved.regs = (struct kvm_regs){ .rip = entry, .rsi = rsi, .rflags = 2 };
	return vcpu_state_give(vcpu->fd, &vcpu->saved);
}

int vcpus_reset(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->config.nr_vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpu[i];
		int err;

		vcpu->saved = vcpu->power_on;
		err = vcpu_state_give(vcpu->fd, &vcpu->saved);
		if (err)
			return err;
	}
	return 0;
}
