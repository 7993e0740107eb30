/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-xen: the companion of one domain of Xen.
 *
 *	pollux-xen --adopt NAME|DOMID --run-dir DIR
 *	pollux-xen --standby --config FILE --run-dir DIR
 *	pollux-xen --create --config FILE --run-dir DIR
 *
 * Serves <run-dir>/control (hypervisor/control/control.h) until its domain ends or it is told
 * to. The main thread waits for xenstore to say that a domain has ended. libxl has
 * children, whose end it is told by SIGCHLD; so signals are taken by handlers and not blocked,
 * which children would inherit.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <xenstore.h>

#include "base/fault.h"
#include "base/log.h"
#include "hypervisor/xen/create.h"
#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/ops.h"
#include "hypervisor/xen/standby.h"

#define EXIT_USAGE 2
#define LOOK_MS	   5000 /* for what xenstore does not tell */

struct arguments {
	const char *run_dir, *adopt, *config;
	bool standby, create;
};

static int quit_fd = -1; /* an eventfd, for the handler */

static void on_signal(int signal)
{
	int saved = errno;
	uint64_t one = 1;

	(void)signal;
	if (write(quit_fd, &one, sizeof(one)) < 0)
		errno = saved;
	errno = saved;
}

static int take_signals(void)
{
	struct sigaction quit = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (quit_fd < 0 || sigaction(SIGTERM, &quit, NULL) || sigaction(SIGINT, &quit, NULL) ||
	    sigaction(SIGPIPE, &ignore, NULL))
		return -errno;
	return 0;
}

static int usage(void)
{
	fputs("usage: pollux-xen --adopt NAME|DOMID --run-dir DIR\n"
	      "       pollux-xen --standby|--create --config FILE --run-dir DIR\n",
	      stderr);
	return -EINVAL;
}

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	static const struct option options[] = {
		{ "adopt", required_argument, NULL, 'a' },
		{ "standby", no_argument, NULL, 's' },
		{ "create", no_argument, NULL, 'n' },
		{ "config", required_argument, NULL, 'c' },
		{ "run-dir", required_argument, NULL, 'r' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'a':
			ret->adopt = optarg;
			break;
		case 's':
			ret->standby = true;
			break;
		case 'n':
			ret->create = true;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 'r':
			ret->run_dir = optarg;
			break;
		default:
			return usage();
		}
	}
	if (optind < argc || !ret->run_dir || !!ret->adopt + ret->standby + ret->create != 1 ||
	    !ret->config != !!ret->adopt)
		return usage();
	return 0;
}

/* --- the loop ---------------------------------------------------------------------------- */

