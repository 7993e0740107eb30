/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps switched on what the kernel would otherwise switch on and off, by writing into its own
 * code (static keys), whenever a VM or a capture begins or the last one ends.
 *
 * QEMU 7.2 without KVM loses such a write now and then: it drops its translations of a page
 * before the store is made, another processor translates the old bytes again in between, and
 * from then on executes a breakpoint that is no longer in memory. Both processors of the
 * node hang in __schedule(), as if the host had frozen: seen after some 150 VMs.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "tools/lab/agent.h"

/* For as long as the process lives that stays behind. */
static int kept_vm, kept_vcpu, kept_socket;

/* preempt_notifier_key: a VM. apic_sw_disabled: a processor whose local APIC nobody enables. */
static int keep_vm(void)
{
	cleanup_close int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		return -errno;
	kept_vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (kept_vm < 0 || ioctl(kept_vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	kept_vcpu = ioctl(kept_vm, KVM_CREATE_VCPU, 0);
	return kept_vcpu < 0 ? -errno : 0;
}

/* netstamp_needed_key: a socket that asks when its packets came. */
static int keep_timestamps(void)
{
	int on = 1;

	kept_socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (kept_socket < 0 ||
	    setsockopt(kept_socket, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

static void report(const char *what, int err)
{
	if (err)
		fprintf(stderr, "lab-agent: %s cannot be kept: %s\n", what, strerror(-err));
}

int agent_keys(void)
{
	report("a VM", keep_vm());
	report("a socket with timestamps", keep_timestamps());
	if (fork() == 0)
		for (;;)
			pause();
	return 0;
}
