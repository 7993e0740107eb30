/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring of lanes for all devices of the VM: lane i is the i-th valve of each, and a mark turns
 * all devices or none, so that P1 needs to look at lanes alone. Where one cannot be turned the
 * others are turned back and the mark is left out: their frames wait longer.
 *
 * `marker` is used by whoever turns, `carrier` by all the rest; `lock` covers the lanes and is
 * never held during a request to the kernel, so a mark waits for no release. It does wait for a
 * repair, which must not turn a device to a lane that was closed meanwhile. The kernel does
 * all requests under one lock of its own (rtnl), for microseconds each.
 */
#include "netbuf/plug.h"

#include <pthread.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "netbuf/netbuf.h"
#include "netbuf/netlink.h"
#include "netbuf/redirect.h"

#define DRAIN_NS      (20 * NS_PER_MS) /* longer only with a stopped device; then not waited for */
#define DRAIN_STEP_NS (100 * NS_PER_US)
#define STOP_DRAIN_NS NS_PER_S
#define NEAR_PERCENT  40u

struct nic {
	struct redirect path;
	uint32_t drops[LANES]; /* as last seen of each valve */
	bool gone;	       /* the device does not exist any more: nothing of it can be sent */
};

struct plug {
	struct netbuf nb; /* first: what callers see */
	struct netlink *marker, *carrier;
	struct plug_config config;
	struct nic nic[PLUG_DEVICES_MAX];
	bool on;
	bool dropped;
	bool amiss; /* carrier's: a repair is due */
	uint64_t limit;

	pthread_mutex_t turning; /* a mark, a repair or a start; before `lock` */
	pthread_mutex_t lock;
	struct lanes lanes;
	bool told;	      /* of output in this epoch */
	bool mark_amiss;      /* a mark could not turn */
	uint64_t held_frames; /* as last looked */
	uint64_t held_bytes;
	uint64_t open_frames;
	struct netbuf_stats stats;
};

static struct plug *from_netbuf(struct netbuf *nb)
{
	return (struct plug *)nb;
}

#define for_each_nic(p, n)                                                                         \
	for (struct nic *n = (p)->nic; n < (p)->nic + (p)->config.nr_devices; n++)                 \
		if (!n->gone)

/* --- looking at the queues ------------------------------------------------------------ */

/* What each reply of a batch is about. */
struct counting {
	struct plug *p;
	struct {
		struct nic *nic;
		unsigned int lane; /* LANE_NONE: the filter's */
		struct valve_count count;
		struct redirect_sight sight;
	} of[NETLINK_BATCH_MAX];
	struct netlink_batch batch;
};

static void take_count(void *opaque, unsigned int i, const struct nlmsghdr *reply)
{
	struct counting *c = opaque;

	if (c->of[i].lane == LANE_NONE)
		redirect_read_sight(reply, &c->of[i].sight);
	else
		valve_read_count(reply, &c->of[i].count);
}

static void ask(struct counting *c, struct nic *n, unsigned int lane)
{
	struct nl_msg *msg = lane == LANE_NONE ? n->path.look : n->path.valve[lane].count;

	if (!msg)
		return;
	c->of[c->batch.n].nic = n;
	c->of[c->batch.n].lane = lane;
	netlink_add(&c->batch, msg);
}

static void ask_lane(struct counting *c, struct plug *p, unsigned int lane)
{
	*c = (struct counting){ .p = p, .batch = { .reply = take_count, .opaque = c } };
	for_each_nic (p, n)
		ask(c, n, lane);
}

static void count_drops(struct plug *p, struct nic *n, unsigned int lane, uint32_t drops)
{
	/* A valve that was made anew counts from zero. */
	p->stats.dropped_frames += drops >= n->drops[lane] ? drops - n->drops[lane] : drops;
	n->drops[lane] = drops;
}

/* Frames and bytes that a lane holds; what is gone holds none. */
static struct valve_count count_lane(struct plug *p, unsigned int lane)
{
	struct valve_count sum = { 0 };
	struct counting c;

	ask_lane(&c, p, lane);
	if (c.batch.n)
		netlink_run(p->carrier, &c.batch);
	for (unsigned int i = 0; i < c.batch.n; i++) {
		if (c.batch.error[i]) {
			p->amiss = true;
			continue;
		}
		sum.frames += c.of[i].count.frames;
		sum.bytes += c.of[i].count.bytes;
		pthread_mutex_lock(&p->lock);
		count_drops(p, c.of[i].nic, lane, c.of[i].count.drops);
		pthread_mutex_unlock(&p->lock);
	}
	return sum;
}

