/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the VM asks of every device, whatever bus it sits on.
 *
 * The order of a device's life: created and added (vm_add_device) while the VM is
 * built; `start` when the VM is about to run for the first time, at boot or after a
 * state was loaded; then entries through its bus; `state` only while the gate is
 * closed; `reset` when the guest reboots, gate closed; `stop`, then `destroy`.
 */
#ifndef POLLUX_VMM_DEVICE_H
#define POLLUX_VMM_DEVICE_H

#include <stdint.h>

struct state;
struct vm;
struct vm_device;

struct vm_device_ops {
	/* Visits the saved fields, both ways. */
	void (*state)(struct vm_device *dev, struct state *s);
	/* Starts threads; issues requests again that were in flight in a loaded state. */
	int (*start)(struct vm_device *dev);
	void (*reset)(struct vm_device *dev);
	/* Ends and joins its threads; the gate is open and no vCPU runs. */
	void (*stop)(struct vm_device *dev);
	void (*destroy)(struct vm_device *dev);
};

struct vm_device {
	const struct vm_device_ops *ops;
	uint16_t type;	   /* enum state_type */
	uint16_t instance; /* among devices of this type */
	struct vm_device *next;
};

#endif
