/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of held frames: a byte ring of records {length, nic, time, packet}, and beside
 * it a short ring of marks, each an epoch and the position where it ends. Positions only
 * grow; a record may wrap.
 *
 * P1 rests on two facts. A frame is emitted only from below the end of a mark whose epoch
 * was released, or when holding is off. And net_hold_set(on) returns only when no frame
 * that saw holding off is still on its way, for those are emitted under `out`.
 *
 * Only the holder of `out` moves `tail`; it reads records without `lock`, since put writes
 * beyond `head` alone. So a put or a mark waits for a few instructions, never for the tap.
 */
#include "hypervisor/vmm/net_hold.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/err.h"

#define NR_MARKS	 1024u
#define MAX_HEADER_BYTES 16u

struct record {
	uint32_t len;
	uint32_t nic;
	uint64_t held_ns;
};

struct mark {
	uint64_t epoch;
	uint64_t end;
};

struct nic {
	bool present;
	int fd, room_fd;
	size_t header_bytes;
	bool waits; /* lock: got -ENOBUFS, has not been told of room */
};

struct net_hold {
	pthread_mutex_t out;  /* whoever emits or removes; before `lock` */
	pthread_mutex_t lock; /* all fields below but where said otherwise */

	bool on;       /* written under both, read under either */
	uint8_t *data; /* data, size: written under both, read under either */
	uint64_t size;
	uint64_t limit;
	uint64_t head;
	uint64_t tail;	 /* written under both, read under either */
	uint64_t marked; /* end of the newest mark, or where holding began */
	uint64_t last_epoch;
	bool any_epoch;
	struct mark mark[NR_MARKS];
	uint64_t first_mark, next_mark; /* positions, modulo NR_MARKS */
	uint64_t frames;
	bool near_told; /* the eventfd was raised for the limit, in this epoch */
	struct net_hold_stats stats;

	int event_fd;			   /* fixed */
	struct nic nic[NET_HOLD_MAX_NICS]; /* fixed once the VM runs, but for `waits` */
};

static const uint8_t zero_header[MAX_HEADER_BYTES];

int net_hold_open(struct net_hold **ret)
{
	struct net_hold *hold = calloc(1, sizeof(*hold));

	if (!hold)
		return -ENOMEM;
	hold->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hold->event_fd < 0) {
		int err = -errno;

		free(hold);
		return err;
	}
	pthread_mutex_init(&hold->out, NULL);
	pthread_mutex_init(&hold->lock, NULL);
	*ret = hold;
	return 0;
}

void net_hold_close(struct net_hold *hold)
{
	if (!hold)
		return;
	if (hold->data)
		munmap(hold->data, hold->size);
	close(hold->event_fd);
	pthread_mutex_destroy(&hold->lock);
	pthread_mutex_destroy(&hold->out);
	free(hold);
}

int net_hold_add_nic(struct net_hold *hold, unsigned int nic, int fd, int room_fd,
		     size_t header_bytes)
{
	if (nic >= NET_HOLD_MAX_NICS || header_bytes > MAX_HEADER_BYTES)
		return -EINVAL;
	hold->nic[nic] = (struct nic){
		.present = true,
		.fd = fd,
		.room_fd = room_fd,
		.header_bytes = header_bytes,
	};
	return 0;
}

/* --- the byte ring -------------------------------------------------------------------- */

static void copy_in(struct net_hold *hold, uint64_t pos, const void *src, size_t len)
{
	size_t at = (size_t)(pos % hold->size), first = MIN(len, (size_t)hold->size - at);

	memcpy(hold->data + at, src, first);
	memcpy(hold->data, (const uint8_t *)src + first, len - first);
}

static void copy_out(const struct net_hold *hold, uint64_t pos, void *ret, size_t len)
{
	size_t at = (size_t)(pos % hold->size), first = MIN(len, (size_t)hold->size - at);

	memcpy(ret, hold->data + at, first);
	memcpy((uint8_t *)ret + first, hold->data, len - first);
}

