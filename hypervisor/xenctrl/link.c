/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xenctrl/link.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bitmap.h"

#define LINK_NO_DOMAIN UINT32_MAX

/* What HELLO says, before any of it is believed. */
struct hello {
	uint32_t version, domid, nr_vcpus;
	uint8_t uuid[16];
	uint64_t low_bytes, high_bytes, nr_gfns;
	uint64_t dirty_offset, context_offset, context_max;
};

void link_table_init(struct link_table *t, bool with_export)
{
	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->lock, NULL);
	t->with_export = with_export;
	for (unsigned int i = 0; i < LINK_MAX; i++) {
		t->links[i].domid = LINK_NO_DOMAIN;
		t->links[i].memory_fd = -1;
		pthread_mutex_init(&t->links[i].lock, NULL);
	}
}

static void disconnect(struct link *link)
{
	if (link->export_base)
		munmap(link->export_base, link->export_bytes);
	if (link->memory_fd >= 0)
		close(link->memory_fd);
	if (link->control)
		control_close(link->control);
	link->export_base = NULL;
	link->dirty = NULL;
	link->context = NULL;
	link->memory_fd = -1;
	link->control = NULL;
}

void link_table_close(struct link_table *t)
{
	for (unsigned int i = 0; i < LINK_MAX; i++) {
		disconnect(&t->links[i]);
		pthread_mutex_destroy(&t->links[i].lock);
	}
	pthread_mutex_destroy(&t->lock);
}

int link_vm_dir(char *ret, size_t size)
{
	const char *run = getenv("POLLUX_RUN_DIR");
	int n = run ? snprintf(ret, size, "%s/vm", run) : snprintf(ret, size, CONTROL_RUN_DIR);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static bool connection_lost(int err)
{
	return err == -EPIPE || err == -ECONNRESET || err == -ENOTCONN;
}

int link_call(struct link *link, const struct control_call *call, struct cursor *ret_reply)
{
	int err = control_call(link->control, call, ret_reply);

	if (!connection_lost(err))
		return err;
	disconnect(link);
	return reason_set(call->why, ESRCH, "domain %u is gone", link->domid);
}

int link_check(struct link *link)
{
	struct pollfd p = { .fd = control_fd(link->control) };

	if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR | POLLNVAL)) {
		disconnect(link);
		return -ESRCH;
	}
	return 0;
}

/* A descriptor that can shrink makes every access to its mapping a possible SIGBUS. */
static int check_area(int fd, uint64_t bytes, const char *what, struct reason *why)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < bytes)
		return reason_set(why, EPROTO, "%s has %lld bytes, %llu are said to be there", what,
				  (long long)st.st_size, (unsigned long long)bytes);
	if (!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return 0;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return reason_set(why, EPROTO, "%s can shrink: it is not a sealed memfd", what);
	return 0;
}

static bool memory_is_sane(const struct hello *h)
{
	uint64_t top = h->high_bytes ? LINK_HIGH_START + h->high_bytes : h->low_bytes;

	if ((h->low_bytes | h->high_bytes) & (LINK_PAGE_BYTES - 1))
		return false;
	if (!h->low_bytes || h->low_bytes > LINK_HIGH_START || h->high_bytes > LINK_MEMORY_MAX)
		return false;
	return h->nr_gfns == top >> LINK_PAGE_SHIFT && h->nr_vcpus >= 1;
}

static bool export_is_sane(const struct hello *h)
{
	if (h->dirty_offset > LINK_CONTEXT_MAX || h->context_offset > LINK_CONTEXT_MAX)
		return false;
	return h->context_max && h->context_max <= LINK_CONTEXT_MAX &&
	       !(h->dirty_offset % sizeof(uint64_t));
}

static int map_export(struct link *link, const struct hello *h, int fd, struct reason *why)
{
	uint64_t dirty_end = h->dirty_offset + bitmap_bytes(h->nr_gfns);
	uint64_t bytes = MAX(dirty_end, h->context_offset + h->context_max);
	uint8_t *base;
	int err = check_area(fd, bytes, "the export area", why);

	if (err)
		return err;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	link->export_base = base;
	link->export_bytes = bytes;
	link->dirty = (const uint64_t *)(const void *)(base + h->dirty_offset);
	link->context = base + h->context_offset;
	return 0;
}

static void parse_hello(struct cursor *c, struct hello *h)
{
	h->version = cursor_get_u32(c);
	h->domid = cursor_get_u32(c);
	cursor_get_bytes(c, h->uuid, sizeof(h->uuid));
	h->low_bytes = cursor_get_u64(c);
	h->high_bytes = cursor_get_u64(c);
	h->nr_gfns = cursor_get_u64(c);
	h->nr_vcpus = cursor_get_u32(c);
	cursor_get_u32(c); /* disks */
	cursor_get_u32(c); /* NICs */
	h->dirty_offset = cursor_get_u64(c);
	h->context_offset = cursor_get_u64(c);
	h->context_max = cursor_get_u64(c);
}

