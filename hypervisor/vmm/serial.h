/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A at 0x3f8, interrupt 4. What the guest sends goes to the console (console.h) at
 * once; what the console gives waits in a queue for the guest to read.
 *
 * Source: National Semiconductor PC16550D data sheet. Threads: vCPUs and the console's
 * thread (inside the gate); one lock.
 */
#ifndef POLLUX_VMM_SERIAL_H
#define POLLUX_VMM_SERIAL_H

#include <stddef.h>
#include <stdint.h>

struct serial;
struct vm;

int serial_open(struct vm *vm, struct serial **ret);
void serial_close(struct serial *serial);
/* Takes as many bytes as there is room for; returns how many. `room_fd`, an eventfd or -1, is
 * raised once the guest has read all of them. Inside the gate. */
size_t serial_input(struct serial *serial, const uint8_t *data, size_t len, int room_fd);

#endif
