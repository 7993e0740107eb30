/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/context.h"

#include "base/blackbox.h"
#include "base/clock.h"
#include "base/log.h"
#include "hypervisor/vmm/chip_state.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vcpu.h"
#include "hypervisor/vmm/vm.h"

/* public/hvm/save.h and public/arch-x86/hvm/save.h: descriptor and header. */
#define TYPE_END	0u
#define TYPE_HEADER	1u
#define HEADER_MAGIC	UINT32_C(0x54381286)
#define HEADER_VERSION	2u
#define HEADER_BYTES	24u
#define CHANGESET	UINT64_C(0x584c504c) /* "PLPX": whose private records these are */
#define DESCRIPTOR_SIZE 8u

/*
 * Counters of two hosts that count equally fast differ by what they were calibrated
 * to; a guest's own clock tolerates more (250 ppm is what KVM takes for equal).
 */
#define TSC_TOLERANCE_PER_MILLE 10u

struct context {
	uint8_t *incoming; /* the bytes that are being loaded */
	uint8_t *before;   /* what the devices were, to go back to */
	size_t before_len;
};

int context_open(struct vm *vm, struct context **ret)
{
	struct context *context = calloc(1, sizeof(*context));

	(void)vm;
	if (!context)
		return -ENOMEM;
	context->incoming = malloc(CONTEXT_MAX_BYTES);
	context->before = malloc(CONTEXT_MAX_BYTES);
	if (!context->incoming || !context->before) {
		context_close(context);
		return -ENOMEM;
	}
	*ret = context;
	return 0;
}

void context_close(struct context *context)
{
	if (!context)
		return;
	free(context->incoming);
	free(context->before);
	free(context);
}

/* --- records ----------------------------------------------------------------------------- */

/* What one record holds: exactly one of the three. */
struct component {
	uint16_t type, instance;
	struct vcpu_saved *vcpu;
	struct chips_saved *chips;
	struct vm_device *dev;
};

static void visit(const struct component *of, struct state *s)
{
	if (of->vcpu)
		vcpu_state_visit(of->vcpu, s);
	else if (of->chips)
		chip_state_visit(of->chips, s);
	else if (of->dev->ops->state)
		of->dev->ops->state(of->dev, s);
}

static void put_descriptor(struct cursor *c, uint16_t type, uint16_t instance, uint32_t length)
{
	cursor_put_u16(c, type);
	cursor_put_u16(c, instance);
	cursor_put_u32(c, length);
}

static int save_record(struct cursor *c, const struct component *of)
{
	struct cursor descriptor = *c;
	struct state s = { 0 };
	uint8_t *start;

	put_descriptor(c, of->type, of->instance, 0);
	start = c->pos;
	s.at = *c;
	visit(of, &s);
	*c = s.at;
	if (!cursor_ok(c))
		return -ENOSPC;
	put_descriptor(&descriptor, of->type, of->instance, (uint32_t)(c->pos - start));
	return 0;
}

/* The record must be the expected one, right, and used to its last byte. */
static int load_record(struct cursor *c, const struct component *of, struct reason *why)
{
	uint16_t type = cursor_get_u16(c), instance = cursor_get_u16(c);
	uint32_t length = cursor_get_u32(c);
	const void *body = cursor_get_view(c, length);
	struct state s = { .loading = true };

	if (!body)
		return reason_set(why, EBADMSG, "state: ends within record 0x%x.%u", of->type,
				  of->instance);
	if (type != of->type || instance != of->instance)
		return reason_set(why, EBADMSG, "state: record 0x%x.%u where 0x%x.%u belongs", type,
				  instance, of->type, of->instance);
	s.at = cursor_over(body, length);
	visit(of, &s);
	if (!cursor_done(&s.at))
		return reason_set(why, EBADMSG, "state: record 0x%x.%u of %u bytes is %s", type,
				  instance, length, cursor_ok(&s.at) ? "too long" : "wrong");
	return 0;
}

/* Calls `each` for every component, in the order of the stream. */
struct walk {
	struct cursor *c;
	struct reason *why;
	bool loading;
};

static int one(struct walk *walk, const struct component *of)
{
	return walk->loading ? load_record(walk->c, of, walk->why) : save_record(walk->c, of);
}

static int walk_devices(struct vm *vm, struct walk *walk)
{
	int err = 0;

	for (struct vm_device *dev = vm->devices; dev && !err; dev = dev->next) {
		struct component of = { .type = dev->type, .instance = dev->instance, .dev = dev };

		err = one(walk, &of);
	}
	return err;
}

static int walk_machine(struct vm *vm, struct walk *walk)
{
	struct component chips = { .type = STATE_CHIPS, .chips = &vm->chips->saved };
	int err = 0;

	for (unsigned int i = 0; i < vm->config.nr_vcpus && !err; i++) {
		struct component of = { .type = STATE_VCPU,
					.instance = (uint16_t)i,
					.vcpu = &vm->vcpu[i].saved };

		err = one(walk, &of);
	}
	return err ? err : one(walk, &chips);
}

/* --- saving ------------------------------------------------------------------------------ */

static int take_machine(struct vm *vm)
{
	uint64_t now = clock_now_ns();
	int err = 0;

	for (unsigned int i = 0; i < vm->config.nr_vcpus && !err; i++) {
		err = vcpu_state_take(vm->vcpu[i].fd, &vm->vcpu[i].saved);
		vm->vcpu[i].taken_ns = now;
	}
	return err ? err : chip_state_take(vm, &vm->chips->saved);
}

