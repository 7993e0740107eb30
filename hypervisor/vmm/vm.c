/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/vm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "hypervisor/vmm/boot.h"
#include "hypervisor/vmm/chip_state.h"
#include "hypervisor/vmm/console.h"
#include "hypervisor/vmm/context.h"
#include "hypervisor/vmm/cpuid.h"
#include "hypervisor/vmm/dirty.h"
#include "hypervisor/vmm/disk_mirror.h"
#include "hypervisor/vmm/disk_track.h"
#include "hypervisor/vmm/io.h"
#include "hypervisor/vmm/net_hold.h"
#include "hypervisor/vmm/pci.h"
#include "hypervisor/vmm/power.h"
#include "hypervisor/vmm/rtc.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/serial.h"
#include "hypervisor/vmm/vcpu.h"
#include "hypervisor/vmm/virtio_blk.h"
#include "hypervisor/vmm/virtio_console.h"
#include "hypervisor/vmm/virtio_net.h"
#include "hypervisor/vmm/virtio_rng.h"

/* What of KVM we cannot do without; all of it is in Linux 5.14 and later. */
static const struct {
	int number;
	const char *name;
} needed[] = {
	{ KVM_CAP_IRQCHIP, "an interrupt controller" },
	{ KVM_CAP_PIT2, "a PIT" },
	{ KVM_CAP_PIT_STATE2, "the PIT's state" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_SIGNAL_MSI" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate_exit" },
	{ KVM_CAP_VCPU_EVENTS, "events" },
	{ KVM_CAP_XCRS, "XCRs" },
	{ KVM_CAP_SREGS2, "KVM_GET_SREGS2" },
	{ KVM_CAP_ADJUST_CLOCK, "KVM_SET_CLOCK" },
};

void vm_add_device(struct vm *vm, struct vm_device *dev)
{
	struct vm_device **at = &vm->devices;

	while (*at)
		at = &(*at)->next;
	dev->next = NULL;
	*at = dev;
}

int vm_ioeventfd(struct vm *vm, uint64_t gpa, unsigned int len, int fd, bool assign)
{
	struct kvm_ioeventfd request = {
		.addr = gpa,
		.len = len,
		.fd = fd,
		.flags = assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &request) ? -errno : 0;
}

/* The guest chose address and data; KVM ignores what is no interrupt. */
void vm_signal_msi(struct vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};

	ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

void vm_irq_line(struct vm *vm, unsigned int gsi, bool level)
{
	struct kvm_irq_level request = { .irq = gsi, .level = level };

	ioctl(vm->fd, KVM_IRQ_LINE, &request);
}

/* --- building ---------------------------------------------------------------------------- */

static int open_kvm(struct vm *vm, struct reason *why)
{
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		return reason_set(why, errno, "/dev/kvm: %s", strerror(errno));
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return reason_set(why, ENOTSUP, "/dev/kvm: not version %d", KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, needed[i].number) <= 0)
			return reason_set(why, ENOTSUP, "/dev/kvm: this kernel lacks %s",
					  needed[i].name);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return reason_set(why, errno, "KVM_CREATE_VM: %s", strerror(errno));
	return 0;
}

static uint64_t available_bytes(void)
{
	char line[128];
	unsigned long long kib = 0;
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib ? (uint64_t)kib << 10 : UINT64_MAX;
}

/* Refused now rather than killed later, when the guest has come to rely on it. */
static int open_memory(struct vm *vm, int inherited_fd, struct reason *why)
{
	uint64_t bytes = vm->config.memory_bytes, available = available_bytes();
	int err;

	if (inherited_fd < 0 && bytes > available)
		return reason_set(why, ENOMEM, "memory: %llu MiB, the host has %llu MiB available",
				  (unsigned long long)(bytes >> 20),
				  (unsigned long long)(available >> 20));
	err = guest_memory_open(&vm->memory, bytes, inherited_fd);
	if (!err)
		err = export_open(&vm->export, vm->memory.nr_gfns, CONTEXT_MAX_BYTES);
	if (!err)
		err = dirty_open(vm, vm->export.dirty, &vm->dirty);
	if (err)
		return reason_set(why, -err, "memory: %llu MiB: %s",
				  (unsigned long long)(bytes >> 20), strerror(-err));
	return 0;
}

static int open_processors(struct vm *vm, struct reason *why)
{
	struct cpuid_table *cpuid = malloc(sizeof(*cpuid));
	int khz, err = cpuid ? 0 : -ENOMEM;

	if (!err)
		err = chip_state_open(vm, &vm->chips);
	if (!err)
		err = cpuid_open(vm->kvm_fd, vm->config.nr_vcpus, cpuid);
	if (!err)
		err = vcpus_open(vm, cpuid, why);
	if (!err) {
		khz = ioctl(vm->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);
		vm->chips->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
		vm->chips->cpuid_digest = cpuid_digest(cpuid);
		err = chip_state_take(vm, &vm->chips->saved);
		vm->chips->power_on = vm->chips->saved;
	}
	/* Told now, while the guest runs elsewhere, and not when it is to go on here. */
	if (!err && vm->standby && vm->config.processors &&
	    vm->config.processors != vm->chips->cpuid_digest)
		err = reason_set(why, EXDEV,
				 "processors: the guest knows %016llx, here are %016llx: these "
				 "hosts, or their kernels, offer different features",
				 (unsigned long long)vm->config.processors,
				 (unsigned long long)vm->chips->cpuid_digest);
	free(cpuid);
	return err;
}

