/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/drbd.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "disk-replica/command.h"

#define OUTPUT_MAX 4096u

bool drbd_name_ok(const char *resource)
{
	size_t len = strlen(resource);

	if (!len || len >= DRBD_NAME_MAX || resource[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)resource[i]) && !strchr("._-", resource[i]))
			return false;
	}
	return true;
}

/* drbdadm VERB RESOURCE */
static int drbdadm(const char *verb, const char *resource, char out[OUTPUT_MAX], struct reason *why)
{
	const char *const argv[] = { "drbdadm", verb, resource, NULL };

	if (!drbd_name_ok(resource))
		return reason_set(why, EINVAL, "'%.64s' is no name of a DRBD resource", resource);
	return command_run(argv, DRBD_COMMAND_NS, out, OUTPUT_MAX, why);
}

/* The word up to `end`, cut at the field's size. */
static const char *word(const char *from, char end, char ret[DRBD_WORD_MAX])
{
	size_t len = strcspn(from, "/\n ");

	snprintf(ret, DRBD_WORD_MAX, "%.*s", (int)MIN(len, DRBD_WORD_MAX - 1), from);
	return from[len] == end ? from + len + 1 : NULL;
}

/* "Ours/Theirs" */
static int pair(const char *verb, const char *resource, char ours[DRBD_WORD_MAX],
		char theirs[DRBD_WORD_MAX], struct reason *why)
{
	char out[OUTPUT_MAX];
	const char *next;
	int err = drbdadm(verb, resource, out, why);

	if (err)
		return err;
	next = word(out, '/', ours);
	if (!next)
		return reason_set(why, EPROTO, "drbdadm %s %s says '%.64s'", verb, resource, out);
	word(next, '\n', theirs);
	return 0;
}

/* From the configuration: the default is C (drbd.conf(5)). */
static int protocol_of(const char *resource, char *ret, struct reason *why)
{
	char out[OUTPUT_MAX];
	const char *at;
	int err = drbdadm("dump", resource, out, why);

	if (err)
		return err;
	at = strstr(out, "protocol");
	*ret = 'C';
	if (at)
		sscanf(at, "protocol %c", ret);
	return 0;
}

int drbd_status(const char *resource, struct drbd_status *ret, struct reason *why)
{
	char out[OUTPUT_MAX];
	int err = pair("role", resource, ret->role, ret->peer_role, why);

	if (!err)
		err = pair("dstate", resource, ret->disk, ret->peer_disk, why);
	if (!err)
		err = drbdadm("cstate", resource, out, why);
	if (err)
		return err;
	word(out, '\n', ret->connection);
	return protocol_of(resource, &ret->protocol, why);
}

int drbd_device(const char *resource, char *ret, size_t size, struct reason *why)
{
	char out[OUTPUT_MAX];
	int err = drbdadm("sh-dev", resource, out, why);

	if (err)
		return err;
	out[strcspn(out, "\n")] = '\0';
	if (strncmp(out, "/dev/", 5) || strlen(out) >= size)
		return reason_set(why, EPROTO, "drbdadm sh-dev %s says '%.64s'", resource, out);
	snprintf(ret, size, "%s", out);
	return 0;
}

static bool is(const char *value, const char *word)
{
	return strcmp(value, word) == 0;
}

int drbd_check(const char *resource, bool here_is_primary, struct reason *why)
{
	const char *role = here_is_primary ? "Primary" : "Secondary";
	struct drbd_status s;
	int err = drbd_status(resource, &s, why);

	if (err)
		return err;
	if (s.protocol != 'C')
		return reason_set(why, EINVAL, "DRBD %s: protocol %c; it must be C", resource,
				  s.protocol);
	if (is(s.connection, "StandAlone"))
		return reason_set(why, EINVAL,
				  "DRBD %s: StandAlone: a split brain, or disconnected by hand; "
				  "Pollux discards no data: resolve it with drbdadm",
				  resource);
	if (!is(s.connection, "Connected"))
		return reason_set(why, EINVAL, "DRBD %s: %s; it must be Connected", resource,
				  s.connection);
	if (!is(s.disk, "UpToDate") || !is(s.peer_disk, "UpToDate"))
		return reason_set(why, EINVAL, "DRBD %s: disks %s/%s; both must be UpToDate",
				  resource, s.disk, s.peer_disk);
	if (!is(s.role, role))
		return reason_set(why, EINVAL, "DRBD %s: this host is %s; it must be %s", resource,
				  s.role, role);
	return 0;
}

int drbd_promote(const char *resource, struct reason *why)
{
	char out[OUTPUT_MAX];
	struct drbd_status s;
	int err = drbd_status(resource, &s, why);

	if (err)
		return err;
	if (is(s.role, "Primary"))
		return 0;
	if (!is(s.disk, "UpToDate"))
		return reason_set(why, EIO, "DRBD %s: this host's disk is %s", resource, s.disk);
	if (is(s.peer_role, "Primary")) {
		err = drbdadm("disconnect", resource, out, why);
		if (err)
			return err;
	}
	return drbdadm("primary", resource, out, why);
}

int drbd_demote(const char *resource, struct reason *why)
{
	char out[OUTPUT_MAX];

	return drbdadm("secondary", resource, out, why);
}

int drbd_connect(const char *resource, struct reason *why)
{
	struct drbd_status s;
	char out[OUTPUT_MAX];
	int err = drbd_status(resource, &s, why);

	if (err || !is(s.connection, "StandAlone"))
		return err;
	return drbdadm("connect", resource, out, why);
}
