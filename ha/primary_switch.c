/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switchover on the primary: the guest's last epoch here, its acknowledgement, and then either
 * the backup runs on exactly there, or nothing has changed. role.h decides which; the time the
 * guest stands still is bounded here and, after YIELD, by the backup (takeover.c).
 */
#include "ha/primary.h"

#include "base/blackbox.h"
#include "base/clock.h"
#include "ha/link.h"

void primary_switch_begin(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event last = { .kind = EPOCH_EV_LAST };

	p->told_ns = p->still_ns = 0;
	primary_epoch_feed(e, &last, clock_now_ns());
}

void primary_switch_still(struct engine *e, uint64_t epoch, uint64_t told_ns, uint64_t still_ns)
{
	struct primary *p = e->side;
	struct role_event ev = { .kind = ROLE_EV_LAST_EPOCH, .epoch = epoch };

	p->told_ns = told_ns;
	p->still_ns = still_ns;
	blackbox_record("last", epoch, 0);
	engine_feed(e, &ev);
}

void primary_switch_undo(struct engine *e)
{
	struct primary *p = e->side;
	struct epoch_event on = { .kind = EPOCH_EV_RUN_ON };

	engine_event(e, "switchover-undone",
		     p->told_ns ? "the last epoch was not acknowledged in time: the VM runs on here"
				: "no last epoch could be taken in time: the VM runs on here");
	p->told_ns = p->still_ns = 0;
	primary_epoch_feed(e, &on, clock_now_ns());
}

/* After a plain failover there is nothing to bound: the guest goes back to what was acknowledged.
 */
void primary_switch_yield(struct engine *e, enum role_why why)
{
	struct primary *p = e->side;
	const char *text = role_why_name(why);
	struct message m = {
		.type = PROTO_YIELD,
		.generation = e->role.own.generation,
		.yield = { .code = PROTO_LEAVING },
		.tail = text,
		.tail_len = (uint32_t)strlen(text),
	};

	if (!p->link)
		return;
	if (why == ROLE_WHY_SWITCHOVER) {
		m.yield.acked_ns = MIN(p->acked_ns - p->told_ns, PROTO_YIELD_NS_MAX);
		m.yield.still_ns = MIN(clock_now_ns() - p->still_ns, PROTO_YIELD_NS_MAX);
	}
	link_send(p->link, &m);
}
