/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux, the command line: a table of commands, each a function that asks polluxd and
 * prints. Exit codes are part of the interface.
 */
#ifndef POLLUX_CLI_H
#define POLLUX_CLI_H

#include <stdbool.h>
#include <stdint.h>

struct ipc;
struct json_object;

enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_REFUSED = 3, /* checked beforehand, found impossible, nothing changed */
	CLI_NOT_PERMITTED = 4,
	CLI_NO_DAEMON = 5,
	CLI_TIMEOUT = 6,
	CLI_UNSAFE = 7,	 /* needs --force and --reason */
	CLI_DIFFERS = 8, /* verify: the backup differs, or may */
};

/* What the options said; a command uses what its row in the table allows. */
struct cli {
	const char *args[8];
	int nr_args;
	bool force, follow, json;
	bool repair, memory, disks; /* of verify */
	const char *reason, *until;
	const char *name, *listen, *token, *address; /* of host */
	uint64_t timeout_ns;
	uint64_t warning_ns, critical_ns; /* of check; 0: not said */
	struct json_object *options;	  /* of protect: name -> text */
};

typedef int cli_fn(const struct cli *cli);

cli_fn cli_vm_create, cli_vm_list, cli_vm_console, cli_vm_shutdown, cli_vm_destroy;
cli_fn cli_protect, cli_unprotect, cli_reprotect, cli_status, cli_failover, cli_switchover;
cli_fn cli_verify, cli_events, cli_wait, cli_version;
cli_fn cli_check, cli_config_check, cli_config_dump, cli_top, cli_completion, cli_help;
cli_fn cli_report, cli_host_init, cli_host_invite, cli_host_join, cli_host_list, cli_host_renew,
	cli_host_remove;

/* "pollux: TEXT" on standard error; returns `code`. */
__attribute__((format(printf, 2, 3))) int cli_fail(enum cli_exit code, const char *fmt, ...);

/* --- call.c: asking polluxd --------------------------------------------------------------- */

/* An open connection, or the exit code (positive) with the reason already said. */
int cli_connect(struct ipc **ret);
/* Takes the request. 0 and the reply, to be put; else the exit code, the reason said. */
int cli_ask(struct json_object *request, struct json_object **ret_reply);
/* The same, and says nothing but `done` (may be NULL) when it went well. */
int cli_order(struct json_object *request, const char *done);
/* {"verb":verb} and "vm" where there is one. */
struct json_object *cli_request(const char *verb, const char *vm);
/* The exit code of a refusal; says its reason. */
int cli_refusal(struct json_object *reply);

/* --- progress.c: of long work, on a terminal ---------------------------------------------- */

struct cli_progress {
	uint64_t began_ns, began_bytes, shown_ns;
	bool shown;
};
/* One line on standard error, overwritten by the next: how far, rate, time left. Says nothing
 * where that is no terminal. A zeroed `p` begins. */
void cli_progress(struct cli_progress *p, const char *what, uint64_t done, uint64_t total);
/* Nothing of it is left on the screen. */
void cli_progress_end(struct cli_progress *p);

/* --- print.c: what people read ------------------------------------------------------------ */

void cli_print_list(struct json_object *reply);
void cli_print_status(struct json_object *reply);
void cli_print_event(struct json_object *event);
void cli_print_json(struct json_object *o);

#endif
