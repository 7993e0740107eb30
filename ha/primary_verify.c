/* SPDX-License-Identifier: Apache-2.0 */
/* `pollux verify` on the primary: what is asked for, and what came of it (verify.h). */
#include "ha/primary.h"

#include <json-c/json.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "ha/local.h"
#include "ha/track.h"
#include "ha/verify.h"
#include "hypervisor/control/control.h"

#define LOOK_NS (200 * NS_PER_MS)

static void set_regions(struct region_sets *s, const struct verify_place *part)
{
	unsigned int shift = region_shift(s->disk_bytes[part->disk]);
	uint64_t first = part->offset >> shift, last = (part->offset + part->bytes - 1) >> shift;

	bitmap_set_range(s->bits[part->disk], first, last - first + 1);
}

/* By the sender. It waits for pollux-vmm, and that for a disk: only to repair. */
static int mark(void *opaque, uint64_t epoch, const struct verify_place *part)
{
	struct engine *e = opaque;
	struct primary *p = e->side;
	cleanup_free struct sources *s = calloc(1, sizeof(*s));
	uint64_t bytes[DISK_MAX] = { 0 };
	struct region_sets sets;
	int err = s ? track_hold(p->track, epoch) : -ENOMEM;

	if (err)
		return err;
	for (unsigned int i = 0; i < p->sources.nr_disks; i++)
		bytes[i] = p->sources.named[i].bytes;
	err = region_sets_open(&sets, bytes, p->sources.nr_disks);
	if (err)
		return err;
	set_regions(&sets, part);
	err = sources_connect(e->settings.run_dir, s, NULL);
	if (!err)
		err = resync_mark(s, &sets, part->disk, NULL);
	sources_close(s);
	region_sets_close(&sets);
	return err;
}

int primary_verify_open(struct engine *e, uint64_t seed)
{
	struct primary *p = e->side;
	struct verify_config config = { .platform = &p->platform,
					.disks = p->sources.named,
					.nr_disks = p->sources.nr_disks,
					.seed = seed,
					.cap = e->settings.resync_cap,
					.mark = p->track ? mark : NULL,
					.opaque = e };

	return verify_open(&config, &p->verify);
}

static void tell(struct engine *e)
{
	struct primary *p = e->side;
	char text[400];

	verify_report_text(&p->verified, text, sizeof(text));
	engine_event(e, p->verified.state == VERIFY_DONE ? "verified" : "verify-broken", "%s",
		     text);
}

void primary_verify_close(struct engine *e)
{
	struct primary *p = e->side;

	if (p->verify)
		primary_verify_tick(e, clock_now_ns());
	if (p->verify && p->verified.state == VERIFY_RUNNING) {
		p->verified.state = VERIFY_BROKEN;
		p->verified.ended_ns = clock_now_ns();
		snprintf(p->verified.reason, sizeof(p->verified.reason),
			 "the connection to the backup has ended");
		tell(e);
	}
	verify_close(p->verify);
	p->verify = NULL;
}

uint64_t primary_verify_tick(struct engine *e, uint64_t now_ns)
{
	struct primary *p = e->side;

	if (!p->verify || p->verified.state != VERIFY_RUNNING)
		return UINT64_MAX;
	verify_get(p->verify, &p->verified);
	if (p->verified.state == VERIFY_RUNNING)
		return now_ns + LOOK_NS;
	tell(e);
	return UINT64_MAX;
}

static bool flag(struct json_object *request, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(request, key, &v) && json_object_get_boolean(v);
}

static struct json_object *refuse(struct engine *e)
{
	char text[200];

	snprintf(text, sizeof(text),
		 "the VM is \"%s\" and not \"protected\": there is no backup "
		 "to compare with",
		 role_state_name(e->role.state));
	return local_refusal("refused", text);
}

struct json_object *primary_verify(struct engine *e, struct json_object *request)
{
	struct primary *p = e->side;
	struct verify_order order = { .memory = flag(request, "memory"),
				      .disks = flag(request, "disks"),
				      .repair = flag(request, "repair") };
	uint64_t number = clock_wall_ns();
	struct json_object *reply;
	int r;

	if (!order.memory && !order.disks)
		return local_refusal("bad-request", "neither memory nor disks are to be compared");
	if (e->role.state != ROLE_PROTECTED)
		return refuse(e);
	if (!p->verify)
		return local_refusal("refused", "the backup's version cannot compare");
	r = verify_begin(p->verify, &order, number);
	if (r == -EBUSY)
		return local_refusal("busy", "the VM is being verified already");
	if (r)
		return local_refusal("failed", strerror(-r));
	engine_event(e, "verify", "begun%s", order.repair ? ", to repair" : "");
	verify_get(p->verify, &p->verified);
	engine_wake_at(e, 0);
	reply = local_ok();
	json_object_object_add(reply, "number", json_object_new_uint64(number));
	return reply;
}