static bool nic_ok(const struct net_hold *hold, unsigned int nic)
{
	return nic < NET_HOLD_MAX_NICS && hold->nic[nic].present;
}

static bool packet_ok(const struct net_hold *hold, unsigned int nic, size_t len)
{
	return nic_ok(hold, nic) && len >= hold->nic[nic].header_bytes + NET_FRAME_MIN &&
	       len <= hold->nic[nic].header_bytes + NET_FRAME_MAX;
}

/* --- in ------------------------------------------------------------------------------- */

/* Raises the eventfd at the first frame of an epoch and when the limit comes near. */
static void tell_output(struct net_hold *hold, uint64_t before)
{
	bool near = hold->head - hold->tail > hold->limit / 4 * 3;

	if (before == hold->marked || (near && !hold->near_told))
		eventfd_write(hold->event_fd, 1);
	hold->near_told |= near;
}

static int put_locked(struct net_hold *hold, unsigned int nic, const void *packet, size_t len)
{
	struct record record = { .len = (uint32_t)len, .nic = nic, .held_ns = clock_now_ns() };
	uint64_t before = hold->head;

	if (hold->head - hold->tail + sizeof(record) + len > hold->limit) {
		hold->stats.limit_hits += !hold->nic[nic].waits;
		hold->nic[nic].waits = true;
		return -ENOBUFS;
	}
	copy_in(hold, hold->head, &record, sizeof(record));
	copy_in(hold, hold->head + sizeof(record), packet, len);
	hold->head += sizeof(record) + len;
	hold->frames++;
	tell_output(hold, before);
	return 0;
}

int net_hold_put(struct net_hold *hold, unsigned int nic, const void *packet, size_t len)
{
	int err;

	if (!packet_ok(hold, nic, len))
		return -EMSGSIZE;
	pthread_mutex_lock(&hold->lock);
	err = hold->on ? put_locked(hold, nic, packet, len) : -ENOTCONN;
	pthread_mutex_unlock(&hold->lock);
	return err;
}

/* --- out, under `out` ----------------------------------------------------------------- */

/* A frame that the tap does not take is lost, as on a wire. */
static void emit(struct net_hold *hold, const struct nic *nic, const struct iovec packet[2])
{
	ssize_t n = writev(nic->fd, packet, packet[1].iov_len ? 2 : 1);

	if (n < 0) {
		pthread_mutex_lock(&hold->lock);
		hold->stats.emit_errors++;
		pthread_mutex_unlock(&hold->lock);
	}
}

static void read_record(const struct net_hold *hold, struct record *ret, struct iovec packet[2])
{
	uint64_t pos = hold->tail + sizeof(*ret);
	size_t at = (size_t)(pos % hold->size), first;

	copy_out(hold, hold->tail, ret, sizeof(*ret));
	first = MIN((size_t)ret->len, (size_t)hold->size - at);
	packet[0] = (struct iovec){ .iov_base = hold->data + at, .iov_len = first };
	packet[1] = (struct iovec){ .iov_base = hold->data, .iov_len = ret->len - first };
}

/* Room has been made: whoever waits is told. */
static void tell_room(struct net_hold *hold)
{
	for (unsigned int i = 0; i < NET_HOLD_MAX_NICS; i++) {
		if (hold->nic[i].waits)
			eventfd_write(hold->nic[i].room_fd, 1);
		hold->nic[i].waits = false;
	}
}

static void remove_record(struct net_hold *hold, const struct record *record)
{
	pthread_mutex_lock(&hold->lock);
	hold->tail += sizeof(*record) + record->len;
	hold->frames--;
	hold->stats.released_frames++;
	hist_add(&hold->stats.hold_time, clock_now_ns() - record->held_ns);
	tell_room(hold);
	pthread_mutex_unlock(&hold->lock);
}

