/* SPDX-License-Identifier: Apache-2.0 */
/* The primary when its VM runs here no more. */
#include "ha/primary.h"

#include "netbuf/netbuf.h"

/* Output first: whatever else fails, this VM is not heard again (P3). */
void primary_bury(struct primary *p)
{
	netbuf_drop(p->netbuf);
	p->platform.ops->destroy(&p->platform);
	p->ended = true;
}

/* A VM that was shut down needs no backup; its last words may go out. */
static void vm_ended(struct engine *e)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_OP_UNPROTECT };

	p->ended = true;
	engine_event(e, "vm-ended", "the VM was shut down or destroyed: protection ends");
	if (engine_feed(e, &ev) || !p->link)
		engine_finish(e);
}

/* Not shut down but gone, with its process. Who holds its last epoch goes on from there:
 * told so where that can be, else by our silence. To take leave would destroy it. */
static void vm_lost(struct engine *e)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_OP_FAILOVER };

	if (role_may_run_solo(&e->role)) {
		vm_ended(e);
		return;
	}
	primary_bury(p); /* what is left of it */
	engine_event(e, "vm-lost", "the VM's process is gone: the backup is to go on");
	if (engine_feed(e, &ev))
		engine_finish(e);
}

bool primary_look_at_vm(struct engine *e)
{
	struct primary *p = e->side;

	if (p->ended)
		return false;
	switch (p->platform.ops->look(&p->platform)) {
	case PLATFORM_RUNS:
		break;
	case PLATFORM_ENDED:
		vm_ended(e);
		break;
	case PLATFORM_LOST:
		vm_lost(e);
		break;
	}
	return !p->ended;
}
