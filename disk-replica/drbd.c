/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/drbd.h"

#include <stdio.h>
#include <string.h>

#include "disk-replica/command.h"

#define OUTPUT_MAX  4096u
#define DRBD_MINORS (1u << 20)

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

/* " 1: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----"; of one that is alone
 * without the protocol, of one that is not up without all but its state. */
static bool parse(const char *line, unsigned int minor, struct drbd_status *ret)
{
	struct drbd_status s = { .protocol = '?' };
	unsigned int of;
	int n = sscanf(line, " %u: cs:%23s ro:%23[^/]/%23s ds:%23[^/]/%23s %c", &of, s.connection,
		       s.role, s.peer_role, s.disk, s.peer_disk, &s.protocol);

	if (n < 2 || of != minor || (n < 6 && !is(s.connection, "Unconfigured")))
		return false;
	*ret = s;
	return true;
}

int drbd_read(const char *proc, unsigned int minor, struct drbd_status *ret, struct reason *why)
{
	FILE *f = fopen(proc, "re");
	char line[256];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = parse(line, minor, ret);
	if (f)
		fclose(f);
	return found ? 0
		     : reason_set(why, ENOENT, "%s says nothing of DRBD's minor %u; is it up?",
				  proc, minor);
}

int drbd_minor(const char *resource, unsigned int *ret, struct reason *why)
{
	char out[OUTPUT_MAX];
	unsigned int minor;
	int err = drbdadm("sh-minor", resource, out, why);

	if (err)
		return err;
	if (sscanf(out, "%u", &minor) != 1 || minor >= DRBD_MINORS)
		return reason_set(why, EPROTO, "drbdadm sh-minor %s says '%.64s'", resource, out);
	*ret = minor;
	return 0;
}

const char *drbd_proc = DRBD_PROC;

int drbd_status(const char *resource, struct drbd_status *ret, struct reason *why)
{
	unsigned int minor;
	int err = drbd_minor(resource, &minor, why);

	return err ? err : drbd_read(drbd_proc, minor, ret, why);
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

static int bytes_of(unsigned int minor, uint64_t *ret, struct reason *why)
{
	unsigned long long sectors = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/drbd%u/size", minor);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%llu", &sectors) != 1)
		sectors = 0;
	if (f)
		fclose(f);
	if (!sectors)
		return reason_set(why, ENODEV, "DRBD's minor %u has no size; is it up?", minor);
	*ret = (uint64_t)sectors * 512;
	return 0;
}

int drbd_bytes(const char *resource, uint64_t *ret, struct reason *why)
{
	unsigned int minor;
	int r = drbd_minor(resource, &minor, why);

	return r ? r : bytes_of(minor, ret, why);
}

/* Writes go to both hosts. The other one's disk is looked at, too. */
static bool is_mirroring(const char *connection)
{
	static const char *const states[] = { "Connected", "VerifyS", "VerifyT", "SyncTarget",
					      "PausedSyncT" };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (is(connection, states[i]))
			return true;
	return false;
}

int drbd_whole(const char *proc, unsigned int minor, struct reason *why)
{
	struct drbd_status s;
	int err = drbd_read(proc, minor, &s, why);

	if (err)
		return err;
	if (is_mirroring(s.connection) && is(s.peer_disk, "UpToDate"))
		return 0;
	return reason_set(why, EINVAL, "DRBD's minor %u: %s, the other host's disk is %s", minor,
			  s.connection, s.peer_disk);
}

int drbd_has_own(const char *proc, unsigned int minor, struct reason *why)
{
	struct drbd_status s;
	int err = drbd_read(proc, minor, &s, why);

	if (err || is(s.disk, "UpToDate"))
		return err;
	return reason_set(why, EINVAL, "DRBD's minor %u: this host's disk is %s", minor, s.disk);
}

static int check(const char *resource, unsigned int minor, bool here_is_primary, struct reason *why)
{
	const char *role = here_is_primary ? "Primary" : "Secondary";
	struct drbd_status s;

	if (drbd_read(drbd_proc, minor, &s, NULL) || is(s.connection, "Unconfigured"))
		return reason_set(why, EINVAL, "DRBD %s: Unconfigured; drbdadm up brings it up",
				  resource);
	if (is(s.connection, "StandAlone"))
		return reason_set(why, ECONNABORTED,
				  "DRBD %s: StandAlone: a split brain, or disconnected by hand; "
				  "Pollux discards no data: resolve it with drbdadm",
				  resource);
	if (s.protocol != 'C')
		return reason_set(why, EINVAL, "DRBD %s: protocol %c; it must be C", resource,
				  s.protocol);
	if (!is(s.connection, "Connected"))
		return reason_set(why, EINVAL,
				  "DRBD %s: %s; it must be Connected (if the other host is "
				  "StandAlone, it is a split brain)",
				  resource, s.connection);
	if (!is(s.disk, "UpToDate") || !is(s.peer_disk, "UpToDate"))
		return reason_set(why, EINVAL, "DRBD %s: disks %s/%s; both must be UpToDate",
				  resource, s.disk, s.peer_disk);
	if (!is(s.role, role))
		return reason_set(why, EINVAL, "DRBD %s: this host is %s; it must be %s", resource,
				  s.role, role);
	return 0;
}

int drbd_check(const char *resource, bool here_is_primary, struct reason *why)
{
	unsigned int minor;
	int err = drbd_minor(resource, &minor, why);

	return err ? err : check(resource, minor, here_is_primary, why);
}

int drbd_check_backup(const char *resource, uint64_t bytes, struct reason *why)
{
	unsigned int minor;
	uint64_t have = 0;
	int err = drbd_minor(resource, &minor, why);

	if (!err)
		err = check(resource, minor, false, why);
	if (!err)
		err = bytes_of(minor, &have, why);
	if (err || have == bytes)
		return err;
	return reason_set(why, EINVAL, "DRBD %s: has %llu bytes, the primary's has %llu", resource,
			  (unsigned long long)have, (unsigned long long)bytes);
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

/* DRBD itself refuses a disk that is not UpToDate. */
int drbd_promote(const char *resource, unsigned int minor, struct reason *why)
{
	char out[OUTPUT_MAX];
	struct drbd_status s;
	int r = drbd_read(drbd_proc, minor, &s, why);

	if (r || is(s.role, "Primary"))
		return r;
	if (is(s.peer_role, "Primary"))
		r = disconnect(resource, why);
	return r ? r : drbdadm("primary", resource, out, why);
}

bool drbd_is_primary_of_any(void)
{
	FILE *f = fopen(drbd_proc, "re");
	bool found = false;
	char line[256];

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, " ro:Primary/");
	if (f)
		fclose(f);
	return found;
}

int drbd_demote(const char *resource, struct reason *why)
{
	char out[OUTPUT_MAX];
	struct drbd_status s;
	int r = drbd_status(resource, &s, why);

	if (r || !is(s.role, "Primary"))
		return r;
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
