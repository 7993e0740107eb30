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
	struct plug_config config = { .nr_devices = settings_nr_nics(s) };
	int r;

	if (config.nr_devices > PLUG_DEVICES_MAX)
		return reason_set(why, EINVAL, "netbuf = plug: %u network cards, at most %u",
				  config.nr_devices, PLUG_DEVICES_MAX);
	for (unsigned int i = 0; i < config.nr_devices; i++)
		p->ops->nic_name(p, i, config.device[i], sizeof(config.device[i]));
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
