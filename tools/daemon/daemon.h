/* SPDX-License-Identifier: Apache-2.0 */
/*
 * polluxd: one per host. It starts what serves VMs, and pollux-ha, as detached processes, finds
 * them again after a restart of its own, and answers the command line, other hosts'
 * polluxd and HTTP. It holds no state that a restart loses and a VM needs.
 *
 * Threads. The loop (sd-event) owns descriptors and timers and never blocks. Whatever can
 * wait (starting a VM, asking pollux-ha, a peer) runs in a worker: worker.h. HTTP has
 * a thread of libmicrohttpd's. All shared state lies behind one lock, `daemon.lock`, held
 * for table work only, never over a wait. Order of locks: daemon.lock, then that of the events.
 */
#ifndef POLLUX_DAEMON_H
#define POLLUX_DAEMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "tools/common/conf.h"

#define DAEMON_MAX_VMS 256u

struct audit;
struct events;
struct door;
struct peers;
struct hooks;
struct http;
struct kept;
struct vm;
struct worker;
struct tls_context;

struct daemon {
	struct conf conf; /* never changes once the loop runs */
	sd_event *loop;
	int wake_fd; /* eventfd: the loop looks at all VMs again */
	struct events *events;
	struct audit *audit;
	struct hooks *hooks;
	struct door *door;
	struct peers *peers;
	struct http *http;
	struct tls_context *tls;     /* NULL without a listener and without [tls] */
	int64_t certificate_expires; /* of the one in use, seconds since 1970; 0: there is none */

	pthread_mutex_t
		lock; /* guards what follows, and what vm.h, kept.h, events.h, worker.h say */
	pthread_cond_t idle; /* a name is no longer busy, a worker has ended */
	struct vm *vms;
	unsigned int nr_vms;
	struct kept *kept;
	struct worker *workers;
	unsigned int nr_workers;
	bool stopping;
};

static inline void daemon_lock(struct daemon *d)
{
	pthread_mutex_lock(&d->lock);
}

static inline void daemon_unlock(struct daemon *d)
{
	pthread_mutex_unlock(&d->lock);
}

/* The loop looks at all VMs again, soon. Any thread. */
void daemon_wake(struct daemon *d);

#endif
