/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial console's other end: <run-dir>/serial.log, and <run-dir>/console, a stream
 * socket for up to CONSOLE_MAX_CLIENTS, each of whom sees the output from then on and
 * may type. The guest never waits for a client or for the log's disk: output goes through a
 * ring of 64 KiB, which a thread empties, and what finds no room there is lost, and said to
 * be. The log starts over at 16 MiB.
 *
 * The console is for operators. It is not held back like the network: what it shows may
 * be ahead of what the backup has.
 */
#ifndef POLLUX_VMM_CONSOLE_H
#define POLLUX_VMM_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct console;
struct vm;

#define CONSOLE_MAX_CLIENTS 8u

int console_open(struct vm *vm, struct console **ret, struct reason *why);
int console_start(struct console *console);
/* Joins the thread and writes what is left; NULL is fine. */
void console_close(struct console *console);
/* NULL is fine: nobody listens. Any thread. */
void console_output(struct console *console, const uint8_t *data, size_t len);

#endif
