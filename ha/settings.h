/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pollux-ha process is told: one JSON file, written by polluxd, checked here.
 * Times in nanoseconds, sizes in bytes. An unknown key is an error, as is a value
 * beyond its limit; the reason names key, value and limit.
 */
#ifndef POLLUX_HA_SETTINGS_H
#define POLLUX_HA_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ha/codec.h"
#include "ha/epoch.h"
#include "ha/role.h"

#define SETTINGS_PATH_MAX 256u

struct json_object;

enum settings_netbuf { SETTINGS_NETBUF_AUTO, SETTINGS_NETBUF_HOLD, SETTINGS_NETBUF_PLUG };

struct settings {
	enum role_side side;
	char vm[64];
	char uuid_text[40];
	uint8_t uuid[16];
	uint32_t domid;
	char host[64];	    /* this host's name */
	char peer[64];	    /* the other host's */
	char peer_host[64]; /* its polluxd's address, without the port; primary only */
	uint16_t peer_port;
	bool encryption;
	char ca[SETTINGS_PATH_MAX], cert[SETTINGS_PATH_MAX], key[SETTINGS_PATH_MAX];
	enum epoch_mode mode;
	uint64_t interval_ns;
	uint64_t min_interval_ns;
	uint64_t timeout_ns; /* of silence, before the backup takes over */
	enum codec_id codec;
	enum settings_netbuf netbuf; /* auto: hold, where the hypervisor has it */
	uint64_t delta_cache_bytes;
	uint64_t stage_bytes; /* captured pages that wait to be sent, all slots together */
	uint32_t max_in_flight;
	uint64_t hold_limit_bytes;
	uint64_t disk_ring_bytes;
	uint64_t backlog_bytes; /* backup: memory for epochs that are not committed */
	uint64_t resync_cap;	/* bytes a second of the disks' copy; 0: no cap */
	bool commit_disk;	/* a backup acknowledges what is on its disk, not in its memory */
	char record_dir[SETTINGS_PATH_MAX];
	char socket[SETTINGS_PATH_MAX];
	char run_dir[SETTINGS_PATH_MAX]; /* of the VM: pollux-vmm's control socket is there */
	char disk_token[40];		 /* backup: whose copy its disks are (resync.h); "" */
	int listen_fd;			 /* backup: where the primary will connect; else -1 */
	bool memory_kept;		 /* backup: the standby has memory of this VM */
	bool stall_alone;		 /* role.h */
	bool oracle;			 /* compare hashes of all memory at every epoch */
	struct json_object *options;	 /* the operator's, for the other host, or NULL */
	struct json_object *config;	 /* the VM's configuration, for the other host */
};

/* The caller frees with settings_free(). */
int settings_read(const char *path, struct settings *ret, struct reason *why);
void settings_free(struct settings *s);

/* How many network cards the VM's configuration has. */
unsigned int settings_nr_nics(const struct settings *s);

#endif
