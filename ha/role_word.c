/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What role.h and record.h tell people: the names of states, roles and reasons, and the one
 * word of P5. The texts are stable: status, events, metrics and tests rely on them. Pure.
 */
#include "ha/role.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static const char *const states[ROLE_NR_STATES] = {
	[ROLE_STARTING] = "starting",	[ROLE_SOLO] = "solo",
	[ROLE_COPYING] = "copying",	[ROLE_ARMING] = "arming",
	[ROLE_PROTECTED] = "protected", [ROLE_STALLED] = "stalled",
	[ROLE_SWITCHING] = "switching", [ROLE_FENCED] = "fenced",
	[ROLE_WAITING] = "waiting",	[ROLE_FILLING] = "filling",
	[ROLE_ARMED] = "armed",		[ROLE_TAKING_OVER] = "taking-over",
	[ROLE_ACTIVE] = "active",	[ROLE_HANDED_OVER] = "handed-over",
	[ROLE_GONE] = "gone",
};

static const struct {
	const char *name, *text;
} whys[ROLE_NR_WHYS] = {
	[ROLE_WHY_NONE] = { "none", "" },
	[ROLE_WHY_NO_BACKUP] = { "no-backup", "no backup" },
	[ROLE_WHY_RESTARTED] = { "restarted", "engine restarted" },
	[ROLE_WHY_BACKUP_LOST] = { "backup-lost", "backup lost" },
	[ROLE_WHY_BACKUP_RETURNED] = { "backup-returned", "backup returned" },
	[ROLE_WHY_DISK_ERROR] = { "disk-error", "disk error" },
	[ROLE_WHY_NO_SPACE] = { "no-space", "no space" },
	[ROLE_WHY_LOCAL_ERROR] = { "local-error", "engine error" },
	[ROLE_WHY_RECORD] = { "record", "record cannot be written" },
	[ROLE_WHY_OPERATOR] = { "operator", "operator" },
	[ROLE_WHY_FORCED] = { "forced", "forced by the operator" },
	[ROLE_WHY_FAILOVER] = { "failover", "failover" },
	[ROLE_WHY_SILENCE] = { "silence", "primary silent" },
	[ROLE_WHY_SUPERSEDED] = { "superseded", "superseded" },
	[ROLE_WHY_SWITCHOVER] = { "switchover", "switchover" },
};

const char *record_role_name(enum record_role role)
{
	switch (role) {
	case RECORD_NONE:
		return "none";
	case RECORD_ACTIVE:
		return "active";
	case RECORD_PRIMARY:
		return "primary";
	case RECORD_BACKUP:
		return "backup";
	case RECORD_STOPPED:
		return "stopped";
	}
	return "unknown";
}

const char *role_state_name(enum role_state state)
{
	return state < ROLE_NR_STATES ? states[state] : "unknown";
}

const char *role_why_name(enum role_why why)
{
	return why < ROLE_NR_WHYS ? whys[why].name : "unknown";
}

enum role_why role_why_parse(const char *name)
{
	for (unsigned int i = 0; i < ROLE_NR_WHYS; i++)
		if (!strcmp(whys[i].name, name))
			return (enum role_why)i;
	return ROLE_WHY_NONE;
}

static void solo_text(const struct role *role, struct role_word *ret)
{
	const char *text = whys[role->why].text;

	if (role->held) {
		snprintf(ret->text, sizeof(ret->text),
			 "not protected: stalled until it has a backup: %s", text);
		return;
	}
	switch (role->why) {
	case ROLE_WHY_DISK_ERROR:
	case ROLE_WHY_NO_SPACE:
	case ROLE_WHY_LOCAL_ERROR:
	case ROLE_WHY_BACKUP_RETURNED:
		snprintf(ret->text, sizeof(ret->text), "not protected: handed over: %s", text);
		break;
	case ROLE_WHY_OPERATOR:
		snprintf(ret->text, sizeof(ret->text), "not protected: unprotected by the %s",
			 text);
		break;
	case ROLE_WHY_NONE:
	case ROLE_WHY_NO_BACKUP:
	case ROLE_WHY_RESTARTED:
	case ROLE_WHY_BACKUP_LOST:
	case ROLE_WHY_RECORD:
	case ROLE_WHY_FORCED:
	case ROLE_WHY_FAILOVER:
	case ROLE_WHY_SILENCE:
	case ROLE_WHY_SUPERSEDED:
	case ROLE_WHY_SWITCHOVER:
	case ROLE_NR_WHYS:
		snprintf(ret->text, sizeof(ret->text), "not protected: %s", text);
		break;
	}
}

/* "protected" needs evidence: an epoch that the backup has, not older than the bound. */
static void evidence_text(const struct role *role, struct role_word *ret)
{
	ret->protected = (role->state == ROLE_PROTECTED || role->state == ROLE_SWITCHING ||
			  role->state == ROLE_ARMED) &&
			 role->connected && ret->age_ns <= role->config.evidence_ns;
	if (ret->protected)
		snprintf(ret->text, sizeof(ret->text), "protected");
	else if (ret->age_ns == UINT64_MAX)
		snprintf(ret->text, sizeof(ret->text), "not protected: stalled: %s",
			 whys[role->why].text);
	else
		snprintf(ret->text, sizeof(ret->text),
			 "not protected: stalled: no acknowledgement for %" PRIu64 " ms",
			 ret->age_ns / NS_PER_MS);
}

void role_word(const struct role *role, uint64_t now_ns, struct role_word *ret)
{
	const char *fixed = NULL;

	*ret = (struct role_word){ .age_ns = UINT64_MAX };
	if (role->acked)
		ret->age_ns = now_ns - role->acked_captured_ns;
	if (role->state == ROLE_TAKING_OVER && role->failing) {
		snprintf(ret->text, sizeof(ret->text),
			 "not protected: the takeover fails and is tried again: %s",
			 whys[role->failing_why].text);
		return;
	}
	switch (role->state) {
	case ROLE_SOLO:
		solo_text(role, ret);
		return;
	case ROLE_PROTECTED:
	case ROLE_STALLED:
	case ROLE_SWITCHING:
	case ROLE_ARMED:
		evidence_text(role, ret);
		return;
	case ROLE_FENCED:
		snprintf(ret->text, sizeof(ret->text),
			 "not protected: stopped: generation %" PRIu64 " runs elsewhere",
			 role->own.generation);
		return;
	case ROLE_STARTING:
	case ROLE_COPYING:
	case ROLE_TAKING_OVER:
		fixed = role->state == ROLE_TAKING_OVER ? "taking over" : states[role->state];
		break;
	case ROLE_ARMING:
		fixed = "copying: awaiting the first epoch";
		break;
	case ROLE_WAITING:
	case ROLE_FILLING:
		fixed = "copying";
		break;
	case ROLE_ACTIVE:
		fixed = "took over: no backup";
		break;
	case ROLE_HANDED_OVER:
	case ROLE_GONE:
		snprintf(ret->text, sizeof(ret->text), "not protected: handed over: %s",
			 whys[role->why].text);
		return;
	case ROLE_NR_STATES:
		fixed = "unknown";
		break;
	}
	snprintf(ret->text, sizeof(ret->text), "not protected: %s", fixed);
}
