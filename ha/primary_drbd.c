/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks on DRBD, on the primary. Without a backup their changes pass: DRBD mirrors them. From
 * before the first epoch's boundary on they wait in pollux-vmm, and go to DRBD when their epoch
 * is acknowledged (settle.h): so DRBD has, on both hosts, nothing that a takeover would take
 * back (P2). Who moves the VM away lets go of DRBD before it says so.
 */
#include "ha/primary.h"

#include <time.h>

#include "base/clock.h"
#include "disk-replica/drbd.h"
#include "ha/link.h"
#include "ha/settle.h"

#define LIMIT_MIN    (UINT64_C(1) << 20) /* of what waits, a disk */
#define LET_GO_NS    (5 * NS_PER_S)	 /* until pollux-vmm has closed the devices */
#define LET_GO_AGAIN (20 * NS_PER_MS)

static unsigned int count(const struct primary *p)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < p->sources.nr_disks; i++)
		n += disk_is_drbd(&p->sources.named[i]);
	return n;
}

int primary_drbd_open(struct engine *e, struct reason *why)
{
	struct primary *p = e->side;
	unsigned int n = count(p);
	int r;

	if (!n)
		return 0;
	r = settler_open(e->settings.run_dir, MAX(e->settings.disk_ring_bytes / n, LIMIT_MIN),
			 &p->settler);
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
	m.settled.epoch = settler_settled(p->settler);
	if (p->link && p->deferral == DRBD_WAITS && m.settled.epoch > p->settled_told) {
		p->settled_told = m.settled.epoch;
		link_send(p->link, &m);
	}
	return 0;
}

/* What pollux-vmm had written goes to DRBD when it closes the device. Signs of life go out
 * meanwhile: the backup must not think that it has to do without our word. */
void primary_drbd_let_go(struct engine *e)
{
	struct primary *p = e->side;
	uint64_t deadline = clock_now_ns() + LET_GO_NS;
	struct reason why;

	if (p->settler)
		primary_bury(p);
	for (unsigned int i = 0; i < p->sources.nr_disks; i++) {
		const char *resource = drbd_resource(p->sources.named[i].path);

		while (resource && drbd_demote(resource, &why)) {
			primary_send_heartbeat(e);
			if (clock_now_ns() > deadline) {
				engine_event(e, "drbd-held", "%s", why.text);
				break;
			}
			nanosleep(&(struct timespec){ .tv_nsec = LET_GO_AGAIN }, NULL);
		}
		primary_send_heartbeat(e);
	}
}
