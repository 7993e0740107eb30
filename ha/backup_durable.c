/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/backup.h"

#include "base/fault.h"
#include "disk-replica/apply.h"
#include "ha/assemble.h"
#include "ha/commit.h"
#include "ha/durable.h"
#include "ha/link.h"

/* What is durable, as often as we are asked for a sign of life, if it has changed. */
void backup_say_durable(struct engine *e)
{
	struct backup *b = e->side;
	struct role_event ev = { .kind = ROLE_EV_LOCAL_FAILURE, .why = ROLE_WHY_DISK_ERROR };
	struct message m = { .type = PROTO_DURABLE, .generation = e->role.own.generation };
	struct durable_mark mark = { 0 }, done;
	uint64_t arrived;

	if (!b->durable || !b->tells_durable || !b->assembler || !b->apply)
		return;
	mark.epoch = commit_last(b->commit, &arrived);
	mark.ops = assemble_disk_ops(b->assembler);
	mark.bytes = apply_bytes(b->apply);
	durable_news(b->durable, &mark);
	if (durable_error(b->durable)) {
		engine_event(e, "failed", "the standby's disks cannot be synced: %s",
			     strerror(-durable_error(b->durable)));
		engine_feed(e, &ev);
	} else if (durable_progress(b->durable, &done) && b->link && !fault_at("durable.report")) {
		m.durable = (struct proto_durable){ done.epoch, done.ops };
		if (fault_at("durable.ahead"))
			m.durable.epoch += 1000;
		link_send(b->link, &m);
	}
}
