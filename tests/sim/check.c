/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h: the promises, as the client and an all-knowing observer see them.
 *
 * P1: no output is ever contradicted: what a client has seen is in the history of whoever runs
 *     the VM later. P2: what a takeover runs is exactly one boundary. P3: an instance that was
 *     taken over from never emits again; and at no instant two hosts hold the solo right.
 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>

void check_fail(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (w->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w->violation, sizeof(w->violation), fmt, ap);
	va_end(ap);
	world_trace(w, "VIOLATION %s", w->violation);
}

void check_emit(struct world *w, struct host *h, const struct output *out)
{
	uint64_t *seen = &w->seen[out->n % SIM_OUTPUTS];

	if (h->guest.instance != w->newest_instance)
		check_fail(w, "P3: %c emits output %lu of instance %lu, but %lu runs", 'A' + h->id,
			   (unsigned long)out->n, (unsigned long)h->guest.instance,
			   (unsigned long)w->newest_instance);
	if (*seen && *seen != out->state)
		check_fail(w, "P1: %c emits output %lu anew and different", 'A' + h->id,
			   (unsigned long)out->n);
	*seen = out->state;
	w->max_seen = MAX(w->max_seen, out->n);
	w->last_seen_ns = w->now;
}

void check_takeover(struct world *w, const struct snapshot parts[static SIM_PARTS])
{
	const struct snapshot *first = &parts[0];
	const struct snapshot *real = &w->boundary[first->epoch % ARRAY_SIZE(w->boundary)];

	for (unsigned int i = 1; i < SIM_PARTS; i++)
		if (memcmp(first, &parts[i], sizeof(*first)))
			check_fail(w, "P2: takeover mixes epochs %lu and %lu",
				   (unsigned long)first->epoch, (unsigned long)parts[i].epoch);
	if (!first->epoch || memcmp(first, real, sizeof(*first)))
		check_fail(w, "P2: takeover from what was no boundary (epoch %lu)",
			   (unsigned long)first->epoch);
	if (first->instance != w->newest_instance)
		check_fail(w, "P3: takeover of instance %lu, but %lu runs",
			   (unsigned long)first->instance, (unsigned long)w->newest_instance);
	if (first->instance == w->left_instance && first->n != w->left_n)
		check_fail(w, "switchover: output %lu was the last, the takeover knows %lu",
			   (unsigned long)w->left_n, (unsigned long)first->n);
	if (w->max_seen > first->n)
		check_fail(w, "P1: output %lu was seen, the takeover knows %lu",
			   (unsigned long)w->max_seen, (unsigned long)first->n);
	world_trace(w, "takeover at epoch %lu, output %lu", (unsigned long)first->epoch,
		    (unsigned long)first->n);
}

static bool has_right(const struct host *h)
{
	if (!h->alive)
		return false;
	if (h->guest.exists && !h->guest.hold)
		return true;
	return h->process != PROC_NONE &&
	       (role_may_run_solo(&h->role) || h->role.state == ROLE_ARMED ||
		h->role.state == ROLE_TAKING_OVER);
}

void check_rights(struct world *w)
{
	if (has_right(&w->hosts[0]) && has_right(&w->hosts[1]))
		check_fail(w, "P3: both hosts hold the solo right (A %s, B %s)",
			   role_state_name(w->hosts[0].role.state),
			   role_state_name(w->hosts[1].role.state));
}

/* After all faults have healed: a VM that exists runs, and is protected; and it exists unless
 * what was lost was more than one host. */
void check_end(struct world *w)
{
	struct host *runs = NULL;
	struct role_word word;

	for (int i = 0; i < 2; i++)
		if (w->hosts[i].guest.exists)
			runs = &w->hosts[i];
	if (!runs) {
		if (!w->lost_allowed)
			check_fail(w, "liveness: the VM is lost after %u faults", w->nr_faults);
		return;
	}
	if (runs->guest.instance != w->newest_instance)
		return; /* outdated, and stopped as soon as it is protected again: it cannot emit */
	role_word(&runs->role, host_now(w, runs), &word);
	if (w->now - w->last_seen_ns > 200 * NS_PER_MS)
		check_fail(w, "liveness: %c emits nothing (%s)", 'A' + runs->id, word.text);
	else if (!word.protected)
		check_fail(w, "liveness: %c is healed and %s", 'A' + runs->id, word.text);
}
