/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux.conf: INI, read with inih. Every key is in the tables of conf.c; an unknown
 * section or key, a value beyond its limit, a key given twice is refused with its line.
 * The man page pollux.conf(5) says what each key means; defaults are set here alone.
 */
#ifndef POLLUX_TOOLS_CONF_H
#define POLLUX_TOOLS_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "tools/common/text.h"

#define CONF_FILE      "/etc/pollux/pollux.conf"
#define CONF_PATH_MAX  200u /* of a file or folder named in it */
#define CONF_PEERS_MAX 32u
#define CONF_PEER_PORT 7400u

struct conf_protection {
	char mode[8];	/* remus, kemari */
	char codec[8];	/* lz4, zstd, zlib, none */
	char netbuf[8]; /* auto, hold, plug */
	uint64_t interval_ns;
	uint64_t min_interval_ns;
	uint64_t timeout_ns;
	uint64_t delta_cache_bytes;
	uint64_t stage_bytes;
	uint64_t max_in_flight;
	uint64_t hold_limit_bytes;
	uint64_t disk_ring_bytes;
	uint64_t resync_cap_bytes; /* a second; 0: no cap */
	char reprotect[8];	   /* auto, manual: after the VM has moved, back to where it was */
	char on_peer_loss[12];	   /* handover, stall: whether it may run on without protection */
	bool commit_disk;	   /* the backup acknowledges what is on its disk */
	bool oracle;		   /* compare all memory on both sides at every epoch: a test */
};

struct conf_peer {
	char name[TEXT_NAME_MAX + 1];
	char address[CONF_PATH_MAX]; /* "" until its section gives one */
};

struct conf {
	char name[TEXT_NAME_MAX + 1];
	char listen[CONF_PATH_MAX]; /* "": no other host can reach this one */
	char ca[CONF_PATH_MAX], cert[CONF_PATH_MAX], key[CONF_PATH_MAX];
	bool encryption;
	uint64_t backlog_bytes; /* memory of a standby for epochs that are not committed */
	char bridge[16];
	char http[CONF_PATH_MAX]; /* "": no HTTP */
	char run_dir[CONF_PATH_MAX / 4], state_dir[CONF_PATH_MAX / 2];
	char log_dir[CONF_PATH_MAX / 2], libexec_dir[CONF_PATH_MAX / 2];
	char hooks_dir[CONF_PATH_MAX / 2];
	uint64_t hook_timeout_ns;
	struct conf_protection protection;
	struct conf_peer peer[CONF_PEERS_MAX];
	unsigned int nr_peers;
};

/* Defaults, then the file. */
int conf_read(const char *path, struct conf *ret, struct reason *why);
/* The same from a text; `name` stands for the file in reasons. */
int conf_parse(const char *text, const char *name, struct conf *ret, struct reason *why);
/* Every key, so that conf_parse() of it is the same again. */
void conf_write(const struct conf *conf, FILE *to);
const struct conf_peer *conf_find_peer(const struct conf *conf, const char *name);

/* One key of [protection], as the command line gives it with --KEY=VALUE. */
int conf_protection_set(struct conf_protection *p, const char *key, const char *value,
			struct reason *why);
/* What no single key can check. */
int conf_protection_check(const struct conf_protection *p, struct reason *why);

#endif