/* Emits what lies before `end`. -ETIME: the deadline came first. */
static int emit_until(struct net_hold *hold, uint64_t end, uint64_t not_after_ns, uint64_t *frames,
		      uint64_t *bytes)
{
	while (hold->tail < end) {
		struct record record;
		struct iovec packet[2];

		read_record(hold, &record, packet);
		/* P3: the last look at the clock before the frame is out of our hands. */
		if (not_after_ns && clock_now_ns() > not_after_ns)
			return -ETIME;
		emit(hold, &hold->nic[record.nic], packet);
		remove_record(hold, &record);
		(*frames)++;
		*bytes += record.len - hold->nic[record.nic].header_bytes;
	}
	return 0;
}

/* Where the newest mark of an epoch up to `epoch` ends; forgets marks up to it. */
static uint64_t released_end(struct net_hold *hold, uint64_t epoch)
{
	uint64_t end;

	pthread_mutex_lock(&hold->lock);
	end = hold->tail;
	while (hold->first_mark != hold->next_mark &&
	       hold->mark[hold->first_mark % NR_MARKS].epoch <= epoch) {
		end = hold->mark[hold->first_mark % NR_MARKS].end;
		hold->first_mark++;
	}
	pthread_mutex_unlock(&hold->lock);
	return end;
}

/* After a deadline the rest belongs to the epoch still: it may be asked for again. */
static void restore_mark(struct net_hold *hold, uint64_t epoch, uint64_t end)
{
	pthread_mutex_lock(&hold->lock);
	if (hold->next_mark - hold->first_mark < NR_MARKS)
		hold->mark[--hold->first_mark % NR_MARKS] = (struct mark){ epoch, end };
	pthread_mutex_unlock(&hold->lock);
}

int net_hold_release(struct net_hold *hold, uint64_t epoch, uint64_t not_after_ns,
		     uint64_t *ret_frames, uint64_t *ret_bytes)
{
	uint64_t end;
	int err;

	*ret_frames = *ret_bytes = 0;
	pthread_mutex_lock(&hold->out);
	end = released_end(hold, epoch);
	err = emit_until(hold, end, not_after_ns, ret_frames, ret_bytes);
	if (err)
		restore_mark(hold, epoch, end);
	pthread_mutex_unlock(&hold->out);
	return err;
}

int net_hold_send(struct net_hold *hold, unsigned int nic, const void *packet, size_t len)
{
	struct iovec whole[2] = { { .iov_base = (void *)(uintptr_t)packet, .iov_len = len } };
	int err;

	pthread_mutex_lock(&hold->out);
	err = net_hold_put(hold, nic, packet, len);
	if (err == -ENOTCONN) {
		emit(hold, &hold->nic[nic], whole);
		err = 0;
	}
	pthread_mutex_unlock(&hold->out);
	return err;
}

int net_hold_inject(struct net_hold *hold, unsigned int nic, const void *frame, size_t len)
{
	struct iovec packet[2] = {
		{ .iov_base = (void *)(uintptr_t)zero_header },
		{ .iov_base = (void *)(uintptr_t)frame, .iov_len = len },
	};

	if (!nic_ok(hold, nic))
		return -ENODEV;
	packet[0].iov_len = hold->nic[nic].header_bytes;
	if (!packet_ok(hold, nic, packet[0].iov_len + len))
		return -EMSGSIZE;
	pthread_mutex_lock(&hold->out);
	emit(hold, &hold->nic[nic], packet);
	pthread_mutex_unlock(&hold->out);
	return 0;
}

uint64_t net_hold_drop(struct net_hold *hold)
{
	uint64_t frames;

	pthread_mutex_lock(&hold->out);
	pthread_mutex_lock(&hold->lock);
	frames = hold->frames;
	hold->frames = 0;
	hold->tail = hold->marked = hold->head;
	hold->first_mark = hold->next_mark;
	hold->near_told = false;
	tell_room(hold);
	pthread_mutex_unlock(&hold->lock);
	pthread_mutex_unlock(&hold->out);
	return frames;
}

/* --- control -------------------------------------------------------------------------- */

