/* SPDX-License-Identifier: Apache-2.0 */
/* netbuf/plug.h: what others delete, set down or leave behind under it; see plug_world.h. */
#include "tests/unit/plug_world.h"

#include "base/fault.h"

/* What was in an ifb that goes is lost, as on a wire; nothing goes past. */
static void damaged(struct world *w, const char *damage)
{
	struct netbuf_released done;
	uint64_t before = stats_now(w).faults;
	int heard;

	guest_sends(w, 0, 0, 1);
	assert_int_equal(shell("%s", damage), 0);
	guest_sends(w, 0, 1, 1);
	assert_int_equal(lan_hears(w, 50), -1);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 0, 2, 2);
	assert_true(stats_now(w).faults > before);
	guest_sends(w, 0, 3, 2);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	while ((heard = lan_hears(w, 50)) >= 0)
		assert_int_equal(heard, 1);
	assert_int_equal(netbuf_mark(w->nb, 2), 0);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	/* Those of the first epoch, too, where its mark could not turn all devices. */
	while ((heard = lan_hears(w, 50)) >= 0)
		assert_true(heard == 1 || heard == 2);
	guest_sends(w, 0, 1, 3);
	guest_sends(w, 1, 1, 3);
	assert_int_equal(lan_hears(w, 50), -1);
	assert_int_equal(netbuf_mark(w->nb, 3), 0);
	assert_int_equal(netbuf_release(w->nb, 3, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 3, 3 }, 2);
	assert_int_equal(netbuf_stop(w->nb), 0);
	assert_int_equal(ours_left(), 0);
}

/* The kernel refuses once to let go: nothing is lost, and nothing overtakes what waits. */
static void a_release_refused(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	guest_sends(w, 0, 1, 1);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 0, 1, 2);
	assert_int_equal(netbuf_mark(w->nb, 2), 0);
	setenv("POLLUX_FAULT", "plug.let_go:1:once", 1);
	assert_int_equal(fault_open(), 0);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	assert_int_equal(done.frames, 0);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	assert_int_equal(done.frames, 2);
	lan_hears_only(w, (uint8_t[]){ 1, 2 }, 2);
	unsetenv("POLLUX_FAULT");
	assert_int_equal(fault_open(), 0);
}

static void every_ifb_deleted(void **state)
{
	need_plug();
	damaged(*state,
		"for i in $(ip -br link | grep -o '^plug[0-9.]*'); do ip link del $i; done");
}

static void the_open_ifb_deleted(void **state)
{
	need_plug();
	damaged(*state, "ip link del plug$(ip -o link show guest0 | cut -d: -f1).0");
}

static void the_next_ifb_deleted(void **state)
{
	need_plug();
	damaged(*state, "ip link del plug$(ip -o link show guest1 | cut -d: -f1).1");
}

static void an_ifb_set_down(void **state)
{
	need_plug();
	damaged(*state, "ip link set plug$(ip -o link show guest0 | cut -d: -f1).0 down");
}

/* Then frames do go past: nothing else is left to do than to see it and say so. */
static void the_filter_deleted(void **state)
{
	struct world *w = *state;
	uint64_t before, now;

	need_plug();
	now = before = stats_now(w).faults;
	assert_int_equal(shell("tc qdisc del dev guest0 clsact"), 0);
	/* The kernel destroys the action some time after the qdisc. */
	for (unsigned int i = 0; i < 500 && now == before; i++)
		now = stats_now(w).faults;
	assert_true(now > before);
	guest_sends(w, 0, 0, 1);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_stop(w->nb), 0);
	assert_int_equal(ours_left(), 0);
}

static void a_nic_deleted(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	guest_sends(w, 0, 0, 1);
	guest_sends(w, 1, 0, 2);
	close(w->guest[0]);
	w->guest[0] = 0;
	assert_true(stats_now(w).faults > 0);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	guest_sends(w, 1, 1, 3);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 2 }, 1);
	assert_int_equal(netbuf_mark(w->nb, 2), 0);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 3 }, 1);
	assert_int_equal(netbuf_stop(w->nb), 0);
	assert_int_equal(ours_left(), 0);
}

/* As a guest's driver unplugs the emulated twin of a NIC, when protection is about to begin. */
static void a_nic_deleted_before_the_start(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	assert_int_equal(netbuf_stop(w->nb), 0);
	close(w->guest[0]);
	w->guest[0] = 0;
	assert_int_equal(netbuf_start(w->nb, LIMIT), 0);
	guest_sends(w, 1, 0, 1);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 1 }, 1);
	assert_int_equal(netbuf_stop(w->nb), 0);
	assert_int_equal(ours_left(), 0);
}

/* A NIC that is down takes no frame back: they are lost, and the next epoch goes its way. */
static void a_link_down_amid_a_release(void **state)
{
	struct world *w = *state;
	struct netbuf_released done;

	need_plug();
	for (unsigned int i = 0; i < 500; i++)
		guest_sends(w, 0, i % 5, 1);
	assert_int_equal(netbuf_mark(w->nb, 1), 0);
	assert_int_equal(shell("ip link set guest0 down &"), 0);
	assert_int_equal(netbuf_release(w->nb, 1, 0, &done), 0);
	assert_int_equal(shell("until ip -o link show guest0 | grep -q 'state DOWN'; do sleep 0.1; "
			       "done; ip link set guest0 up"),
			 0);
	while (lan_hears(w, 500) == 1)
		;
	assert_int_equal(stats_now(w).held_frames, 0);
	guest_sends(w, 0, 0, 2);
	assert_int_equal(netbuf_mark(w->nb, 2), 0);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_release(w->nb, 2, 0, &done), 0);
	lan_hears_only(w, (uint8_t[]){ 2 }, 1);
}

static void what_a_killed_run_left(void **state)
{
	struct world *w = *state;

	need_plug();
	netbuf_close(w->nb);
	w->nb = NULL;
	close(w->guest[1]); /* its VM is gone, too */
	w->guest[1] = 0;
	assert_int_equal(shell("ip -br link | grep -c ^plug | grep -qx 8"), 0);
	w->config.nr_devices = 1;
	assert_int_equal(plug_open(w), 0);
	assert_int_equal(shell("ip -br link | grep -c ^plug | grep -qx 4"), 0);
	assert_int_equal(netbuf_start(w->nb, LIMIT), 0);
	guest_sends(w, 0, 1, 1);
	lan_hears_nothing(w);
	assert_int_equal(netbuf_stop(w->nb), 0);
	lan_hears_only(w, (uint8_t[]){ 1 }, 1);
	assert_int_equal(ours_left(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_plug(a_release_refused),
		on_plug(every_ifb_deleted),
		on_plug(the_open_ifb_deleted),
		on_plug(the_next_ifb_deleted),
		on_plug(an_ifb_set_down),
		on_plug(the_filter_deleted),
		on_plug(a_nic_deleted),
		on_plug(a_link_down_amid_a_release),
		on_plug(a_nic_deleted_before_the_start),
		on_plug(what_a_killed_run_left),
	};

	int failed;

	find_out();
	failed = test_main(tests);
	if (!failed && no_plug[0])
		test_skip_all("%s", no_plug);
	return failed;
}