static int take_hello(struct link *link, const struct hello *h, int fds[2], bool with_export,
		      struct reason *why)
{
	int err;

	if (h->version != CONTROL_VERSION)
		return reason_set(why, EPROTO, "control version %u, this library speaks %u",
				  h->version, CONTROL_VERSION);
	if (h->domid != link->domid)
		return reason_set(why, EPROTO, "domain %u answers for domain %u", h->domid,
				  link->domid);
	if (!memory_is_sane(h) || !export_is_sane(h))
		return reason_set(why, EPROTO, "domain %u describes its memory inconsistently",
				  link->domid);
	err = check_area(fds[0], h->low_bytes + h->high_bytes, "guest memory", why);
	if (!err && with_export)
		err = map_export(link, h, fds[1], why);
	if (err)
		return err;
	memcpy(link->uuid, h->uuid, sizeof(link->uuid));
	link->low_bytes = h->low_bytes;
	link->high_bytes = h->high_bytes;
	link->nr_gfns = h->nr_gfns;
	link->nr_vcpus = h->nr_vcpus;
	link->context_max = h->context_max;
	link->memory_fd = take_fd(&fds[0]);
	return 0;
}

static int say_hello(struct link *link, bool with_export, struct reason *why)
{
	uint8_t request[4];
	int fds[2] = { -1, -1 };
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = {
		.op = CONTROL_HELLO,
		.request = request,
		.request_len = sizeof(request),
		.ret_fds = fds,
		.nr_fds = 2,
		.why = why,
	};
	struct hello h = { 0 };
	struct cursor reply;
	int err;

	cursor_put_u32(&put, CONTROL_VERSION);
	err = link_call(link, &call, &reply);
	if (err)
		return err;
	parse_hello(&reply, &h);
	err = cursor_ok(&reply) ? take_hello(link, &h, fds, with_export, why) : -EPROTO;
	for (unsigned int i = 0; i < 2; i++)
		err_close_fd(&fds[i]);
	return err;
}

static int connect_domain(struct link *link, bool with_export, struct reason *why)
{
	char dir[256], path[300];
	int err = link_vm_dir(dir, sizeof(dir));

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/%u", dir, link->domid);
	err = control_connect(path, &link->control);
	if (err == -ENOENT || err == -ECONNREFUSED || err == -ENOTDIR) {
		link->control = NULL;
		return reason_set(why, ESRCH, "no domain %u", link->domid);
	}
	if (err) {
		link->control = NULL;
		return err;
	}
	err = say_hello(link, with_export, why);
	if (err)
		disconnect(link);
	return err;
}

/* With the table locked: the domain's own link, else a free one, else an idle one. */
static struct link *choose(struct link_table *t, uint32_t domid)
{
	struct link *idle = NULL, *unused = NULL;

	for (unsigned int i = 0; i < LINK_MAX; i++) {
		struct link *l = &t->links[i];

		if (l->domid == domid)
			return l;
		if (l->users)
			continue;
		if (!l->control)
			unused = l;
		else
			idle = l;
	}
	if (!unused && idle)
		disconnect(idle);
	return unused ? unused : idle;
}

int link_get(struct link_table *t, uint32_t domid, struct link **ret, struct reason *why)
{
	struct link *link;
	int err = 0;

	if (domid == LINK_NO_DOMAIN)
		return -ESRCH;
	pthread_mutex_lock(&t->lock);
	link = choose(t, domid);
	if (link) {
		if (link->domid != domid) /* then nobody uses it */
			link->domid = domid;
		link->users++;
	}
	pthread_mutex_unlock(&t->lock);
	if (!link)
		return -ENOBUFS;
	pthread_mutex_lock(&link->lock);
	if (!link->control)
		err = connect_domain(link, t->with_export, why);
	if (err) {
		link_put(t, link);
		return err;
	}
	*ret = link;
	return 0;
}

void link_put(struct link_table *t, struct link *link)
{
	pthread_mutex_unlock(&link->lock);
	pthread_mutex_lock(&t->lock);
	link->users--;
	pthread_mutex_unlock(&t->lock);
}

bool link_gfn_offset(const struct link *link, uint64_t gfn, uint64_t *ret)
{
	uint64_t high = LINK_HIGH_START >> LINK_PAGE_SHIFT;

	if (gfn >= link->nr_gfns)
		return false;
	if (gfn < link->low_bytes >> LINK_PAGE_SHIFT) {
		*ret = gfn << LINK_PAGE_SHIFT;
		return true;
	}
	if (gfn < high)
		return false;
	*ret = link->low_bytes + ((gfn - high) << LINK_PAGE_SHIFT);
	return true;
}
