/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers behind the FADT: power button, power off, PM timer, and the several
 * ports by which a PC is reset. ACPI 6.4, chapter 4.8.3.
 *
 * Threads: vCPUs, and whoever presses the button (inside the gate); one lock.
 */
#ifndef POLLUX_VMM_POWER_H
#define POLLUX_VMM_POWER_H

#include <stdint.h>

struct power;
struct vm;

#define POWER_SCI	   9u
#define POWER_EVENT_PORT   0x600u
#define POWER_CONTROL_PORT 0x604u
#define POWER_TIMER_PORT   0x608u
#define POWER_RESET_PORT   0xcf9u /* inside the PCI ports, whose owner passes writes on */
#define POWER_RESET_VALUE  0x06u

int power_open(struct vm *vm, struct power **ret);
void power_close(struct power *power);
/* Inside the gate. */
void power_press_button(struct power *power);
void power_reset_write(struct vm *vm, uint8_t value);

#endif