int context_save(struct vm *vm, uint8_t *ret, size_t max, size_t *ret_len)
{
	struct cursor c = cursor_over(ret, max);
	struct walk walk = { .c = &c };
	int err = take_machine(vm);

	if (err)
		return err;
	put_descriptor(&c, TYPE_HEADER, 0, HEADER_BYTES);
	cursor_put_u32(&c, HEADER_MAGIC);
	cursor_put_u32(&c, HEADER_VERSION);
	cursor_put_u64(&c, CHANGESET);
	cursor_put_u32(&c, 0); /* Xen: CPUID leaf 1, of its host */
	cursor_put_u32(&c, vm->chips->tsc_khz);
	err = walk_machine(vm, &walk);
	if (!err)
		err = walk_devices(vm, &walk);
	if (err)
		return err;
	put_descriptor(&c, TYPE_END, 0, 0);
	if (!cursor_ok(&c))
		return -ENOSPC;
	*ret_len = (size_t)(c.pos - ret);
	blackbox_record("state", *ret_len, 0);
	return 0;
}

/* --- loading ----------------------------------------------------------------------------- */

static int load_header(struct cursor *c, struct reason *why)
{
	uint16_t type = cursor_get_u16(c), instance = cursor_get_u16(c);
	uint32_t length = cursor_get_u32(c), magic = cursor_get_u32(c);
	uint32_t version = cursor_get_u32(c);
	uint64_t changeset = cursor_get_u64(c);

	cursor_get_u64(c);
	if (!cursor_ok(c) || type != TYPE_HEADER || instance != 0 || length != HEADER_BYTES ||
	    magic != HEADER_MAGIC || changeset != CHANGESET)
		return reason_set(why, EBADMSG, "state: does not begin with our header");
	if (version != HEADER_VERSION)
		return reason_set(why, EPROTONOSUPPORT, "state: version %u, this host knows %u",
				  version, HEADER_VERSION);
	return 0;
}

static int load_end(struct cursor *c, struct reason *why)
{
	uint16_t type = cursor_get_u16(c), instance = cursor_get_u16(c);
	uint32_t length = cursor_get_u32(c);

	if (!cursor_done(c) || type != TYPE_END || instance != 0 || length != 0)
		return reason_set(why, EBADMSG, "state: does not end where it should");
	return 0;
}

/* A guest has looked at its processors at boot and must find the same ones here. */
static int check_host(struct vm *vm, struct reason *why)
{
	const struct chips_saved *saved = &vm->chips->saved;
	uint64_t own = vm->chips->tsc_khz, theirs = saved->tsc_khz;
	uint64_t apart = own > theirs ? own - theirs : theirs - own;

	if (saved->cpuid_digest != vm->chips->cpuid_digest)
		return reason_set(why, EXDEV, "state: the processors of the two hosts differ");
	if (apart * 1000 > own * TSC_TOLERANCE_PER_MILLE)
		log_warning("event=tsc_differs own_khz=%llu saved_khz=%llu",
			    (unsigned long long)own, (unsigned long long)theirs);
	return 0;
}

static void restore_devices(struct vm *vm)
{
	struct context *context = vm->context;
	struct cursor c = cursor_over(context->before, context->before_len);
	struct walk walk = { .c = &c, .loading = true };
	int err = walk_devices(vm, &walk);

	assert(!err); /* what was just saved loads */
	(void)err;
}

static int parse(struct vm *vm, struct cursor *c, struct reason *why)
{
	struct walk walk = { .c = c, .why = why, .loading = true };
	int err = load_header(c, why);

	if (!err)
		err = walk_machine(vm, &walk);
	if (!err)
		err = check_host(vm, why);
	if (!err)
		err = walk_devices(vm, &walk);
	return err ? err : load_end(c, why);
}

/* What the processors have now, again: where a refused load has left its traces. */
static int give_machine(struct vm *vm)
{
	int err = 0;

	for (unsigned int i = 0; i < vm->config.nr_vcpus && !err; i++)
		err = vcpu_state_give(vm->vcpu[i].fd, &vm->vcpu[i].saved);
	return err ? err : chip_state_give(vm, &vm->chips->saved);
}

static int save_devices(struct vm *vm)
{
	struct context *context = vm->context;
	struct cursor c = cursor_over(context->before, CONTEXT_MAX_BYTES);
	struct walk walk = { .c = &c };
	int err = walk_devices(vm, &walk);

	context->before_len = (size_t)(c.pos - context->before);
	return err;
}

static void power_on_machine(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->config.nr_vcpus; i++)
		vm->vcpu[i].saved = vm->vcpu[i].power_on;
	vm->chips->saved = vm->chips->power_on;
}

int context_load(struct vm *vm, const uint8_t *data, size_t len, struct reason *why)
{
	struct context *context = vm->context;
	struct cursor c = cursor_over(context->incoming, len);
	int err;

	if (len > CONTEXT_MAX_BYTES)
		return reason_set(why, E2BIG, "state: %zu bytes, at most %llu", len,
				  (unsigned long long)CONTEXT_MAX_BYTES);
	memcpy(context->incoming, data, len);
	err = save_devices(vm);
	if (err)
		return err;
	/* The VM has not run: what a record leaves out is as at power-on. */
	power_on_machine(vm);
	err = parse(vm, &c, why);
	if (!err) {
		err = give_machine(vm);
		if (err)
			reason_set(why, -err, "state: KVM refuses it: %s", strerror(-err));
	}
	if (err) {
		restore_devices(vm);
		power_on_machine(vm);
		give_machine(vm);
	}
	return err;
}
