/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/output.h"

#include <stdio.h>

#include "base/clock.h"
#include "ha/platform.h"
#include "netbuf/hold.h"
#include "netbuf/netbuf.h"
#include "netbuf/plug.h"

/* Looks at the kernel's queues: in kemari mode output is noticed only then. */
#define LOOK_MIN_NS NS_PER_MS
#define LOOK_MAX_NS (10 * NS_PER_MS)

static int open_hold(const struct settings *s, struct output *ret, struct reason *why)
{
	int r = netbuf_hold_open(s->run_dir, &ret->netbuf);

	if (r)
		return reason_set(why, -r, "%s: pollux-vmm cannot hold output: %s", s->run_dir,
				  strerror(-r));
	ret->name = "hold";
	ret->limit_bytes = s->hold_limit_bytes;
	return 0;
}

static int open_plug(const struct settings *s, const struct platform *p, struct output *ret,
		     struct reason *why)
{
	unsigned int nr_nics = settings_nr_nics(s);
	struct plug_config config = { 0 };
	int r;

	if (2 * nr_nics > PLUG_DEVICES_MAX)
		return reason_set(why, EINVAL, "netbuf = plug: %u network cards, at most %u",
				  nr_nics, PLUG_DEVICES_MAX / 2);
	for (unsigned int i = 0; i < nr_nics; i++) {
		char(*next)[VALVE_NAME_ROOM] = &config.device[config.nr_devices++];

		p->ops->nic_name(p, i, *next, sizeof(*next));
		if (p->ops->nic_twin && p->ops->nic_twin(p, i, *(next + 1), sizeof(*next)))
			config.nr_devices++;
	}
	config.look_ns = s->mode == EPOCH_KEMARI
				 ? MIN(MAX(s->min_interval_ns / 2, LOOK_MIN_NS), LOOK_MAX_NS)
				 : LOOK_MAX_NS;
	r = netbuf_plug_open(&config, &ret->netbuf, why);
	if (r)
		return r;
	ret->name = "plug";
	ret->limit_bytes = plug_limit_bytes(&config, s->interval_ns, s->hold_limit_bytes);
	return 0;
}

int output_open(const struct settings *s, const struct platform *p, struct output *ret,
		struct reason *why)
{
	if (s->netbuf == SETTINGS_NETBUF_HOLD && !p->ops->holds_output)
		return reason_set(why, ENOTSUP,
				  "netbuf = hold: not for a VM of %s, whose output "
				  "only plug can hold",
				  p->ops->name);
	if (s->netbuf == SETTINGS_NETBUF_PLUG || !p->ops->holds_output)
		return open_plug(s, p, ret, why);
	return open_hold(s, ret, why);
}
