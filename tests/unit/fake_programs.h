/* SPDX-License-Identifier: Apache-2.0 */
/* What the stand-ins of fake_programs.c have in common. */
#ifndef POLLUX_TEST_FAKE_PROGRAMS_H
#define POLLUX_TEST_FAKE_PROGRAMS_H

#include <stdbool.h>

#define MAX_CONNECTIONS 16

/* SIGUSR1 and SIGUSR2 by a descriptor; the number of the one that came. */
int fake_signals(void);
int fake_take_signal(int fd);

/* Until it is killed or told to end; the exit status. */
int fake_vmm(const char *dir, const char *config);
/* Adopts the domain of this name or number, or makes one: a standby or not. */
int fake_xen(const char *dir, const char *adopt, const char *config, bool standby);

#endif
