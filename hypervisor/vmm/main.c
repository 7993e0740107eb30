/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-vmm: one virtual machine.
 *
 *	pollux-vmm --domid N --run-dir DIR --config FILE [--standby [--memory-fd N]]
 *		[--regions FILE] [--no-sandbox]
 *
 * Builds the VM, gives its privileges up, runs it, and ends with it. What happens in
 * between is asked for over <run-dir>/control.
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/blackbox.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "hypervisor/vmm/control.h"
#include "hypervisor/vmm/run.h"
#include "hypervisor/vmm/sandbox.h"
#include "hypervisor/vmm/vm.h"

#define DOMID_MAX  32752u /* Xen's DOMID_FIRST_RESERVED - 1 is 0x7fef */
#define FD_MAX	   1023
#define EXIT_USAGE 2

struct arguments {
	struct vm_options options;
	const char *config;
	bool no_sandbox;
};

static int usage(void)
{
	fputs("usage: pollux-vmm --domid N --run-dir DIR --config FILE "
	      "[--standby [--memory-fd N]] [--regions FILE] [--no-sandbox]\n",
	      stderr);
	return -EINVAL;
}

static int parse_domid(const char *text, unsigned int *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n == 0 || n >= DOMID_MAX) {
		fprintf(stderr, "pollux-vmm: --domid %s is not between 1 and %u\n", text,
			DOMID_MAX - 1);
		return -EINVAL;
	}
	*ret = (unsigned int)n;
	return 0;
}

/* Not 0 to 2, which are what a process has without being given anything. */
static int parse_fd(const char *text, int *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n < 3 || n > FD_MAX) {
		fprintf(stderr, "pollux-vmm: --memory-fd %s is not between 3 and %d\n", text,
			FD_MAX);
		return -EINVAL;
	}
	*ret = (int)n;
	return 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "domid", required_argument, NULL, 'd' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ "config", required_argument, NULL, 'c' },
		{ "standby", no_argument, NULL, 's' },
		{ "regions", required_argument, NULL, 'R' },
		{ "memory-fd", required_argument, NULL, 'm' },
		{ "no-sandbox", no_argument, NULL, 'n' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			if (parse_domid(optarg, &ret->options.domid))
				return -EINVAL;
			break;
		case 'r':
			ret->options.run_dir = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 's':
			ret->options.standby = true;
			break;
		case 'R':
			ret->options.regions = optarg;
			break;
		case 'm':
			if (parse_fd(optarg, &ret->options.memory_fd))
				return -EINVAL;
			break;
		case 'n':
			ret->no_sandbox = true;
			break;
		default:
			return usage();
		}
	}
	if (optind < argc || !ret->options.domid || !ret->options.run_dir || !ret->config)
		return usage();
	if (ret->options.memory_fd >= 0 && !ret->options.standby)
		return usage();
	return 0;
}

/* Going without is no reason to fail. */
static void open_blackbox(const char *run_dir)
{
	char path[VM_RUN_DIR_MAX + 16];

	snprintf(path, sizeof(path), "%s/blackbox", run_dir);
	blackbox_open(path);
}

static int open_vm(const struct arguments *args, struct vm **ret_vm,
		   struct vm_control **ret_control, struct reason *why)
{
	struct vm_config config;
	int err;

	if (mkdir(args->options.run_dir, 0711) && errno != EEXIST)
		return reason_set(why, errno, "%s: %s", args->options.run_dir, strerror(errno));
	open_blackbox(args->options.run_dir);
	err = vm_config_read(args->config, &config, why);
	if (!err)
		err = vm_open(&args->options, &config, ret_vm, why);
	if (!err)
		err = vm_control_open(*ret_vm, ret_control, why);
	return err;
}

static int run(const struct arguments *args, struct reason *why)
{
	struct vm_control *control = NULL;
	struct vm *vm = NULL;
	char tag[96];
	int err = open_vm(args, &vm, &control, why);

	if (err)
		goto out;
	snprintf(tag, sizeof(tag), "vm=%s domid=%u", vm->config.name, vm->domid);
	log_tag(tag);
	if (!args->no_sandbox)
		err = sandbox_enter(why);
	if (!err)
		err = vm_start(vm, why);
	if (!err)
		err = vm_control_start(control);
	if (err)
		goto out;
	log_notice("event=%s memory_mib=%llu vcpus=%u", vm->standby ? "vm_standby" : "vm_started",
		   (unsigned long long)(vm->config.memory_bytes >> 20), vm->config.nr_vcpus);
	run_main(vm);
out:
	if (vm)
		run_quit(vm);
	vm_control_close(control);
	vm_close(vm);
	return err;
}

int main(int argc, char **argv)
{
	struct arguments args = { .options.memory_fd = -1 };
	struct reason why = { 0 };
	int err;

	log_open("pollux-vmm");
	if (fault_open())
		return EXIT_USAGE;
	if (parse_arguments(argc, argv, &args))
		return EXIT_USAGE;
	err = run(&args, &why);
	if (err) {
		log_error("event=vm_failed reason=\"%s\"", why.text[0] ? why.text : strerror(-err));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