/* The same request to a lane's valves of all devices. */
static int order(struct plug *p, unsigned int lane, bool hold)
{
	struct netlink_batch b = { 0 };
	int r;

	for_each_nic (p, n) {
		struct nl_msg *msg = hold ? n->path.valve[lane].hold : n->path.valve[lane].let_go;

		if (msg)
			netlink_add(&b, msg);
	}
	r = b.n ? netlink_run(p->carrier, &b) : 0;
	if (r)
		p->amiss = true;
	return r;
}

static enum lane_state state_of(struct plug *p, unsigned int lane)
{
	enum lane_state state;

	pthread_mutex_lock(&p->lock);
	state = p->lanes.lane[lane].state;
	pthread_mutex_unlock(&p->lock);
	return state;
}

/* A lane that was let go of is free once it is empty and holds again. */
static bool finish_draining(struct plug *p, unsigned int lane)
{
	if (count_lane(p, lane).frames || order(p, lane, true))
		return false;
	pthread_mutex_lock(&p->lock);
	lanes_free(&p->lanes, lane);
	pthread_mutex_unlock(&p->lock);
	return true;
}

static bool drain(struct plug *p, unsigned int lane, uint64_t patience_ns)
{
	uint64_t until = clock_now_ns() + patience_ns;

	while (!finish_draining(p, lane)) {
		if (p->amiss || clock_now_ns() > until)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = DRAIN_STEP_NS }, NULL);
	}
	return true;
}

/* --- repairing ------------------------------------------------------------------------ */

static bool filter_is_right(struct plug *p)
{
	struct counting c;
	bool right = true;

	ask_lane(&c, p, LANE_NONE);
	if (c.batch.n)
		netlink_run(p->carrier, &c.batch);
	for (unsigned int i = 0; i < c.batch.n; i++) {
		struct redirect *path = &c.of[i].nic->path;

		right = right && !c.batch.error[i] && c.of[i].sight.bound &&
			c.of[i].sight.target == path->valve[p->lanes.open].ifindex;
		for (unsigned int lane = 0; lane < LANES && right; lane++)
			right = valve_is_up(&path->valve[lane]);
	}
	return right;
}

static void repair(struct plug *p)
{
	bool again = false;

	pthread_mutex_lock(&p->turning);
	for_each_nic (p, n) {
		bool changed = false;
		int r = redirect_repair(p->carrier, &n->path, p->lanes.open, &changed);

		if (r == -ENODEV && (n->gone = !redirect_exists(&n->path)))
			changed = true;
		else
			again |= r != 0;
		pthread_mutex_lock(&p->lock);
		p->stats.faults += changed;
		pthread_mutex_unlock(&p->lock);
	}
	pthread_mutex_unlock(&p->turning);
	p->amiss = again;
}

/* All that is done now and then: drained lanes, drops, what is held, what is amiss. */
static void look(struct plug *p)
{
	uint64_t frames = 0, bytes = 0, open_frames = 0;

	for (unsigned int i = 0; i < LANES; i++) {
		enum lane_state state = state_of(p, i);
		struct valve_count count;

		if (state == LANE_FREE || (state == LANE_DRAINING && finish_draining(p, i)))
			continue;
		count = count_lane(p, i);
		frames += count.frames;
		bytes += count.bytes;
		if (state == LANE_OPEN)
			open_frames = count.frames;
	}
	pthread_mutex_lock(&p->lock);
	p->held_frames = frames;
	p->held_bytes = bytes;
	p->open_frames = open_frames;
	p->amiss |= p->mark_amiss;
	p->mark_amiss = false;
	pthread_mutex_unlock(&p->lock);
	if (p->amiss || !filter_is_right(p))
		repair(p);
}

static bool output_waits(struct netbuf *nb)
{
	struct plug *p = from_netbuf(nb);
	uint64_t ticks;
	bool near, first;

	if (read(nb->output_fd, &ticks, sizeof(ticks)) != sizeof(ticks) || !p->on)
		return false;
	look(p);
	pthread_mutex_lock(&p->lock);
	near = p->held_bytes > p->limit * NEAR_PERCENT / 100;
	first = p->open_frames && !p->told;
	p->told |= first;
	pthread_mutex_unlock(&p->lock);
	return near || first;
}

static int stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	struct plug *p = from_netbuf(nb);

	if (!p->on)
		return -ENOTCONN;
	pthread_mutex_lock(&p->lock);
	*ret = p->stats;
	ret->held_frames = p->held_frames;
	ret->held_bytes = p->held_bytes;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* --- marking and releasing ------------------------------------------------------------ */

