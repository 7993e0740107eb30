/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/standby.h"

#include <fcntl.h>
#include <stdio.h>
#include <xenstore.h>

#include "base/log.h"
#include "hypervisor/xen/domain.h"
#include "hypervisor/xen/host.h"
#include "hypervisor/xen/journal.h"
#include "hypervisor/xen/refuse.h"
#include "hypervisor/xen/stream.h"

enum phase {
	WAITING, /* libxl waits in the stream */
	BUILT,	 /* the domain is whole, and paused */
	RUNS,
	FAILED,
};

struct xen_standby {
	struct xen_domain *d;
	libxl_domain_config config; /* the thread's, while it restores */
	pthread_t thread;
	bool started;
	int read_fd; /* the thread closes it: then a writer gets -EPIPE */
	char mark[80];
	bool up[XEN_VCPUS_MAX]; /* processors that the state has */
	uint32_t made; /* the thread's, until it has ended: the domain that libxl has made */
	int rc;	       /* likewise */

	pthread_mutex_t lock; /* before the domain's */
	pthread_cond_t ending;
	int write_fd; /* -1: the stream is at its end */
	bool ended;   /* the thread, all but its return */
	enum phase phase;
};

/* --- the thread that restores ------------------------------------------------------------ */

static void *restore_thread(void *arg)
{
	struct xen_standby *s = arg;
	libxl_domain_restore_params params;
	bool early;

	pthread_setname_np(pthread_self(), "restore");
	libxl_domain_restore_params_init(&params);
	params.stream_version = 2;
	s->rc = libxl_domain_create_restore(s->d->ctx, &s->config, &s->made, s->read_fd, -1,
					    &params, NULL, NULL);
	libxl_domain_restore_params_dispose(&params);
	pthread_mutex_lock(&s->lock);
	close(s->read_fd);
	s->read_fd = -1;
	s->ended = true;
	early = s->write_fd >= 0;
	pthread_cond_broadcast(&s->ending);
	pthread_mutex_unlock(&s->lock);
	if (early)
		xen_domain_ended(s->d, CONTROL_DESTROY);
	xen_domain_wake(s->d);
	return NULL;
}

/* The lock held. */
static void end_stream(struct xen_standby *s)
{
	err_close_fd(&s->write_fd);
	s->write_fd = -1;
}

/* --- the mark ---------------------------------------------------------------------------- */

static int set_mark(struct xen_standby *s, struct reason *why)
{
	if (xs_write(s->d->xs, XBT_NULL, s->mark, "1", 1))
		return 0;
	return reason_set(why, errno, "%s in xenstore: %s", s->mark, strerror(errno));
}

static bool has_mark(struct xen_standby *s)
{
	unsigned int len;
	void *value = xs_read(s->d->xs, XBT_NULL, s->mark, &len);

	if (!value)
		return false;
	free(value);
	return true;
}

static void clear_mark(struct xen_standby *s)
{
	xs_rm(s->d->xs, XBT_NULL, s->mark);
}

/* What a process that was killed has left half made goes; any other domain stays. */
static int clear_way(struct xen_standby *s, struct reason *why)
{
	struct xen_domain *d = s->d;
	uint32_t domid;
	int err = xen_domain_find(d, d->about.uuid, &domid);

	if (!err) {
		if (!has_mark(s))
			return reason_set(why, EEXIST, "domain %u here has the same uuid", domid);
		log_notice("event=standby_left domid=%u", domid);
		if (libxl_domain_destroy(d->ctx, domid, NULL))
			return reason_set(why, EBUSY, "a standby left behind, domain %u, stays",
					  domid);
	} else if (err != -ESRCH) {
		return reason_set(why, -err, "the domains here are not known: %s", strerror(-err));
	}
	if (!libxl_name_to_domid(d->ctx, d->about.name, &domid))
		return reason_set(why, EEXIST, "domain %u here is called %s too", domid,
				  d->about.name);
	return 0;
}

