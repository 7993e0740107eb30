/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/drbd.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "disk-replica/command.h"

#define OUTPUT_MAX 4096u

static int run(const char *const argv[], const char *resource, char out[OUTPUT_MAX],
	       struct reason *why)
{
	if (!drbd_name_ok(resource))
		return reason_set(why, EINVAL, "'%.64s' is no name of a DRBD resource", resource);
	return command_run(argv, DRBD_COMMAND_NS, out, OUTPUT_MAX, why);
}

/* drbdadm VERB RESOURCE */
static int drbdadm(const char *verb, const char *resource, char out[OUTPUT_MAX], struct reason *why)
{
	const char *const argv[] = { "drbdadm", verb, resource, NULL };

	return run(argv, resource, out, why);
}

/* By force: nobody asks the other host, who may be dead. */
static int disconnect(const char *resource, struct reason *why)
{
	const char *const argv[] = { "drbdadm", "disconnect", "--force", resource, NULL };
	char out[OUTPUT_MAX];

	return run(argv, resource, out, why);
}

static bool is(const char *value, const char *word)
{
	return strcmp(value, word) == 0;
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
	if (is(ours, "Unconfigured"))
		next = out;
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

int drbd_bytes(const char *resource, uint64_t *ret, struct reason *why)
{
	unsigned long long sectors = 0;
	char path[128];
	struct stat st;
	FILE *f;
	int r = drbd_device(resource, path, sizeof(path), why);

	if (r)
		return r;
	if (stat(path, &st) || !S_ISBLK(st.st_mode))
		return reason_set(why, ENODEV, "DRBD %s: %s is no block device", resource, path);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", major(st.st_rdev),
		 minor(st.st_rdev));
	f = fopen(path, "re");
	if (!f || fscanf(f, "%llu", &sectors) != 1)
		sectors = 0;
	if (f)
		fclose(f);
	if (!sectors)
		return reason_set(why, ENODEV, "DRBD %s: has no size; is it up?", resource);
	*ret = (uint64_t)sectors * 512;
	return 0;
}

int drbd_check(const char *resource, bool here_is_primary, struct reason *why)
{
	const char *role = here_is_primary ? "Primary" : "Secondary";
	struct drbd_status s;
	int err = drbd_status(resource, &s, why);

	if (err)
		return err;
	if (is(s.role, "Unconfigured"))
		return reason_set(why, EINVAL, "DRBD %s: Unconfigured; drbdadm up brings it up",
				  resource);
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

int drbd_begin(const char *resource, struct reason *why)
{
	char out[OUTPUT_MAX];
	struct drbd_status s;
	int r = drbd_status(resource, &s, why);

	if (r || is(s.role, "Primary"))
		return r;
	if (!is(s.disk, "UpToDate"))
		return reason_set(why, EIO, "DRBD %s: this host's disk is %s; it must be UpToDate",
				  resource, s.disk);
	if (is(s.peer_role, "Primary"))
		return reason_set(why, EBUSY, "DRBD %s: the other host is Primary", resource);
	return drbdadm("primary", resource, out, why);
}

/* Few questions: the VM stands still. DRBD itself refuses a disk that is not UpToDate. */
int drbd_promote(const char *resource, struct reason *why)
{
	char out[OUTPUT_MAX];
	struct drbd_status s;
	int r = pair("role", resource, s.role, s.peer_role, why);

	if (r || is(s.role, "Primary"))
		return r;
	if (is(s.peer_role, "Primary"))
		r = disconnect(resource, why);
	return r ? r : drbdadm("primary", resource, out, why);
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
