/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The producer's side of the disk ring. Invariant: a change is in the ring that is
 * current when disk_mirror_put() returns, whole, or mirroring was off at that instant.
 *
 * Threads: the disks' workers put, one at a time (`busy`); a control thread replaces the
 * ring. A producer that waits for room sleeps outside `lock`, in poll(), on descriptors
 * that only the one who set `changing` closes, and he waits until nobody is busy. A ring
 * whose header the client has spoilt counts as full: the disk stalls rather than go on
 * without a copy (P2), until somebody replaces the ring or switches it off.
 */
#include "hypervisor/vmm/disk_mirror.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/cursor.h"
#include "base/err.h"
#include "base/file.h"
#include "base/ring.h"
#include "hypervisor/control/control.h"

struct mirror_ring {
	struct ring ring;
	void *mapping;
	size_t mapping_bytes;
	int memfd, data_fd, room_fd;
};

struct disk_mirror {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* busy or changing has become false */
	bool busy;		/* a producer is at the ring, perhaps asleep */
	bool changing;		/* somebody waits to replace the ring */
	bool stopped;
	bool on;
	struct mirror_ring current; /* when on; used by whoever is busy */
	int wake_fd;		    /* fixed: eventfd, raised to end a producer's sleep */
};

static const struct mirror_ring no_ring = { .memfd = -1, .data_fd = -1, .room_fd = -1 };

int disk_mirror_open(struct disk_mirror **ret)
{
	struct disk_mirror *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->current = no_ring;
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake_fd < 0) {
		int err = -errno;

		free(m);
		return err;
	}
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	*ret = m;
	return 0;
}

static void ring_release(struct mirror_ring *r)
{
	if (r->mapping)
		munmap(r->mapping, r->mapping_bytes);
	err_close_fd(&r->memfd);
	err_close_fd(&r->data_fd);
	err_close_fd(&r->room_fd);
	*r = no_ring;
}

void disk_mirror_close(struct disk_mirror *mirror)
{
	if (!mirror)
		return;
	ring_release(&mirror->current);
	close(mirror->wake_fd);
	pthread_cond_destroy(&mirror->changed);
	pthread_mutex_destroy(&mirror->lock);
	free(mirror);
}

/* Sealed: a client that shrinks it would kill us with SIGBUS. */
static int ring_map(struct mirror_ring *r, uint64_t ring_bytes)
{
	r->mapping_bytes = ring_map_bytes(ring_bytes);
	r->memfd = memfd_create("pollux-disk-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->memfd < 0 || ftruncate(r->memfd, (off_t)r->mapping_bytes) < 0 ||
	    fcntl(r->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	r->mapping = mmap(NULL, r->mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->memfd, 0);
	if (r->mapping == MAP_FAILED) {
		r->mapping = NULL;
		return -errno;
	}
	ring_attach_producer(&r->ring, r->mapping, ring_bytes);
	return 0;
}

static int ring_make(struct mirror_ring *ret, uint64_t ring_bytes)
{
	struct mirror_ring r = no_ring;
	int err = ring_map(&r, ring_bytes);

	if (err)
		goto err_release;
	r.data_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r.room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r.data_fd < 0 || r.room_fd < 0) {
		err = -errno;
		goto err_release;
	}
	*ret = r;
	return 0;

err_release:
	ring_release(&r);
	return err;
}

static int dup_all(const struct mirror_ring *r, int ret_fds[3])
{
	const int from[3] = { r->memfd, r->data_fd, r->room_fd };
	int fds[3];

	for (unsigned int i = 0; i < 3; i++) {
		fds[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 0);
		if (fds[i] < 0) {
			int err = -errno;

			while (i--)
				close(fds[i]);
			return err;
		}
	}
	memcpy(ret_fds, fds, sizeof(fds));
	return 0;
}

/* Swaps the ring once no producer is at the old one; gives the old back in `*r`. */
static void exchange(struct disk_mirror *m, bool on, struct mirror_ring *r)
{
	struct mirror_ring old;
	eventfd_t count;

	pthread_mutex_lock(&m->lock);
	while (m->changing)
		pthread_cond_wait(&m->changed, &m->lock);
	m->changing = true;
	eventfd_write(m->wake_fd, 1);
	while (m->busy)
		pthread_cond_wait(&m->changed, &m->lock);
	if (!m->stopped)
		eventfd_read(m->wake_fd, &count);
	old = m->current;
	m->current = *r;
	m->on = on;
	m->changing = false;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	*r = old;
}

int disk_mirror_set(struct disk_mirror *mirror, bool on, uint64_t ring_bytes, int ret_fds[3])
{
	struct mirror_ring r = no_ring;
	int err;

	if (on) {
		if (ring_bytes < DISK_MIRROR_MIN_BYTES || ring_bytes > DISK_MIRROR_MAX_BYTES ||
		    ring_bytes & (ring_bytes - 1))
			return -EINVAL;
		err = ring_make(&r, ring_bytes);
		if (err)
			return err;
		err = dup_all(&r, ret_fds);
		if (err) {
			ring_release(&r);
			return err;
		}
	}
	exchange(mirror, on, &r);
	ring_release(&r);
	return 0;
}

static int put_record(struct mirror_ring *r, const struct disk_change *change)
{
	uint8_t head[CONTROL_DISK_RECORD_BYTES] = { 0 };
	struct cursor c = cursor_over(head, sizeof(head));
	struct ring_piece piece[2] = {
		{ .data = head, .len = sizeof(head) },
		{ .data = change->data, .len = change->data ? change->length : 0 },
	};
	int err;

	cursor_put_u8(&c, change->op);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, change->disk);
	cursor_put_u32(&c, 0);
	cursor_put_u64(&c, change->offset);
	cursor_put_u64(&c, change->length);
	assert(cursor_done(&c));
	err = ring_put(&r->ring, piece, change->data ? 2 : 1);
	if (!err)
		eventfd_write(r->data_fd, 1);
	return err;
}