static int open_devices(struct vm *vm, struct reason *why)
{
	int err = pci_bus_open(vm);

	if (!err)
		err = power_open(vm, &vm->power);
	if (!err)
		err = rtc_open(vm, &vm->rtc);
	if (!err)
		err = console_open(vm, &vm->console, why);
	if (!err)
		err = serial_open(vm, &vm->serial);
	if (!err)
		err = net_hold_open(&vm->net_hold);
	if (!err)
		err = disk_mirror_open(&vm->disk_mirror);
	if (!err)
		err = disk_track_open(&vm->disk_track);
	for (unsigned int i = 0; !err && i < vm->config.nr_disks; i++)
		err = virtio_blk_create(vm, i, why);
	for (unsigned int i = 0; !err && i < vm->config.nr_nics; i++)
		err = virtio_net_create(vm, i, why);
	if (!err)
		err = virtio_console_create(vm, 0, why);
	if (!err)
		err = virtio_rng_create(vm, 0, why);
	return err;
}

static int track_disks(struct vm *vm, const char *path, struct reason *why)
{
	int fd = path ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;

	if (!path)
		return 0;
	if (fd < 0)
		return reason_set(why, errno, "%s: %s", path, strerror(errno));
	return disk_track_on(vm->disk_track, fd, why);
}

static int build(struct vm *vm, int memory_fd, struct reason *why)
{
	int err = open_kvm(vm, why);

	if (!err)
		err = open_memory(vm, memory_fd, why);
	if (!err)
		err = io_bus_open(&vm->io);
	if (!err)
		err = open_processors(vm, why);
	if (!err)
		err = run_open(vm, &vm->run);
	if (!err)
		err = open_devices(vm, why);
	if (!err)
		err = context_open(vm, &vm->context);
	if (!err)
		err = boot_open(vm, why);
	if (!err && !vm->standby)
		err = boot_load(vm, why);
	if (!err) {
		vm->to_start = vm->devices;
		vm->built = true;
	}
	return err;
}

int vm_open(const struct vm_options *options, struct vm_config *config, struct vm **ret,
	    struct reason *why)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int err;

	if (!vm) {
		vm_config_free(config);
		return -ENOMEM;
	}
	vm->config = *config;
	memset(config, 0, sizeof(*config));
	vm->domid = options->domid;
	vm->standby = options->standby;
	vm->kvm_fd = vm->fd = -1;
	gate_init(&vm->gate);
	why->text[0] = '\0';
	if (snprintf(vm->run_dir, sizeof(vm->run_dir), "%s", options->run_dir) >=
	    (int)sizeof(vm->run_dir))
		err = reason_set(why, ENAMETOOLONG, "run directory: longer than %u",
				 VM_RUN_DIR_MAX - 1);
	else if (!vm->config.kernel && !vm->standby)
		err = reason_set(why, EINVAL, "vm: \"kernel\" is missing");
	else
		err = build(vm, options->memory_fd, why);
	if (!err)
		err = track_disks(vm, options->regions, why);
	if (err) {
		if (!why->text[0])
			reason_set(why, -err, "%s", strerror(-err));
		vm_close(vm);
		return err;
	}
	*ret = vm;
	return 0;
}

/* --- life -------------------------------------------------------------------------------- */

int vm_start_devices(struct vm *vm)
{
	while (vm->to_start) {
		struct vm_device *dev = vm->to_start;
		int err = dev->ops->start ? dev->ops->start(dev) : 0;

		if (err)
			return err;
		vm->to_start = dev->next;
	}
	return 0;
}

int vm_start(struct vm *vm, struct reason *why)
{
	int err = 0;

	why->text[0] = '\0';
	if (!vm->standby)
		err = vm_start_devices(vm);
	if (!err)
		err = console_start(vm->console);
	if (!err)
		err = vcpus_start(vm);
	if (err)
		return reason_set(why, -err, "starting threads: %s", strerror(-err));
	return 0;
}

static void close_devices(struct vm *vm)
{
	struct vm_device *next;

	for (struct vm_device *dev = vm->devices; vm->built && dev != vm->to_start; dev = dev->next)
		if (dev->ops->stop)
			dev->ops->stop(dev);
	for (struct vm_device *dev = vm->devices; dev; dev = next) {
		next = dev->next;
		if (dev->ops->destroy)
			dev->ops->destroy(dev);
	}
	serial_close(vm->serial);
	rtc_close(vm->rtc);
	power_close(vm->power);
	pci_bus_close(vm->pci);
	disk_mirror_close(vm->disk_mirror);
	disk_track_close(vm->disk_track);
	net_hold_close(vm->net_hold);
}

void vm_close(struct vm *vm)
{
	if (!vm)
		return;
	if (vm->run) {
		run_quit(vm);
		vcpus_join(vm);
	}
	console_close(vm->console);
	close_devices(vm);
	boot_close(vm->boot);
	context_close(vm->context);
	run_close(vm->run);
	vcpus_close(vm);
	chip_state_close(vm->chips);
	io_bus_close(vm->io);
	dirty_close(vm->dirty);
	export_close(&vm->export);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	guest_memory_close(&vm->memory);
	vm_config_free(&vm->config);
	free(vm);
}
