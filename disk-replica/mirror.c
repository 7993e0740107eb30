/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror.h: the consumer of the sources' disk rings.
 *
 * Waking the producer: it waits for "room again" when a record does not fit. That is
 * raised after a quarter of the ring was taken, and whenever a drain ends with something
 * taken, so that a producer that waits is always woken in the end.
 */
#include "disk-replica/mirror.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/ring.h"

#define MIRROR_RECORD_MAX (CONTROL_DISK_RECORD_BYTES + CONTROL_DISK_DATA_MAX)

/* One source's. A source that changes none of the disks has none: no mapping. */
struct mirror_end {
	struct control *control;
	struct ring ring;
	void *mapping;
	size_t mapping_bytes;
	int records_fd;
	int room_fd;
	uint64_t taken; /* bytes since room_fd was raised last */
};

struct mirror {
	struct sources sources; /* a copy, for the disks and whose they are */
	struct mirror_end end[SOURCES_MAX];
	uint64_t ring_bytes;
	int epoll_fd;
	bool broken;
	struct reason broken_why;
	uint8_t record[MIRROR_RECORD_MAX];
};

static int read_disk(struct cursor *c, struct disk_info *ret)
{
	uint64_t bytes = cursor_get_u64(c);
	bool readonly = cursor_get_u8(c);
	uint16_t len = cursor_get_u16(c);
	const char *path = cursor_get_view(c, len);

	if (!path || !len || len >= DISK_PATH_MAX || memchr(path, 0, len))
		return -EPROTO;
	*ret = (struct disk_info){ .bytes = bytes, .readonly = readonly };
	memcpy(ret->path, path, len);
	return 0;
}

int mirror_list_disks(struct control *control, struct disk_info ret[DISK_MAX], unsigned int *ret_nr,
		      struct reason *why)
{
	struct control_call call = { .op = CONTROL_DISK_LIST, .why = why };
	struct disk_info *list;
	struct cursor reply;
	unsigned int nr;
	int err = control_call(control, &call, &reply);

	if (err)
		return err;
	nr = cursor_get_u16(&reply);
	if (nr > DISK_MAX)
		return reason_set(why, EPROTO, "%u disks, the limit is %u", nr, DISK_MAX);
	list = calloc(DISK_MAX, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr && !err; i++)
		err = read_disk(&reply, &list[i]);
	if (err || !cursor_done(&reply)) {
		free(list);
		return reason_set(why, EPROTO, "the list of disks cannot be read");
	}
	memcpy(ret, list, nr * sizeof(*list));
	*ret_nr = nr;
	free(list);
	return 0;
}

static int set_mirror(struct control *control, bool on, uint64_t ring_bytes, int fds[3],
		      struct reason *why)
{
	uint8_t request[9];
	struct cursor put = cursor_over(request, sizeof(request));
	struct control_call call = {
		.op = CONTROL_DISK_MIRROR,
		.request = request,
		.request_len = sizeof(request),
		.ret_fds = fds,
		.nr_fds = on ? 3 : 0,
		.why = why,
	};
	struct cursor reply;

	cursor_put_u8(&put, on);
	cursor_put_u64(&put, ring_bytes);
	return control_call(control, &call, &reply);
}

/* The other side made the descriptor: one that it can shrink under our mapping would let it
 * end this process with SIGBUS. */
static int map_ring(struct mirror_end *m, int fd, uint64_t ring_bytes, struct reason *why)
{
	size_t bytes = ring_map_bytes(ring_bytes);
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size < bytes)
		return reason_set(why, EPROTO, "the disk ring has %lld bytes, %zu were asked for",
				  (long long)st.st_size, bytes);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		int seals = fcntl(fd, F_GET_SEALS);

		if (seals < 0 || !(seals & F_SEAL_SHRINK))
			return reason_set(why, EPROTO,
					  "the disk ring can shrink: it is not sealed");
	}
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->mapping = p;
	m->mapping_bytes = bytes;
	ring_attach_consumer(&m->ring, p, ring_bytes);
	return 0;
}

/* Reading "records waiting" must not block. "Room again" keeps its flags, which are those of
 * the other side too, and it may well wait in a read. */
static int set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ? -errno : 0;
}