static int turn_all(struct plug *p, unsigned int lane)
{
	struct netlink_batch b = { 0 };

	for_each_nic (p, n) {
		if (!n->path.turn[lane])
			return -ENODEV;
		netlink_add(&b, n->path.turn[lane]);
	}
	return b.n ? netlink_run(p->marker, &b) : 0;
}

static int mark(struct netbuf *nb, uint64_t epoch)
{
	struct plug *p = from_netbuf(nb);
	unsigned int next, open;
	int r;

	if (!p->on)
		return -EINVAL;
	pthread_mutex_lock(&p->turning);
	pthread_mutex_lock(&p->lock);
	next = lanes_next(&p->lanes);
	open = p->lanes.open;
	pthread_mutex_unlock(&p->lock);
	r = next == LANE_NONE ? 0 : turn_all(p, next);
	if (r) {
		turn_all(p, open);
		next = LANE_NONE;
	}
	pthread_mutex_lock(&p->lock);
	p->mark_amiss |= r != 0;
	p->told = false;
	r = lanes_mark(&p->lanes, epoch, next, clock_now_ns());
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&p->turning);
	return r;
}

/* Where `lane` is closed for good: counted, let go of, waited for. */
static int let_go(struct plug *p, unsigned int lane, uint64_t not_after_ns,
		  struct netbuf_released *done)
{
	struct valve_count count = count_lane(p, lane);
	uint64_t now;
	int r = 0;

	/* P3: the last look at the clock before the frames are out of our hands. */
	now = clock_now_ns();
	if (not_after_ns && now > not_after_ns)
		return -ETIME;
	if (count.frames)
		r = fault_at("plug.let_go") ? -ENOBUFS : order(p, lane, false);
	/* It stays closed, and due: the next release lets go of it, of all of it, once more. */
	if (r)
		return -EAGAIN;
	pthread_mutex_lock(&p->lock);
	lanes_let_go(&p->lanes, lane);
	if (count.frames) {
		p->stats.released_frames += count.frames;
		/* Of the frame that came first, at most: the kernel keeps no time of each. */
		hist_add(&p->stats.hold_ns, now - p->lanes.lane[lane].opened_ns);
	}
	pthread_mutex_unlock(&p->lock);
	done->frames += count.frames;
	done->bytes += count.bytes;
	return drain(p, lane, DRAIN_NS) ? 0 : -EAGAIN;
}

static int release(struct netbuf *nb, uint64_t epoch, uint64_t not_after_ns,
		   struct netbuf_released *ret)
{
	struct plug *p = from_netbuf(nb);
	struct netbuf_released done = { 0, 0 };
	int r = 0;

	if (!p->on)
		return -EINVAL;
	while (!r) {
		unsigned int lane;

		pthread_mutex_lock(&p->lock);
		lane = lanes_due(&p->lanes, epoch);
		pthread_mutex_unlock(&p->lock);
		if (lane == LANE_NONE)
			break;
		r = let_go(p, lane, not_after_ns, &done);
	}
	if (r == -ETIME)
		return r;
	/* A device that takes no frames now: the rest goes with the next release, in order. */
	*ret = done;
	return r == -EAGAIN ? 0 : r;
}

/* --- beginning and end ---------------------------------------------------------------- */

static int arm(struct plug *p, uint64_t every_ns)
{
	struct timespec t = { .tv_sec = (time_t)(every_ns / NS_PER_S),
			      .tv_nsec = (long)(every_ns % NS_PER_S) };
	struct itimerspec timer = { .it_value = t, .it_interval = t };

	return timerfd_settime(p->nb.output_fd, 0, &timer, NULL) < 0 ? -errno : 0;
}

