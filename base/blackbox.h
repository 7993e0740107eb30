/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight recorder: the last few thousand events of a process, in a file that outlives
 * it (but not the host). Recording is a few stores into mapped memory, from any thread, at
 * any moment, the pause included; nothing waits for it.
 *
 * File: a header of 64 bytes {u32 magic, u32 version, u64 entries, u64 next}, then entries
 * of 32 bytes {u64 CLOCK_BOOTTIME ns, char name[8], u64 a, u64 b}, native byte order; entry
 * `n` lies at n modulo entries. One that is being overwritten while it is read may be torn.
 */
#ifndef POLLUX_BLACKBOX_H
#define POLLUX_BLACKBOX_H

#include <stddef.h>
#include <stdint.h>

struct blackbox_entry {
	uint64_t ns;
	char name[8]; /* not terminated if it has 8 characters */
	uint64_t a, b;
};

/* Starts recording into `path`, replacing what is there. Without it, recording does nothing. */
int blackbox_open(const char *path);
void blackbox_close(void);

/* `name`: at most 8 characters. */
void blackbox_record(const char *name, uint64_t a, uint64_t b);

/* Copies the newest entries, oldest first; returns how many, at most `max`. */
size_t blackbox_read(struct blackbox_entry *ret, size_t max);

#endif