/* Until the client says that there is room, or somebody raises wake_fd. */
static void wait_room(struct disk_mirror *m)
{
	struct pollfd slot[2] = {
		{ .fd = m->current.room_fd, .events = POLLIN },
		{ .fd = m->wake_fd, .events = POLLIN },
	};
	eventfd_t count;

	poll(slot, 2, -1);
	if (slot[0].revents)
		eventfd_read(m->current.room_fd, &count);
}

/* Busy, under lock. -ECANCELED: stopped; -EAGAIN: make way for a change of the ring. */
static int put_busy(struct disk_mirror *m, const struct disk_change *change)
{
	for (;;) {
		if (m->stopped)
			return -ECANCELED;
		if (m->changing)
			return -EAGAIN;
		if (!m->on)
			return 0;
		if (!put_record(&m->current, change))
			return 0;
		pthread_mutex_unlock(&m->lock);
		wait_room(m);
		pthread_mutex_lock(&m->lock);
	}
}

int disk_mirror_put(struct disk_mirror *mirror, const struct disk_change *change,
		    uint64_t *ret_position)
{
	int err;

	assert(!change->data || change->length <= CONTROL_DISK_DATA_MAX);
	pthread_mutex_lock(&mirror->lock);
	do {
		while (mirror->busy || mirror->changing)
			pthread_cond_wait(&mirror->changed, &mirror->lock);
		mirror->busy = true;
		err = put_busy(mirror, change);
		if (ret_position)
			*ret_position = mirror->on ? mirror->current.ring.pos : 0;
		mirror->busy = false;
		pthread_cond_broadcast(&mirror->changed);
	} while (err == -EAGAIN);
	pthread_mutex_unlock(&mirror->lock);
	return err;
}

int disk_mirror_put_found(struct disk_mirror *mirror, int fd, const struct disk_change *failed)
{
	cleanup_free uint8_t *bytes = malloc(CONTROL_DISK_DATA_MAX);
	struct disk_change found = { .op = CONTROL_DISK_WRITE,
				     .disk = failed->disk,
				     .data = bytes };
	int err = bytes ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < failed->length && !err; at += found.length) {
		found.offset = failed->offset + at;
		found.length = MIN(failed->length - at, CONTROL_DISK_DATA_MAX);
		err = file_read_at(fd, bytes, found.length, found.offset);
		if (!err)
			err = disk_mirror_put(mirror, &found, NULL);
	}
	return err;
}

void disk_mirror_stop(struct disk_mirror *mirror)
{
	pthread_mutex_lock(&mirror->lock);
	mirror->stopped = true;
	eventfd_write(mirror->wake_fd, 1);
	pthread_cond_broadcast(&mirror->changed);
	pthread_mutex_unlock(&mirror->lock);
}