/* All devices turned to one lane, every lane holding, whatever a process before has left. */
static int agree(struct plug *p, unsigned int open)
{
	unsigned int used = 0;
	int r = turn_all(p, open);

	for (unsigned int i = 0; i < LANES && !r; i++) {
		r = order(p, i, true);
		if (count_lane(p, i).frames)
			used |= 1u << i;
	}
	if (r)
		return r;
	pthread_mutex_lock(&p->lock);
	lanes_begin(&p->lanes, open, used, clock_now_ns());
	p->told = false;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int start(struct netbuf *nb, uint64_t limit_bytes)
{
	struct plug *p = from_netbuf(nb);
	unsigned int open = LANE_NONE, lane;
	int r = 0;

	if (p->dropped)
		return -ESHUTDOWN;
	p->limit = MIN(limit_bytes, PLUG_LIMIT_MAX);
	for_each_nic (p, n) {
		redirect_close(&n->path);
		n->path.limit_bytes = (uint32_t)p->limit;
		r = redirect_open(p->carrier, &n->path, &lane, NULL);
		if (r == -ENODEV && (n->gone = !redirect_exists(&n->path)))
			continue;
		if (r)
			return r;
		if (open == LANE_NONE)
			open = lane;
	}
	pthread_mutex_lock(&p->turning);
	r = agree(p, open == LANE_NONE ? 0 : open);
	pthread_mutex_unlock(&p->turning);
	if (!r)
		r = arm(p, p->config.look_ns);
	p->on = !r;
	return r;
}

static int drop(struct netbuf *nb)
{
	struct plug *p = from_netbuf(nb);
	int first = 0;

	p->on = false;
	p->dropped = true;
	arm(p, 0);
	/* The filter stays, with nowhere to go: what the VM still sends is dropped (P3). */
	for_each_nic (p, n) {
		int r = redirect_remove_valves(p->carrier, &n->path);

		first = first ? first : r;
	}
	return first;
}

/* The queues of a lane that nobody asks about any more. */
static void let_all_go(struct plug *p)
{
	uint64_t until = clock_now_ns() + STOP_DRAIN_NS;

	for (unsigned int n = 1; n <= LANES; n++) {
		unsigned int lane = (p->lanes.open + n) % LANES;

		order(p, lane, false);
		while (count_lane(p, lane).frames && clock_now_ns() < until)
			nanosleep(&(struct timespec){ .tv_nsec = DRAIN_STEP_NS }, NULL);
	}
}

/* What a process before has left held is to go out, too. */
static void take_up(struct plug *p)
{
	bool there = false;

	for_each_nic (p, n)
		there |= redirect_is_there(p->carrier, &n->path);
	if (there && !p->on && !p->dropped)
		start(&p->nb, p->limit);
}

static int stop(struct netbuf *nb)
{
	struct plug *p = from_netbuf(nb);
	int first = 0;

	take_up(p);
	arm(p, 0);
	p->on = false;
	let_all_go(p);
	/* Those of a device that is gone as well: something of it may be left. */
	for (unsigned int i = 0; i < p->config.nr_devices; i++) {
		int r = redirect_undo(p->carrier, &p->nic[i].path);

		first = first ? first : r;
	}
	/* What came until then. */
	let_all_go(p);
	for (unsigned int i = 0; i < p->config.nr_devices; i++) {
		int r = redirect_remove_valves(p->carrier, &p->nic[i].path);

		first = first ? first : r;
	}
	return first;
}

static void plug_close(struct netbuf *nb)
{
	struct plug *p = from_netbuf(nb);

	for (unsigned int i = 0; i < p->config.nr_devices; i++)
		redirect_close(&p->nic[i].path);
	err_close_fd(&nb->output_fd);
	netlink_close(p->marker);
	netlink_close(p->carrier);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->turning);
	free(p);
}

static const struct netbuf_ops ops = {
	.start = start,
	.mark = mark,
	.release = release,
	.drop = drop,
	.stop = stop,
	.output_waits = output_waits,
	.stats = stats,
	.close = plug_close,
};

int plug_check(struct reason *why)
{
	struct netlink *nl;
	int r = netlink_open(&nl);

	if (r)
		return reason_set(why, -r, "netbuf = plug: no rtnetlink socket: %s", strerror(-r));
	r = redirect_probe(nl, why);
	netlink_close(nl);
	return r;
}

static int find_devices(struct plug *p, struct reason *why)
{
	for (unsigned int i = 0; i < p->config.nr_devices; i++) {
		struct redirect *path = &p->nic[i].path;

		memcpy(path->device, p->config.device[i], sizeof(path->device));
		if (!redirect_find(path))
			return reason_set(why, ENODEV, "netbuf = plug: there is no device %s",
					  path->device);
	}
	return 0;
}

int netbuf_plug_open(const struct plug_config *config, struct netbuf **ret, struct reason *why)
{
	struct plug *p = calloc(1, sizeof(*p));
	int r;

	assert(config->nr_devices <= PLUG_DEVICES_MAX && config->look_ns);
	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->turning, NULL);
	p->nb.ops = &ops;
	p->config = *config;
	p->limit = PLUG_LIMIT_MAX;
	p->nb.output_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = p->nb.output_fd < 0 ? -errno : netlink_open(&p->marker);
	if (!r)
		r = netlink_open(&p->carrier);
	if (r) {
		reason_set(why, -r, "netbuf = plug: no rtnetlink socket: %s", strerror(-r));
		goto err_close;
	}
	redirect_sweep(p->carrier);
	r = redirect_probe(p->carrier, why);
	if (!r)
		r = find_devices(p, why);
	if (r)
		goto err_close;
	*ret = &p->nb;
	return 0;
err_close:
	plug_close(&p->nb);
	return r;
}