static int attach(struct mirror_end *m, int fds[3], uint64_t ring_bytes, struct reason *why)
{
	int err = map_ring(m, fds[0], ring_bytes, why);

	if (!err)
		err = set_nonblock(fds[1]);
	if (err)
		return err;
	m->records_fd = take_fd(&fds[1]);
	m->room_fd = take_fd(&fds[2]);
	return 0;
}

static int check_ring_bytes(uint64_t n, struct reason *why)
{
	if (n < MIRROR_RING_MIN || n > MIRROR_RING_MAX || n & (n - 1))
		return reason_set(why, EINVAL, "ring of %llu bytes: a power of two, %llu to %llu",
				  (unsigned long long)n, (unsigned long long)MIRROR_RING_MIN,
				  (unsigned long long)MIRROR_RING_MAX);
	return 0;
}

static bool has_disks(const struct sources *s, unsigned int source)
{
	for (unsigned int i = 0; i < s->nr_disks; i++)
		if (s->source[i] == source)
			return true;
	return false;
}

static int open_end(struct mirror *m, unsigned int source, uint64_t ring_bytes, struct reason *why)
{
	struct mirror_end *end = &m->end[source];
	struct epoll_event event = { .events = EPOLLIN };
	int fds[3] = { -1, -1, -1 };
	int err = set_mirror(end->control, true, ring_bytes, fds, why);

	if (err)
		return err;
	err = attach(end, fds, ring_bytes, why);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
		err_close_fd(&fds[i]);
	if (!err && epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, end->records_fd, &event))
		err = -errno;
	if (err)
		set_mirror(end->control, false, 0, NULL, NULL);
	return err;
}

int mirror_open(const struct mirror_config *config, struct mirror **ret, struct reason *why)
{
	const struct sources *s = config->sources;
	struct mirror *m;
	int err = check_ring_bytes(config->ring_bytes, why);

	if (err)
		return err;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->sources = *s;
	m->ring_bytes = config->ring_bytes;
	for (unsigned int i = 0; i < SOURCES_MAX; i++)
		m->end[i] = (struct mirror_end){ .records_fd = -1, .room_fd = -1 };
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (m->epoll_fd < 0)
		err = -errno;
	for (unsigned int i = 0; i < s->nr && !err; i++) {
		m->end[i].control = s->control[i];
		if (has_disks(s, i))
			err = open_end(m, i, config->ring_bytes, why);
	}
	if (err) {
		mirror_close(m);
		return err;
	}
	*ret = m;
	return 0;
}

static void close_end(struct mirror_end *end)
{
	if (!end->mapping)
		return;
	/* Off first: a producer that waits for room must not wait for one who has left. */
	set_mirror(end->control, false, 0, NULL, NULL);
	munmap(end->mapping, end->mapping_bytes);
	err_close_fd(&end->records_fd);
	err_close_fd(&end->room_fd);
}

void mirror_close(struct mirror *m)
{
	if (!m)
		return;
	for (unsigned int i = 0; i < m->sources.nr; i++)
		close_end(&m->end[i]);
	err_close_fd(&m->epoll_fd);
	free(m);
}

void mirror_boundary(const struct mirror *m, struct mirror_mark *ret)
{
	for (unsigned int i = 0; i < m->sources.nr; i++)
		ret->at[i] = m->end[i].mapping ? ring_head(&m->end[i].ring) : 0;
}

int mirror_check(const struct mirror *m, struct reason *why)
{
	for (unsigned int i = 0; i < m->sources.nr; i++) {
		struct pollfd p;

		if (!m->end[i].mapping)
			continue;
		/* Not for data: another thread may be awaiting a reply there. */
		p = (struct pollfd){ .fd = control_fd(m->end[i].control) };
		if (poll(&p, 1, 0) > 0)
			return reason_set(why, EPIPE, "who changes the disks is gone: source %u",
					  i);
	}
	return 0;
}

static void raise_room(struct mirror_end *end)
{
	struct pollfd p = { .fd = end->room_fd, .events = POLLOUT };

	if (!end->taken)
		return;
	end->taken = 0;
	/* Not writable: raised to the brim already, and a write would block. */
	if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT)
		(void)!eventfd_write(end->room_fd, 1);
}

