/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/state.h"

#include <xen/xen.h>

#include <xen/hvm/params.h>
#include <xen/hvm/save.h>

const uint32_t xen_state_params[] = {
	HVM_PARAM_STORE_PFN,
	HVM_PARAM_IOREQ_PFN,
	HVM_PARAM_BUFIOREQ_PFN,
	HVM_PARAM_PAGING_RING_PFN,
	HVM_PARAM_MONITOR_RING_PFN,
	HVM_PARAM_SHARING_RING_PFN,
	HVM_PARAM_VM86_TSS_SIZED,
	HVM_PARAM_CONSOLE_PFN,
	HVM_PARAM_ACPI_IOPORTS_LOCATION,
	HVM_PARAM_VIRIDIAN,
	HVM_PARAM_IDENT_PT,
	HVM_PARAM_VM_GENERATION_ID_ADDR,
	HVM_PARAM_IOREQ_SERVER_PFN,
	HVM_PARAM_NR_IOREQ_SERVER_PAGES,
	HVM_PARAM_X87_FIP_WIDTH,
	HVM_PARAM_MCA_CAP,
};
const unsigned int xen_state_nr_params = ARRAY_SIZE(xen_state_params);
static_assert(ARRAY_SIZE(xen_state_params) <= XEN_STATE_PARAMS_MAX, "a state has room for all");

static void put_counted(struct cursor *out, const void *bytes, uint32_t len)
{
	void *room;

	cursor_put_u32(out, len);
	room = cursor_put_room(out, len);
	if (len && room && room != bytes)
		memcpy(room, bytes, len);
}

void xen_state_put(struct cursor *out, const struct xen_state *state)
{
	assert(state->nr_params <= XEN_STATE_PARAMS_MAX);
	cursor_put_u32(out, XEN_STATE_MAGIC);
	cursor_put_u32(out, state->tsc_mode);
	cursor_put_u32(out, state->tsc_khz);
	cursor_put_u64(out, state->tsc_nsec);
	cursor_put_u32(out, state->tsc_incarnation);
	cursor_put_u32(out, state->nr_params);
	for (uint32_t i = 0; i < state->nr_params; i++) {
		cursor_put_u64(out, state->param[i].index);
		cursor_put_u64(out, state->param[i].value);
	}
	put_counted(out, state->context, state->context_len);
	put_counted(out, state->emulator, state->emulator_len);
}

static bool is_param(uint64_t index)
{
	for (unsigned int i = 0; i < xen_state_nr_params; i++)
		if (xen_state_params[i] == index)
			return true;
	return false;
}

/* Others than those would set what is this host's to say, such as event channels. */
static int get_params(struct cursor *in, struct xen_state *s, struct reason *why)
{
	s->nr_params = cursor_get_u32(in);
	if (s->nr_params > XEN_STATE_PARAMS_MAX)
		return reason_set(why, EINVAL, "state: %u parameters, at most %u", s->nr_params,
				  XEN_STATE_PARAMS_MAX);
	for (uint32_t i = 0; i < s->nr_params; i++) {
		s->param[i].index = cursor_get_u64(in);
		s->param[i].value = cursor_get_u64(in);
		if (cursor_ok(in) && !is_param(s->param[i].index))
			return reason_set(why, EINVAL, "state: parameter %llu is none of a state's",
					  (unsigned long long)s->param[i].index);
		for (uint32_t j = 0; j < i && cursor_ok(in); j++)
			if (s->param[j].index == s->param[i].index)
				return reason_set(why, EINVAL, "state: parameter %llu comes twice",
						  (unsigned long long)s->param[i].index);
	}
	return 0;
}

int xen_state_get(const void *bytes, size_t len, struct xen_state *ret, struct reason *why)
{
	struct cursor in = cursor_over(bytes, len);
	struct xen_state s = { 0 };
	uint32_t magic = cursor_get_u32(&in);
	int err;

	if (len > XEN_STATE_MAX)
		return reason_set(why, EINVAL, "state: %zu bytes, at most %u", len, XEN_STATE_MAX);
	if (magic != XEN_STATE_MAGIC)
		return reason_set(why, EINVAL, "state: magic %08x, not %08x", magic,
				  XEN_STATE_MAGIC);
	s.tsc_mode = cursor_get_u32(&in);
	s.tsc_khz = cursor_get_u32(&in);
	s.tsc_nsec = cursor_get_u64(&in);
	s.tsc_incarnation = cursor_get_u32(&in);
	err = get_params(&in, &s, why);
	if (err)
		return err;
	s.context_len = cursor_get_u32(&in);
	s.context = cursor_get_view(&in, s.context_len);
	s.emulator_len = cursor_get_u32(&in);
	s.emulator = cursor_get_view(&in, s.emulator_len);
	if (!cursor_done(&in))
		return reason_set(why, EINVAL, "state: its %zu bytes are too %s", len,
				  cursor_ok(&in) ? "many" : "few");
	if (s.context_len == 0 || s.context_len > XEN_STATE_CONTEXT_MAX)
		return reason_set(why, EINVAL, "state: a context of %u bytes, between 1 and %u",
				  s.context_len, XEN_STATE_CONTEXT_MAX);
	if (s.emulator_len > XEN_STATE_EMULATOR_MAX)
		return reason_set(why, EINVAL, "state: the device model's has %u bytes, at most %u",
				  s.emulator_len, XEN_STATE_EMULATOR_MAX);
	*ret = s;
	return 0;
}

/* Records, each behind {u16 type, u16 instance, u32 length}: Xen's public/hvm/save.h. */
bool xen_state_has_vcpu(const struct xen_state *state, uint32_t vcpu)
{
	struct cursor in = cursor_over(state->context, state->context_len);

	for (;;) {
		uint16_t type = cursor_get_u16(&in), instance = cursor_get_u16(&in);
		uint32_t len = cursor_get_u32(&in);

		if (!cursor_get_view(&in, len) || !cursor_ok(&in) || type == HVM_SAVE_CODE(END))
			return false;
		if (type == HVM_SAVE_CODE(CPU) && instance == vcpu)
			return true;
	}
}