int net_hold_mark(struct net_hold *hold, uint64_t epoch)
{
	int err = 0;

	pthread_mutex_lock(&hold->lock);
	if (!hold->on || (hold->any_epoch && epoch <= hold->last_epoch)) {
		err = -EINVAL;
		goto out;
	}
	hold->any_epoch = true;
	hold->last_epoch = epoch;
	hold->near_told = false;
	if (hold->head == hold->marked)
		goto out;
	/* No room for another mark: the newest grows, and its frames wait for this epoch. */
	if (hold->next_mark - hold->first_mark == NR_MARKS)
		hold->next_mark--;
	hold->mark[hold->next_mark++ % NR_MARKS] = (struct mark){ epoch, hold->head };
	hold->marked = hold->head;
out:
	pthread_mutex_unlock(&hold->lock);
	return err;
}

/* Under both locks: the ring moves to larger memory. Returns the old, to be unmapped. */
static uint8_t *move_ring(struct net_hold *hold, uint8_t *data, uint64_t size)
{
	uint64_t used = hold->head - hold->tail;
	uint8_t *old = hold->data;

	if (used)
		copy_out(hold, hold->tail, data, used);
	hold->data = data;
	hold->size = size;
	hold->tail = 0;
	hold->head = used;
	return old;
}

static int hold_on(struct net_hold *hold, uint64_t limit)
{
	uint64_t old_size = hold->size;
	uint8_t *data = NULL;

	/* Never smaller: the last client's frames may be more than this one's limit. Touched
	 * here, before `lock`, so that no frame and no mark waits for the kernel's zeroing. */
	if (limit > old_size) {
		data = mmap(NULL, limit, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (data == MAP_FAILED)
			return -errno;
	}
	pthread_mutex_lock(&hold->lock);
	if (data)
		data = move_ring(hold, data, limit);
	hold->on = true;
	hold->limit = limit;
	/* What the last client marked, with whatever numbers, no epoch of this one covers
	 * yet: it waits for the next mark (P1). */
	hold->marked = hold->tail;
	hold->first_mark = hold->next_mark;
	hold->any_epoch = false;
	hold->near_told = false;
	if (hold->head != hold->tail)
		eventfd_write(hold->event_fd, 1);
	tell_room(hold);
	pthread_mutex_unlock(&hold->lock);
	if (data)
		munmap(data, old_size);
	return 0;
}

static void hold_off(struct net_hold *hold)
{
	uint64_t end, frames = 0, bytes = 0;
	bool more = true;

	while (more) {
		pthread_mutex_lock(&hold->lock);
		end = hold->head;
		more = hold->tail != end;
		/* Frames go past the queue only once it is empty, so order is kept. */
		if (!more)
			hold->on = false;
		pthread_mutex_unlock(&hold->lock);
		emit_until(hold, end, 0, &frames, &bytes);
	}
	pthread_mutex_lock(&hold->lock);
	hold->marked = hold->head;
	hold->first_mark = hold->next_mark;
	hold->any_epoch = false;
	tell_room(hold);
	pthread_mutex_unlock(&hold->lock);
}

int net_hold_set(struct net_hold *hold, bool on, uint64_t limit_bytes, int *ret_event_fd)
{
	int err = 0, event_fd = -1;

	if (on && (limit_bytes < NET_HOLD_MIN_BYTES || limit_bytes > NET_HOLD_MAX_BYTES))
		return -EINVAL;
	if (ret_event_fd) {
		event_fd = fcntl(hold->event_fd, F_DUPFD_CLOEXEC, 0);
		if (event_fd < 0)
			return -errno;
	}
	pthread_mutex_lock(&hold->out);
	if (on)
		err = hold_on(hold, limit_bytes);
	else
		hold_off(hold);
	pthread_mutex_unlock(&hold->out);
	if (err)
		err_close_fd(&event_fd);
	else if (ret_event_fd)
		*ret_event_fd = event_fd;
	return err;
}

void net_hold_stats(struct net_hold *hold, struct net_hold_stats *ret)
{
	pthread_mutex_lock(&hold->lock);
	*ret = hold->stats;
	ret->held_frames = hold->frames;
	ret->held_bytes = hold->head - hold->tail;
	pthread_mutex_unlock(&hold->lock);
}