/* A source knows only its own disks, by numbers of its own. */
static int find_disk(const struct sources *s, unsigned int source, uint16_t local, uint16_t *ret,
		     struct reason *why)
{
	for (unsigned int i = 0; i < s->nr_disks; i++) {
		if (s->source[i] != source || s->local[i] != local)
			continue;
		*ret = (uint16_t)i;
		return 0;
	}
	return reason_set(why, EPROTO, "disk %u, which source %u has not; the VM has %u", local,
			  source, s->nr_disks);
}

static int parse_record(const struct mirror *m, unsigned int source, size_t len,
			struct disk_record *ret, struct reason *why)
{
	const struct disk_info *disks = m->sources.disks;
	struct cursor c = cursor_over(m->record, len);
	struct disk_record r = { .op = cursor_get_u8(&c) };
	uint8_t zero8 = cursor_get_u8(&c);
	uint32_t zero32;
	size_t data_len;
	int err;

	r.disk = cursor_get_u16(&c);
	zero32 = cursor_get_u32(&c);
	r.offset = cursor_get_u64(&c);
	r.length = cursor_get_u64(&c);
	if (!cursor_ok(&c) || zero8 || zero32)
		return reason_set(why, EPROTO, "a disk record of %zu bytes is malformed", len);
	err = find_disk(&m->sources, source, r.disk, &r.disk, why);
	if (!err)
		err = disk_record_check(&r, disks, m->sources.nr_disks, why);
	if (err)
		return err;
	data_len = r.op == CONTROL_DISK_WRITE ? (size_t)r.length : 0;
	if (cursor_left(&c) != data_len)
		return reason_set(why, EPROTO, "%s of %zu bytes came with %zu", disk_op_name(r.op),
				  data_len, cursor_left(&c));
	if (disks[r.disk].readonly && r.op != CONTROL_DISK_FLUSH)
		return reason_set(why, EPROTO, "%s on disk %u, which is read-only",
				  disk_op_name(r.op), r.disk);
	if (data_len)
		r.data = cursor_get_view(&c, data_len);
	*ret = r;
	return 0;
}

static int take(struct mirror *m, unsigned int source, uint64_t limit, struct disk_record *ret,
		struct reason *why)
{
	struct mirror_end *end = &m->end[source];
	uint64_t start = end->ring.pos;
	size_t len;
	int err;

	/* An older limit, of an epoch that is drained already: nothing is left of it. */
	if ((int64_t)(limit - start) <= 0)
		return -EAGAIN;
	err = ring_get(&end->ring, limit, m->record, sizeof(m->record), &len);
	if (err == -EAGAIN)
		return err;
	if (err)
		return reason_set(why, EPROTO, "the disk ring is inconsistent at %llu, limit %llu",
				  (unsigned long long)start, (unsigned long long)limit);
	end->taken += end->ring.pos - start;
	return parse_record(m, source, len, ret, why);
}

int mirror_next(struct mirror *m, const struct mirror_mark *limit, struct disk_record *ret,
		struct reason *why)
{
	int err = -EAGAIN;

	if (m->broken)
		return reason_set(why, EPROTO, "%s", m->broken_why.text);
	for (unsigned int i = 0; i < m->sources.nr && err == -EAGAIN; i++) {
		struct mirror_end *end = &m->end[i];

		if (!end->mapping)
			continue;
		err = take(m, i, limit->at[i], ret, &m->broken_why);
		if (err == -EAGAIN || end->taken >= end->ring.size / 4)
			raise_room(end);
	}
	if (!err || err == -EAGAIN)
		return err;
	m->broken = true;
	return reason_set(why, EPROTO, "%s", m->broken_why.text);
}

int mirror_wait_fd(const struct mirror *m)
{
	return m->epoll_fd;
}

void mirror_wait_clear(struct mirror *m)
{
	eventfd_t count;

	for (unsigned int i = 0; i < m->sources.nr; i++)
		if (m->end[i].mapping)
			(void)!eventfd_read(m->end[i].records_fd, &count);
}

uint64_t mirror_used(const struct mirror *m)
{
	uint64_t used = 0;

	for (unsigned int i = 0; i < m->sources.nr; i++)
		if (m->end[i].mapping)
			used = MAX(used, MIN(ring_used(&m->end[i].ring), m->end[i].ring.size));
	return used;
}

uint64_t mirror_size(const struct mirror *m)
{
	return m->ring_bytes;
}
