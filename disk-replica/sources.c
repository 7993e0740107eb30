/* SPDX-License-Identifier: Apache-2.0 */
#include "disk-replica/sources.h"

#include <stdio.h>

#include "disk-replica/mirror.h"

bool sources_is_served(const char *name)
{
	return !strncmp(name, CONTROL_NBD_PREFIX, strlen(CONTROL_NBD_PREFIX));
}

/* The control socket lies beside that of NBD. */
static int connect_beside(const char *name, struct control **ret, struct reason *why)
{
	const char *path = name + strlen(CONTROL_NBD_PREFIX);
	const char *slash = strrchr(path, '/');
	char dir[DISK_PATH_MAX];
	int err;

	if (path[0] != '/' || strlen(path) >= sizeof(dir))
		return reason_set(why, EINVAL, "%.200s is no " CONTROL_NBD_PREFIX "/SOCKET", name);
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	err = control_connect(dir, ret);
	if (err)
		return reason_set(why, ENOTSUP,
				  "%s cannot be replicated: no control socket beside it: %s", name,
				  strerror(-err));
	return 0;
}

static int list_served(struct control *control, const char *name, struct disk_info *ret,
		       struct reason *why)
{
	cleanup_free struct disk_info *list = calloc(DISK_MAX, sizeof(*list));
	unsigned int nr;
	int err = list ? mirror_list_disks(control, list, &nr, why) : -ENOMEM;

	if (err)
		return err;
	if (nr != 1 || sources_is_served(list[0].path))
		return reason_set(why, EPROTO, "%s: its server has %u disks, not one of its own",
				  name, nr);
	*ret = list[0];
	ret->served = true;
	return 0;
}

int sources_look_up(const char *name, struct disk_info *ret, struct reason *why)
{
	struct control *control;
	int err = connect_beside(name, &control, why);

	if (err)
		return err;
	err = list_served(control, name, ret, why);
	control_close(control);
	return err;
}

int sources_count(struct control *control, int fd, struct reason *why)
{
	uint8_t on = fd >= 0;
	struct control_call call = { .op = CONTROL_DISK_TRACK,
				     .request = &on,
				     .request_len = 1,
				     .request_fds = &fd,
				     .nr_request_fds = on,
				     .why = why };

	return control_call(control, &call, NULL);
}

int sources_track(const char *name, int fd, struct reason *why)
{
	struct control *control;
	int err = fd < 0 ? reason_set(why, -fd, "its region file: %s", strerror(-fd))
			 : connect_beside(name, &control, why);

	if (!err) {
		err = sources_count(control, fd, why);
		control_close(control);
	}
	if (fd >= 0)
		close(fd);
	return err;
}

static int add_served(struct sources *s, unsigned int disk, struct reason *why)
{
	const struct disk_info *named = &s->named[disk];
	struct disk_info *served = &s->disks[disk];
	int err = connect_beside(named->path, &s->control[s->nr], why);

	if (err)
		return err;
	s->source[disk] = (uint8_t)s->nr++;
	s->local[disk] = 0;
	err = list_served(s->control[s->source[disk]], named->path, served, why);
	if (err)
		return err;
	if (served->bytes != named->bytes)
		return reason_set(why, EPROTO, "%s: %llu bytes for the VM, %llu for its server",
				  named->path, (unsigned long long)named->bytes,
				  (unsigned long long)served->bytes);
	served->readonly = named->readonly;
	s->named[disk].served = true;
	return 0;
}

int sources_open(struct control *vm, struct sources *ret, struct reason *why)
{
	struct sources *s = calloc(1, sizeof(*s));
	int err = s ? mirror_list_disks(vm, s->named, &s->nr_disks, why) : -ENOMEM;

	if (err)
		goto out;
	s->control[s->nr++] = vm;
	for (unsigned int i = 0; i < s->nr_disks && !err; i++) {
		s->disks[i] = s->named[i];
		s->local[i] = (uint16_t)i;
		if (sources_is_served(s->named[i].path))
			err = add_served(s, i, why);
	}
	if (err)
		sources_close(s);
	else
		*ret = *s;
out:
	free(s);
	return err;
}

bool sources_has_disk(const struct sources *s, unsigned int source)
{
	for (unsigned int i = 0; i < s->nr_disks; i++)
		if (s->source[i] == source)
			return true;
	return false;
}

int sources_connect(const char *run_dir, struct sources *ret, struct reason *why)
{
	struct control *control;
	int err = control_connect(run_dir, &control);

	if (err)
		return reason_set(why, -err, "%s: pollux-vmm does not answer: %s", run_dir,
				  strerror(-err));
	err = sources_open(control, ret, why);
	if (err)
		control_close(control);
	else
		ret->owns = true;
	return err;
}

void sources_close(struct sources *s)
{
	for (unsigned int i = s->owns ? 0 : 1; i < s->nr; i++)
		control_close(s->control[i]);
	memset(s, 0, sizeof(*s));
}
