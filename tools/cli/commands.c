/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cli/commands.h"

#include "base/err.h"

const struct cli_command cli_commands[] = {
	{ "vm create", 1, 1, ALLOW_FORCE | ALLOW_FILE, cli_vm_create,
	  "FILE [--force --reason TEXT]", "start the VM that FILE describes" },
	{ "vm list", 0, 0, ALLOW_JSON, cli_vm_list, "[--format json]", "the VMs of this host" },
	{ "vm console", 1, 1, 0, cli_vm_console, "VM", "the VM's serial port; Ctrl-] leaves it" },
	{ "vm shutdown", 1, 1, 0, cli_vm_shutdown, "VM", "press the VM's power button" },
	{ "vm destroy", 1, 1, ALLOW_FORCE, cli_vm_destroy, "VM [--force --reason TEXT]",
	  "end the VM at once; its disks stay" },
	{ "protect", 2, 2, ALLOW_PROTECTION, cli_protect, "VM HOST [--OPTION=VALUE]...",
	  "keep the VM alive on HOST if this host is lost" },
	{ "unprotect", 1, 1, ALLOW_FORCE, cli_unprotect, "VM [--force --reason TEXT]",
	  "end protection; the VM runs on" },
	{ "switchover", 1, 1, ALLOW_TIMEOUT, cli_switchover, "VM [--timeout=DURATION]",
	  "move the VM to the backup; nothing is lost" },
	{ "reprotect", 1, 1, 0, cli_reprotect, "VM", "protect a VM that moved here" },
	{ "verify", 1, 1, ALLOW_VERIFY | ALLOW_JSON, cli_verify,
	  "VM [--repair] [--memory] [--disks] [--format json]",
	  "compare the backup with the VM, bit by bit" },
	{ "status", 0, 1, ALLOW_JSON, cli_status, "[VM] [--format json]",
	  "protected or not, and why not" },
	{ "failover", 1, 1, 0, cli_failover, "VM", "let the backup run the VM from now on" },
	{ "events", 0, 0, ALLOW_JSON | ALLOW_FOLLOW, cli_events, "[--follow] [--format json]",
	  "what happened" },
	{ "wait", 1, 1, ALLOW_FOR | ALLOW_TIMEOUT, cli_wait, "VM --for=STATE [--timeout=DURATION]",
	  "until it is so" },
	{ "top", 0, 1, 0, cli_top, "[VM]", "the figures, twice a second; Ctrl-C ends it" },
	{ "check", 0, 1, ALLOW_LAG, cli_check, "[VM] [--warning=DURATION] [--critical=DURATION]",
	  "one line for monitoring, as Nagios reads it" },
	{ "config check", 0, 1, ALLOW_FILE, cli_config_check, "[FILE]",
	  "whether polluxd would take it" },
	{ "config dump", 0, 1, ALLOW_FILE, cli_config_dump, "[FILE]",
	  "all of it, with the defaults" },
	{ "report", 0, 1, ALLOW_FILE, cli_report, "[FILE]",
	  "what whoever looks into a problem asks for, in one file" },
	{ "completion", 1, 8, ALLOW_WORDS, cli_completion, "bash",
	  "a script that completes these commands" },
	{ "host init", 0, 0, ALLOW_HOST, cli_host_init, "[--name=NAME] [--listen=ADDRESS]",
	  "begin a cluster: keys, certificates, pollux.conf" },
	{ "host invite", 1, 1, ALLOW_TIMEOUT, cli_host_invite, "NAME [--timeout=DURATION]",
	  "wait for host NAME to join, with the token that is shown" },
	{ "host join", 1, 1, ALLOW_HOST, cli_host_join, "HOST[:PORT] --token=TOKEN [--name=NAME]",
	  "be a host beside HOST, which waits for it" },
	{ "host list", 0, 0, ALLOW_JSON, cli_host_list, "[--format json]",
	  "this host and its peers, and until when their certificates hold" },
	{ "host renew", 0, 0, 0, cli_host_renew, "", "a new key and certificate for this host" },
	{ "host remove", 1, 1, 0, cli_host_remove, "NAME", "it is no peer of this host any more" },
	{ "version", 0, 0, 0, cli_version, "", "of this program" },
	{ "help", 0, 1, 0, cli_help, "", "this" },
};
const unsigned int cli_nr_commands = ARRAY_SIZE(cli_commands);

const struct cli_command *cli_find_command(int nr, char *const *words, int *ret_used)
{
	for (unsigned int i = 0; i < cli_nr_commands; i++) {
		const char *own = cli_commands[i].words, *blank = strchr(own, ' ');
		size_t first = blank ? (size_t)(blank - own) : strlen(own);

		if (nr < 1 || strlen(words[0]) != first || strncmp(words[0], own, first))
			continue;
		if (blank && (nr < 2 || strcmp(words[1], blank + 1)))
			continue;
		*ret_used = blank ? 2 : 1;
		return &cli_commands[i];
	}
	return NULL;
}
