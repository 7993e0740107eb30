/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on DRBD, on the primary. Without a backup their changes pass: DRBD mirrors them. From
 * before the first epoch's boundary on they wait in pollux-vmm, and go to DRBD when their epoch
 * is acknowledged (settle.h): so DRBD has, on both hosts, nothing that a takeover would take
 * back (P2). Who moves the VM away lets go of DRBD before it says so.
 */
#include "ha/primary.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "disk-replica/drbd.h"
#include "ha/link.h"
#include "ha/settle.h"

#define APART_TIMEOUTS 3u /* that the other host must be heard of while DRBD is not whole */
#define LIMIT_MIN      (UINT64_C(1) << 20) /* of what waits, a disk */
#define LET_GO_NS      (5 * NS_PER_S)	   /* until pollux-vmm has closed the devices */
#define LET_GO_AGAIN   (20 * NS_PER_MS)

struct letting_go {
	const struct primary *primary;
	struct reason why; /* the thread's, until it is done, as is: */
	int error;
	bool done; /* atomic */
};

int primary_drbd_open(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	struct settler_config config = { .run_dir = e->settings.run_dir };
	int r = 0;

	for (unsigned int i = 0; !r && i < p->sources.nr_disks; i++) {
		const char *resource = drbd_resource(p->sources.named[i].path);

		if (resource)
			r = drbd_minor(resource, &config.minor[config.nr++], why);
	}
	if (r || !config.nr)
		return r;
	config.limit_bytes = MAX(e->settings.disk_ring_bytes / config.nr, LIMIT_MIN);
	r = settler_open(&config, &p->settler);
	return r ? reason_set(why, -r, "the thread that settles: %s", strerror(-r)) : 0;
}

void primary_drbd_close(struct engine *e)
{
	struct primary *p = e->side;

	primary_drbd_go_plain(e);
	settler_close(p->settler);
	p->settler = NULL;
}

void primary_drbd_go_plain(struct engine *e)
{
	struct primary *p = e->side;

	if (!p->settler || p->deferral == DRBD_PASSES || p->link || !role_may_run_solo(&e->role))
		return;
	p->deferral = DRBD_PASSES;
	settler_hold(p->settler, false);
}

bool primary_drbd_passes(struct engine *e)
{
	struct primary *p = e->side;

	return !p->settler || (p->deferral == DRBD_PASSES && settler_is_done(p->settler));
}

bool primary_drbd_hold(struct engine *e)
{
	struct primary *p = e->side;

	if (!p->settler)
		return true;
	if (p->deferral != DRBD_WAITS) {
		p->deferral = DRBD_WAITS;
		p->settled_told = 0;
		p->drbd_apart = false;
		settler_hold(p->settler, true);
	}
	return settler_is_done(p->settler);
}

void primary_drbd_acked(struct engine *e, uint64_t epoch)
{
	struct primary *p = e->side;

	if (p->settler && p->deferral == DRBD_WAITS)
		settler_allow(p->settler, epoch, p->position[epoch % EPOCH_MAX_IN_FLIGHT]);
}

/* The backup goes on from what it keeps; but not for ever, and not while DRBD copies to it. */
static void look_at_drbd(struct engine *e)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR };
	struct reason why;

	if (p->drbd_apart || !p->link || e->role.state != ROLE_PROTECTED ||
	    settler_apart_ns(p->settler, &why) < APART_TIMEOUTS * e->settings.timeout_ns)
		return;
	p->drbd_apart = true;
	engine_event(e, "drbd-apart", "%s: protection ends", why.text);
	engine_feed(e, &ev);
}

/* DRBD goes on with the other host's disk alone, and so does the guest: until that is lost. */
static void look_at_own(struct engine *e)
{
	struct primary *p = e->side;
	struct reason why;
	bool bare = settler_is_bare(p->settler, &why);

	if (bare && !p->drbd_bare)
		engine_event(e, "drbd-bare", "%s: the VM's data are on the other host alone",
			     why.text);
	p->drbd_bare = bare;
}

int primary_drbd_tick(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	struct message m = { .type = PROTO_SETTLED, .generation = e->role.own.generation };
	int r;

	if (!p->settler || p->ended || p->drbd_failed)
		return 0;
	r = settler_error(p->settler, why);
	p->drbd_failed = r != 0;
	if (r)
		return r;
	look_at_drbd(e);
	look_at_own(e);
	m.settled.epoch = settler_settled(p->settler);
	if (p->link && p->deferral == DRBD_WAITS && m.settled.epoch > p->settled_told) {
		p->settled_told = m.settled.epoch;
		link_send(p->link, &m);
	}
	return 0;
}

/* What pollux-vmm had written goes to DRBD when it closes the device. */
static void *let_go(void *opaque)
{
	struct letting_go *l = opaque;
	const struct sources *s = &l->primary->sources;
	uint64_t deadline = clock_now_ns() + LET_GO_NS;

	for (unsigned int i = 0; i < s->nr_disks; i++) {
		const char *resource = drbd_resource(s->named[i].path);

		while (resource && (l->error = drbd_demote(resource, &l->why)) &&
		       clock_now_ns() < deadline)
			nanosleep(&(struct timespec){ .tv_nsec = LET_GO_AGAIN }, NULL);
	}
	__atomic_store_n(&l->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Signs of life go out meanwhile: else the backup would not wait for our word, and cut DRBD's
 * connection while this host is its primary: a split brain. */
void primary_drbd_let_go(struct engine *e)
{
	struct primary *p = e->side;
	struct letting_go l = { .primary = p };
	pthread_t thread;

	if (!p->settler)
		return;
	primary_bury(p);
	if (pthread_create(&thread, NULL, let_go, &l)) {
		let_go(&l);
		return;
	}
	while (!__atomic_load_n(&l.done, __ATOMIC_ACQUIRE)) {
		primary_send_heartbeat(e);
		nanosleep(&(struct timespec){ .tv_nsec = LET_GO_AGAIN }, NULL);
	}
	pthread_join(thread, NULL);
	if (l.error)
		engine_event(e, "drbd-held", "%s", l.why.text);
}
