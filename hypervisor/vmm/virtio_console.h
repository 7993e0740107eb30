/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console, port 0 only (virtio 1.2, 5.3): hvc0, whose output goes to hvc0.log in
 * the VM's run directory. It has no input; the serial port has.
 */
#ifndef POLLUX_VMM_VIRTIO_CONSOLE_H
#define POLLUX_VMM_VIRTIO_CONSOLE_H

struct reason;
struct vm;

int virtio_console_create(struct vm *vm, unsigned int index, struct reason *why);

#endif
