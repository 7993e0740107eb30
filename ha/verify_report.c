/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/verify_report.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>

static bool is_beside(const struct verify_place *p, const struct verify_place *unit)
{
	return p->memory == unit->memory && p->disk == unit->disk &&
	       p->offset + p->bytes == unit->offset;
}

void verify_report_found(struct verify_report *r, const struct verify_place *unit)
{
	struct verify_count *count = unit->memory ? &r->memory : &r->disks;
	struct verify_place *last = r->nr_places ? &r->place[r->nr_places - 1] : NULL;

	count->different++;
	if (last && is_beside(last, unit))
		last->bytes += unit->bytes;
	else if (r->nr_places < VERIFY_PLACES_MAX)
		r->place[r->nr_places++] = *unit;
	else
		r->more = true;
}

void verify_report_repaired(struct verify_report *r, const struct verify_place *unit)
{
	struct verify_count *count = unit->memory ? &r->memory : &r->disks;

	count->repaired++;
	for (unsigned int i = 0; i < r->nr_places; i++) {
		struct verify_place *p = &r->place[i];

		if (p->memory == unit->memory && p->disk == unit->disk &&
		    unit->offset >= p->offset && unit->offset - p->offset < p->bytes)
			p->repaired_bytes += unit->bytes;
	}
}

uint64_t verify_report_left(const struct verify_report *r)
{
	return r->memory.different - r->memory.repaired + r->memory.unsettled + r->disks.different -
	       r->disks.repaired + r->disks.unsettled;
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static struct json_object *count_json(const struct verify_count *c)
{
	struct json_object *o = json_object_new_object();

	add_u64(o, "bytes", c->bytes);
	add_u64(o, "done_bytes", c->done_bytes);
	add_u64(o, "different", c->different);
	add_u64(o, "repaired", c->repaired);
	add_u64(o, "unsettled", c->unsettled);
	return o;
}

static struct json_object *place_json(const struct verify_place *p)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "disk", p->memory ? NULL : json_object_new_uint64(p->disk));
	add_u64(o, "offset", p->offset);
	add_u64(o, "bytes", p->bytes);
	json_object_object_add(o, "repaired",
			       json_object_new_boolean(p->repaired_bytes >= p->bytes));
	return o;
}

struct json_object *verify_report_json(const struct verify_report *r, uint64_t now_ns)
{
	static const char *const states[] = { "none", "running", "done", "broken" };
	struct json_object *o, *places;

	if (r->state == VERIFY_NONE)
		return NULL;
	o = json_object_new_object();
	places = json_object_new_array();
	json_object_object_add(o, "state", json_object_new_string(states[r->state]));
	add_u64(o, "number", r->number);
	json_object_object_add(o, "reason",
			       r->reason[0] ? json_object_new_string(r->reason) : NULL);
	json_object_object_add(o, "repair", json_object_new_boolean(r->order.repair));
	json_object_object_add(o, "memory", r->order.memory ? count_json(&r->memory) : NULL);
	json_object_object_add(o, "disks", r->order.disks ? count_json(&r->disks) : NULL);
	add_u64(o, "on_drbd", r->on_drbd);
	add_u64(o, "left", verify_report_left(r));
	for (unsigned int i = 0; i < r->nr_places; i++)
		json_object_array_add(places, place_json(&r->place[i]));
	json_object_object_add(o, "places", places);
	json_object_object_add(o, "more_places", json_object_new_boolean(r->more));
	add_u64(o, "took_ns", (r->ended_ns ? r->ended_ns : now_ns) - r->began_ns);
	json_object_object_add(o, "age_ns",
			       r->ended_ns ? json_object_new_uint64(now_ns - r->ended_ns) : NULL);
	return o;
}

static const char *verdict(const struct verify_report *r)
{
	if (r->state == VERIFY_BROKEN)
		return r->reason;
	if (verify_report_left(r))
		return "the backup differs";
	return r->memory.different + r->disks.different ? "the backup differed, and was repaired"
							: "no difference";
}

void verify_report_text(const struct verify_report *r, char *ret, unsigned int room)
{
	const struct verify_count *m = &r->memory, *d = &r->disks;

	snprintf(ret, room,
		 "%s: of %" PRIu64 " bytes of memory %" PRIu64 " pages, of %" PRIu64
		 " bytes of disks %" PRIu64 " chunks differed; repaired %" PRIu64 " and %" PRIu64
		 ", not settled %" PRIu64 " and %" PRIu64,
		 verdict(r), m->done_bytes, m->different, d->done_bytes, d->different, m->repaired,
		 d->repaired, m->unsettled, d->unsettled);
}
