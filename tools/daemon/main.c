/* SPDX-License-Identifier: Apache-2.0 */
/* polluxd: options, configuration, the loop. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "tools/common/version.h"
#include "tools/daemon/audit.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/events.h"
#include "tools/daemon/hooks.h"
#include "tools/daemon/http.h"
#include "tools/daemon/kept.h"
#include "tools/daemon/door.h"
#include "tools/daemon/paths.h"
#include "tools/daemon/peers.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/watch.h"
#include "tools/daemon/worker.h"

#define JOIN_NS (20 * NS_PER_S)

void daemon_wake(struct daemon *d)
{
	uint64_t one = 1;

	if (write(d->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is already raised as high as it goes */
}

static void look(struct daemon *d)
{
	watch_all(d);
	door_look(d->door);
	hooks_wake(d->hooks);
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	uint64_t n;

	(void)source, (void)revents;
	if (read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		look(user);
	return 0;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
	int r;

	(void)usec;
	look(user);
	r = sd_event_source_set_time_relative(source, WATCH_EVERY_NS / NS_PER_US);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	struct daemon *d = user;

	(void)source;
	log_notice("signal=%u the VMs and their protection go on without polluxd", info->ssi_signo);
	return sd_event_exit(d->loop, 0);
}

static int open_loop(struct daemon *d, struct reason *why)
{
	sigset_t set;
	int r = sd_event_new(&d->loop);

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	/* Every thread inherits this mask: the loop alone hears them. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Children outlive us, and nobody asks how they ended: pidfds and logs say enough. */
	signal(SIGCHLD, SIG_IGN);
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!r && d->wake_fd < 0)
		r = -errno;
	if (!r)
		r = sd_event_add_io(d->loop, NULL, d->wake_fd, EPOLLIN, on_wake, d);
	if (r >= 0)
		r = sd_event_add_signal(d->loop, NULL, SIGTERM, on_signal, d);
	if (r >= 0)
		r = sd_event_add_signal(d->loop, NULL, SIGINT, on_signal, d);
	if (r >= 0)
		r = sd_event_add_time_relative(d->loop, NULL, CLOCK_MONOTONIC, 0, 10000, on_tick,
					       d);
	if (r >= 0)
		r = sd_event_set_watchdog(d->loop, true); /* if systemd asks for it */
	return r < 0 ? reason_set(why, -r, "event loop: %s", strerror(-r)) : 0;
}

static int open_doors(struct daemon *d, struct reason *why)
{
	int r = door_open(d, &d->door, why);

	if (!r)
		r = peers_open(d, &d->peers, why);
	if (!r)
		r = http_open(d, &d->http, why);
	return r;
}

static void close_all(struct daemon *d)
{
	http_close(d->http);
	peers_close(d->peers);
	worker_join_all(d, clock_now_ns() + JOIN_NS);
	door_close(d->door);
	for (struct vm *vm = d->vms, *next; vm; vm = next) {
		next = vm->next;
		watch_stop(vm);
		vm_free(vm);
	}
	kept_drop_all(d);
	hooks_close(d->hooks);
	audit_close(d->audit);
	events_close(d->events);
	sd_event_unref(d->loop);
	close(d->wake_fd);
}

static void usage(FILE *to)
{
	fprintf(to, "usage: polluxd [--config FILE] [--check]\n"
		    "  --config FILE  default " CONF_FILE "\n"
		    "  --check        read the configuration, say what is wrong with it, end\n"
		    "  --version\n");
}

static int read_options(int argc, char **argv, const char **ret_file, bool *ret_check)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (o) {
		case 'c':
			*ret_file = optarg;
			break;
		case 'k':
			*ret_check = true;
			break;
		case 'v':
			puts("polluxd " POLLUX_VERSION);
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			return -EINVAL;
		}
	}
	if (optind == argc)
		return 0;
	usage(stderr);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	static struct daemon d = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake_fd = -1 };
	const char *file = getenv("POLLUX_CONF") ?: CONF_FILE;
	pthread_condattr_t attr;
	struct reason why;
	bool check = false;
	int r;

	if (read_options(argc, argv, &file, &check) < 0)
		return 2;
	log_open("polluxd");
	if (fault_open() < 0 || conf_read(file, &d.conf, &why) < 0) {
		log_error("%s", fault_armed ? "POLLUX_FAULT is malformed" : why.text);
		return 1;
	}
	if (check)
		return 0;
	/* pollux-ha finds the VMs' control sockets by it. */
	setenv("POLLUX_RUN_DIR", d.conf.run_dir, 1);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d.idle, &attr);
	r = paths_make(&d.conf, &why);
	if (!r)
		r = open_loop(&d, &why);
	if (!r && (events_open(&d, &d.events) < 0 || audit_open(&d, &d.audit) < 0 ||
		   hooks_open(&d, &d.hooks) < 0))
		r = reason_set(&why, ENOMEM, "out of memory");
	if (!r)
		vm_adopt_all(&d);
	if (!r)
		r = open_doors(&d, &why);
	if (r < 0) {
		log_error("%s", why.text);
		return 1;
	}
	log_notice("host=%s version=" POLLUX_VERSION " vms=%u ready", d.conf.name, d.nr_vms);
	sd_notify(0, "READY=1");
	r = sd_event_loop(d.loop);
	sd_notify(0, "STOPPING=1");
	close_all(&d);
	return r < 0;
}
