/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/daemon/kept.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hypervisor/control/control.h"
#include "tools/daemon/events.h"
#include "tools/daemon/vm.h"
#include "tools/daemon/worker.h"

struct kept {
	struct kept *next;
	char name[TEXT_NAME_MAX + 1];
	char uuid[37];
	int fd;
	uint64_t bytes;
	uint64_t until_ns;
};

/* pollux-vmm has given its privileges up: what it says is checked. */
static bool is_guest_memory(int fd, uint64_t bytes)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int have = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return have >= 0 && (have & seals) == seals && !fstat(fd, &st) &&
	       (uint64_t)st.st_size == bytes;
}

int kept_open(struct daemon *d, uint32_t number, uint64_t bytes)
{
	uint8_t request[4];
	int fds[2];
	struct cursor put = cursor_over(request, sizeof(request)), reply;
	struct control_call call = {
		.op = CONTROL_HELLO,
		.request = request,
		.request_len = sizeof(request),
		.ret_fds = fds,
		.nr_fds = 2,
	};
	struct control *c;
	int r;

	cursor_put_u32(&put, CONTROL_VERSION);
	if (vm_connect(d, number, &c, NULL) < 0)
		return -1;
	r = control_call(c, &call, &reply);
	control_close(c);
	if (r)
		return -1;
	close(fds[1]);
	if (is_guest_memory(fds[0], bytes))
		return fds[0];
	close(fds[0]);
	return -1;
}

static void forget(struct kept *k)
{
	while (k) {
		struct kept *next = k->next;

		close(k->fd); /* frees the memory, which takes its time */
		free(k);
		k = next;
	}
}

enum which { OF_NAME, OF_OTHERS, OUTDATED };

static bool is_meant(const struct kept *k, enum which which, const char *name)
{
	switch (which) {
	case OF_NAME:
		return !strcmp(k->name, name);
	case OF_OTHERS:
		return strcmp(k->name, name) != 0;
	case OUTDATED:
		return clock_now_ns() >= k->until_ns;
	}
	return false;
}

/* Out of the table, as a list. */
static struct kept *remove_some(struct daemon *d, enum which which, const char *name)
{
	struct kept *out = NULL;

	daemon_lock(d);
	for (struct kept **at = &d->kept; *at;) {
		struct kept *k = *at;

		if (!is_meant(k, which, name)) {
			at = &k->next;
			continue;
		}
		*at = k->next;
		k->next = out;
		out = k;
	}
	daemon_unlock(d);
	return out;
}

void kept_put(struct daemon *d, struct vm *vm)
{
	struct kept *k = calloc(1, sizeof(*k));

	kept_drop(d, vm->name);
	if (!k || vm->memory_fd < 0) {
		free(k);
		return;
	}
	memcpy(k->name, vm->name, sizeof(k->name));
	memcpy(k->uuid, vm->uuid, sizeof(k->uuid));
	k->bytes = vm_memory_bytes(vm);
	k->until_ns = clock_now_ns() + KEPT_NS;
	k->fd = take_fd(&vm->memory_fd);
	daemon_lock(d);
	k->next = d->kept;
	d->kept = k;
	daemon_unlock(d);
	events_add(d, vm->name, "memory.kept", "%llu MiB, for the next standby, at most %u minutes",
		   (unsigned long long)(k->bytes >> 20), (unsigned int)(KEPT_NS / NS_PER_S / 60));
}

int kept_take(struct daemon *d, const char *name, const char *uuid, uint64_t bytes)
{
	struct kept *k = remove_some(d, OF_NAME, name);
	int fd = -1;

	if (k && !strcasecmp(k->uuid, uuid) && k->bytes == bytes && is_guest_memory(k->fd, bytes))
		fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 0);
	forget(k);
	return fd;
}

void kept_drop(struct daemon *d, const char *name)
{
	forget(remove_some(d, OF_NAME, name));
}

static uint64_t read_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib ? (uint64_t)kib << 10 : UINT64_MAX;
}

static uint64_t read_own(struct daemon *d, const char *name)
{
	uint64_t bytes = 0;
	struct stat st;

	daemon_lock(d);
	for (struct kept *k = d->kept; k; k = k->next)
		if (!strcmp(k->name, name) && !fstat(k->fd, &st))
			bytes += (uint64_t)st.st_blocks * 512;
	daemon_unlock(d);
	return bytes;
}

uint64_t kept_make_room(struct daemon *d, const char *name, uint64_t wanted)
{
	uint64_t own = read_own(d, name), available = read_available();
	struct kept *others;

	if (available >= wanted || available + own >= wanted)
		return available == UINT64_MAX ? available : available + own;
	others = remove_some(d, OF_OTHERS, name);
	for (struct kept *k = others; k; k = k->next)
		events_add(d, k->name, "memory.dropped", "%s needs the room", name);
	forget(others);
	return read_available() + own;
}

static void expire_work(struct daemon *d, void *arg)
{
	(void)arg;
	forget(remove_some(d, OUTDATED, NULL));
}

void kept_expire(struct daemon *d)
{
	bool due = false;

	daemon_lock(d);
	for (struct kept *k = d->kept; !due && k; k = k->next)
		due = is_meant(k, OUTDATED, NULL);
	daemon_unlock(d);
	if (due)
		worker_run(d, expire_work, NULL); /* when it does not start, the next look tries */
}

void kept_drop_all(struct daemon *d)
{
	forget(d->kept);
	d->kept = NULL;
}