static void drain(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

/* False: it is over. One that has ended and that others look after is there until these take it
 * away; that they do is seen by our end. */
static bool go_on(struct xen_domain *d)
{
	bool destroy, stopped, others, taken_away;

	pthread_mutex_lock(&d->lock);
	destroy = d->destroy;
	stopped = d->state == CONTROL_STOPPED;
	others = !d->own && d->reason != CONTROL_DESTROY;
	taken_away = d->taken_away;
	pthread_mutex_unlock(&d->lock);
	if (destroy || !stopped)
		return !destroy;
	return others ? !taken_away : xen_domain_watched(d);
}

static int run_loop(struct xen_domain *d)
{
	struct pollfd fds[] = {
		{ .fd = xs_fileno(d->xs), .events = POLLIN },
		{ .fd = d->wake_fd, .events = POLLIN },
		{ .fd = quit_fd, .events = POLLIN },
	};

	while (go_on(d)) {
		if (poll(fds, ARRAY_SIZE(fds), LOOK_MS) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents & POLLIN)
			break;
		if (fds[1].revents & POLLIN)
			drain(d->wake_fd);
		if (fds[0].revents & POLLIN) {
			char **event = xs_check_watch(d->xs);

			free(event);
		}
		xen_domain_look(d);
	}
	return 0;
}

/* What is left of a domain that has ended is cleared away by whoever looks after it: the xl that
 * made it, or we. */
static void finish(struct xen_domain *d, struct xen_standby *standby)
{
	static const char *const names[] = { "poweroff", "reboot", "crash", "destroy" };
	bool ran = !standby || xen_standby_ran(standby);
	bool stopped = d->state == CONTROL_STOPPED;

	if (stopped)
		log_notice("event=domain_ended reason=%s", names[d->reason]);
	if (ran && (d->destroy || (stopped && d->own)) && xen_domain_destroy(d))
		log_error("event=destroy_failed domid=%u", d->domid);
	log_notice("event=companion_ended domain=%s", d->destroy || !ran ? "destroyed"
						      : stopped		 ? "ended"
									 : "left");
}

/* --- begin and end ----------------------------------------------------------------------- */

static int watch(void *opaque, int event_fd)
{
	struct xen_ops *o = opaque;

	return xen_domain_watch(o->domain, event_fd);
}

static void unwatch(void *opaque, int event_fd)
{
	struct xen_ops *o = opaque;

	xen_domain_unwatch(o->domain, event_fd);
}

static void state(void *opaque, uint32_t *ret_state, uint32_t *ret_reason)
{
	struct xen_ops *o = opaque;
	struct xen_info info;

	xen_domain_info(o->domain, &info);
	*ret_state = info.state;
	*ret_reason = info.reason;
}

static int open_domain(const struct arguments *args, struct xen_ops *o, struct reason *why)
{
	int err = xen_domain_open(o->domain, why);

	if (err)
		return err;
	if (mkdir(args->run_dir, 0711) && errno != EEXIST)
		return reason_set(why, errno, "%s: %s", args->run_dir, strerror(errno));
	/* Before it is looked at, so that no end is missed. */
	if (!xs_watch(o->domain->xs, "@releaseDomain", "end"))
		return reason_set(why, errno, "xenstore cannot be watched: %s", strerror(errno));
	if (args->standby)
		return xen_standby_open(o->domain, args->config, &o->standby, why);
	if (args->create)
		return xen_create(o->domain, args->config, why);
	return xen_domain_adopt(o->domain, args->adopt, why);
}

static int serve(const struct arguments *args, struct xen_ops *o, struct reason *why)
{
	const struct control_server_config config = {
		.run_dir = args->run_dir,
		.opaque = o,
		.execute = xen_ops_execute,
		.watch = watch,
		.unwatch = unwatch,
		.state = state,
	};
	struct control_server *server = NULL;
	int err = control_server_open(&config, &server, why);

	if (!err)
		err = control_server_start(server);
	if (!err)
		err = run_loop(o->domain);
	control_server_close(server);
	return err;
}

static int run(const struct arguments *args, struct reason *why)
{
	struct xen_domain domain = { 0 };
	struct xen_ops ops = { .domain = &domain };
	const char *event = args->standby  ? "vm_standby"
			    : args->create ? "vm_started"
					   : "vm_adopted";
	char tag[XEN_NAME_MAX + 32];
	int err = open_domain(args, &ops, why);

	if (err)
		goto out;
	snprintf(tag, sizeof(tag), "vm=%s domid=%u", domain.about.name, domain.domid);
	log_tag(tag);
	log_notice("event=%s memory_mib=%llu vcpus=%u", event,
		   (unsigned long long)domain.about.memory_mib, domain.about.nr_vcpus);
	err = serve(args, &ops, why);
	finish(&domain, ops.standby);
out:
	xen_standby_close(ops.standby);
	xen_domain_close(&domain);
	return err;
}

int main(int argc, char **argv)
{
	struct arguments args = { 0 };
	struct reason why = { 0 };
	int err;

	log_open("pollux-xen");
	if (fault_open() || parse_arguments(argc, argv, &args))
		return EXIT_USAGE;
	err = take_signals();
	if (!err)
		err = run(&args, &why);
	if (err) {
		log_error("event=companion_failed reason=\"%s\"",
			  why.text[0] ? why.text : strerror(-err));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