/* --- open -------------------------------------------------------------------------------- */

/* What polluxd has looked at is what libxl is going to build. */
static int compare_disks(struct xen_standby *s, struct reason *why)
{
	const struct xen_description *about = &s->d->about;
	bool same = s->config.num_disks == (int)about->nr_disks;

	for (uint32_t i = 0; i < about->nr_disks && same; i++)
		same = s->config.disks[i].pdev_path &&
		       !strcmp(s->config.disks[i].pdev_path, about->disk[i].path) &&
		       !s->config.disks[i].readwrite == about->disk[i].readonly;
	return same ? 0
		    : reason_set(why, EINVAL,
				 "its disks are not those of libxl's "
				 "configuration");
}

static int read_config(struct xen_standby *s, struct reason *why)
{
	struct xen_description *about = &s->d->about;
	int err;

	xen_journal_clear();
	if (libxl_domain_config_from_json(s->d->ctx, &s->config, about->libxl))
		return xen_domain_failed(why, "libxl does not know the domain's configuration");
	if (!s->config.c_info.name || strcmp(s->config.c_info.name, about->name) ||
	    memcmp(libxl_uuid_bytearray(&s->config.c_info.uuid), about->uuid, 16) ||
	    s->config.num_nics != (int)about->nr_nics)
		return reason_set(why, EINVAL,
				  "name, uuid and network cards are not those of libxl's "
				  "configuration");
	err = compare_disks(s, why);
	if (err)
		return err;
	s->config.c_info.domid = XEN_NO_DOMAIN;
	err = xen_refuse(&s->config, why);
	return err ? err : xen_host_check(s->d, &s->config, why);
}

static void set_mark_path(struct xen_standby *s)
{
	const uint8_t *u = s->d->about.uuid;
	int n = snprintf(s->mark, sizeof(s->mark), "/tool/pollux/standby/");

	for (int i = 0; i < 16; i++)
		n += snprintf(s->mark + n, sizeof(s->mark) - (size_t)n, "%02x", u[i]);
}

static int start_restore(struct xen_standby *s, struct reason *why)
{
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	s->read_fd = fds[0];
	s->write_fd = fds[1];
	if (fcntl(s->write_fd, F_SETPIPE_SZ, XEN_STREAM_PIPE_BYTES) != XEN_STREAM_PIPE_BYTES)
		return reason_set(why, EINVAL, "a pipe of %u bytes cannot be had",
				  XEN_STREAM_PIPE_BYTES);
	err = set_mark(s, why);
	if (err)
		return err;
	err = -pthread_create(&s->thread, NULL, restore_thread, s);
	s->started = !err;
	return err;
}

static int fill(struct xen_standby *s, struct reason *why)
{
	struct xen_domain *d = s->d;
	const struct xen_description *about = &d->about;
	uint32_t domid;
	int err;

	xen_journal_clear();
	err = start_restore(s, why);
	if (!err)
		err = xen_stream_open(s->write_fd, about);
	if (!err)
		err = xen_stream_allocate(s->write_fd, about->range, about->nr_ranges);
	if (!err)
		err = xen_stream_settle(s->write_fd, about->range[0].first);
	if (err == -EPIPE)
		return xen_domain_failed(why, "libxl does not restore the domain");
	if (!err)
		err = xen_domain_find(d, about->uuid, &domid);
	if (err)
		return why->text[0] ? err : reason_set(why, -err, "standby: %s", strerror(-err));
	pthread_mutex_lock(&d->lock);
	d->domid = domid;
	d->memory_pages = about->nr_pages;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

int xen_standby_open(struct xen_domain *d, const char *path, struct xen_standby **ret,
		     struct reason *why)
{
	struct xen_standby *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->d = d;
	s->read_fd = s->write_fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->ending, NULL);
	libxl_domain_config_init(&s->config);
	err = xen_description_read(path, &d->about, why);
	if (!err) {
		set_mark_path(s);
		err = read_config(s, why);
	}
	if (!err)
		err = clear_way(s, why);
	if (!err)
		err = fill(s, why);
	if (err) {
		xen_standby_close(s);
		return err;
	}
	*ret = s;
	return 0;
}

