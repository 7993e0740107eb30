/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host must not forget about a VM: the highest generation it has met and what it was
 * to the VM in it. P3 rests on this record: it is on disk, fsynced, before the generation in
 * it is used (role.h).
 *
 * The write is atomic: temporary file, fsync, rename, fsync of the directory. After a crash at
 * any step the record is the old one or the new one, whole. A record that is torn, corrupt or
 * not ours is an error that names it, never "generation 0": a host that has forgotten may not
 * guess. The generation never goes down.
 *
 * Format (little-endian): magic u64, version u32, length u32 of the whole record, generation
 * u64, epoch u64, role u8, peer length u8, peer bytes, XXH3-64 of everything before it.
 * Fault points, in order: record.create record.write record.fsync record.rename record.dirsync.
 */
#ifndef POLLUX_HA_RECORD_H
#define POLLUX_HA_RECORD_H

#include <stdbool.h>
#include <stdint.h>

struct reason;

#define RECORD_PEER_MAX 63u

/* What this host is to the VM. The numbers are on disk: never renumber. */
enum record_role {
	RECORD_NONE = 0,    /* no record; never written */
	RECORD_ACTIVE = 1,  /* runs the VM and holds the solo right: may emit unacknowledged */
	RECORD_PRIMARY = 2, /* runs the VM; `peer` has the right: emits what it acknowledged */
	RECORD_BACKUP = 3,  /* stands by for `peer`; runs nothing */
	RECORD_STOPPED = 4, /* ran the VM once; a higher generation runs elsewhere: never again */
};

struct record {
	uint64_t generation; /* from 1 */
	uint64_t epoch;	     /* the last epoch the writer knew to be committed; for people */
	enum record_role role;
	char peer[RECORD_PEER_MAX + 1]; /* the other host's name, or "" */
};

/* The role as the command line shows it: "active", "primary", ... */
const char *record_role_name(enum record_role role);

/* Reads DIR/record. -ENOENT: there is none; -EBADMSG: torn, corrupt or not a record (`why`
 * names the file and what is wrong); other: from the file system. */
int record_read(const char *dir, struct record *ret, struct reason *why);

/* Makes `rec` the record, durably; 0 means it survives a power cut from now on. -ESTALE: its
 * generation is lower than the one on disk; -EBADMSG: the one on disk is unreadable, which
 * only an operator may resolve; -EINVAL: `rec` itself. After any other error the record on disk is
 * the old one or the new one: the caller may not assume either, and writes it again. */
int record_write(const char *dir, const struct record *rec, struct reason *why);

#endif
