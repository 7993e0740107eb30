/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guests that are one program, run as /init, have in common: drivers, devices,
 * parameters, the network. Such a guest says what fails on its console and goes on.
 */
#ifndef POLLUX_GUEST_MACHINE_H
#define POLLUX_GUEST_MACHINE_H

#include <stdint.h>

/* Mounts /dev, makes the console line-buffered, loads the modules of /modules/order. */
void machine_begin(const char *name);

/* The kernel hands what it does not know of its command line on as variables. */
uint64_t machine_parameter(const char *name, uint64_t otherwise);

/* Waits for a device that appears a moment after its driver; a descriptor or -1. */
int machine_open(const char *path, int flags);

/* Gives eth0 an address in a network of 256 and brings it up. Returns 0 or -1. */
int machine_address(const char *address);

#endif