/* --- the takeover ------------------------------------------------------------------------ */

/* The lock held. */
static int build(struct xen_standby *s, const struct xen_state *state, struct reason *why)
{
	int err;

	for (uint32_t i = 0; i < XEN_VCPUS_MAX; i++)
		s->up[i] = xen_state_has_vcpu(state, i);

	xen_journal_clear();
	err = xen_stream_end(s->write_fd, state);
	end_stream(s);
	while (!s->ended)
		pthread_cond_wait(&s->ending, &s->lock);
	s->phase = err || s->rc ? FAILED : BUILT;
	return s->phase == FAILED ? xen_domain_failed(why, "libxl does not build the domain") : 0;
}

int xen_standby_load(struct xen_standby *s, const void *state, size_t len, struct reason *why)
{
	struct xen_state parsed;
	int err = xen_state_get(state, len, &parsed, why);

	if (err)
		return err;
	pthread_mutex_lock(&s->lock);
	if (s->phase != WAITING)
		err = reason_set(why, EBUSY, "a state is only loaded once, into a standby");
	else
		err = build(s, &parsed, why);
	pthread_mutex_unlock(&s->lock);
	if (err && err != -EBUSY)
		xen_domain_ended(s->d, CONTROL_DESTROY);
	return err;
}

/* The guest's part of xenstore. */
static void tell_guest(struct xen_domain *d, const char *node, const char *word)
{
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u/%s", d->domid, node);
	if (!xs_write(d->xs, XBT_NULL, path, word, (unsigned int)strlen(word)))
		log_warning("event=unmarked path=%s reason=\"%s\"", path, strerror(errno));
}

/* The guest said at its boot, on another host, that it can suspend, and does not say it again. */
static void repeat_offer(struct xen_domain *d)
{
	tell_guest(d, "control/feature-suspend", "1");
}

/* `xl vcpu-set` since it was described. An HVM guest has all of them (refuse.h). */
static void follow_vcpus(struct xen_standby *s)
{
	for (uint32_t i = 0; i < s->d->about.nr_vcpus; i++) {
		char node[32];

		snprintf(node, sizeof(node), "cpu/%u/availability", i);
		tell_guest(s->d, node, s->up[i] ? "online" : "offline");
	}
}

int xen_standby_run(struct xen_standby *s, struct reason *why)
{
	int err = 0;

	pthread_mutex_lock(&s->lock);
	if (s->phase != BUILT) {
		err = reason_set(why, EBUSY, "the standby has %s",
				 s->phase == WAITING ? "no state yet" : "ended");
	} else {
		xen_journal_clear();
		repeat_offer(s->d);
		follow_vcpus(s);
		xen_domain_set_own(s->d);
		clear_mark(s);
		if (libxl_domain_unpause(s->d->ctx, s->d->domid, NULL))
			err = xen_domain_failed(why, "the domain cannot be let run");
		else
			s->phase = RUNS;
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

bool xen_standby_ran(struct xen_standby *s)
{
	bool ran;

	pthread_mutex_lock(&s->lock);
	ran = s->phase == RUNS;
	pthread_mutex_unlock(&s->lock);
	return ran;
}

void xen_standby_close(struct xen_standby *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	end_stream(s); /* libxl fails if it waits there, and destroys what it has made */
	pthread_mutex_unlock(&s->lock);
	if (s->started)
		pthread_join(s->thread, NULL);
	if (s->phase == BUILT)
		xen_domain_destroy(s->d);
	if (s->started && s->phase != RUNS)
		clear_mark(s);
	err_close_fd(&s->read_fd);
	libxl_domain_config_dispose(&s->config);
	pthread_cond_destroy(&s->ending);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
