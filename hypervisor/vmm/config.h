/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of: the JSON that pollux-vmm is started with, checked.
 *
 * {"name": "db", "uuid": "...", "kernel": "/path", "ramdisk": "/path", "cmdline": "...",
 *  "memory_mib": 256, "vcpus": 1,
 *  "disks": [{"path": "/x.img", "readonly": false, "deferred": false, "name": TEXT}],
 *  "nics": [{"mac": "52:54:00:77:01:00", "bridge": "br0"}],
 *  "processors": "16 hexadecimal digits",
 *  "on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}
 *
 * A disk's name, its path when there is none, is what others know it by.
 *
 * "processors" is what CONTROL_PROCESSORS says where the guest runs: a standby is refused on a host
 * whose are others.
 *
 * An unknown key, a missing file, a value beyond its limit is refused by name. Paths are
 * on the host that runs the VM. A standby needs no kernel and no ramdisk.
 */
#ifndef POLLUX_VMM_CONFIG_H
#define POLLUX_VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CONFIG_MAX_VCPUS 64u
#define CONFIG_MAX_DISKS 8u
#define CONFIG_MAX_NICS	 8u

enum config_action { CONFIG_DESTROY, CONFIG_RESTART, CONFIG_PRESERVE };

struct vm_config {
	char name[64];
	uint8_t uuid[16];
	char *kernel;
	char *ramdisk; /* or NULL */
	char *cmdline;
	uint64_t memory_bytes;
	unsigned int nr_vcpus;
	uint64_t processors; /* cpuid_digest() of those the guest has seen; 0: not told */
	unsigned int nr_disks;
	struct vm_config_disk {
		char *path;
		char *name; /* or NULL */
		bool readonly;
		bool deferred; /* blk_defer.h */
	} disk[CONFIG_MAX_DISKS];
	unsigned int nr_nics;
	struct vm_config_nic {
		uint8_t mac[6];
		char bridge[16]; /* "": the tap joins none */
	} nic[CONFIG_MAX_NICS];
	enum config_action on_poweroff, on_reboot, on_crash;
};

/* Reads and checks the file; the caller closes with vm_config_free(). */
int vm_config_read(const char *path, struct vm_config *ret, struct reason *why);
void vm_config_free(struct vm_config *config);

#endif
