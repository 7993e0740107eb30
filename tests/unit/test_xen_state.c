/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a domain of Xen: what is written is read again, what is bent is refused. */
#include "tests/lib/test.h"

#include "hypervisor/xen/state.h"

static struct xen_state sample(const void *context, uint32_t len)
{
	struct xen_state s = {
		.tsc_mode = 1,
		.tsc_khz = 2400000,
		.tsc_incarnation = 3,
		.tsc_nsec = UINT64_C(0x1122334455667788),
		.nr_params = 2,
		.context = context,
		.context_len = len,
		.emulator = "model",
		.emulator_len = 5,
	};

	s.param[0] = (struct xen_state_param){ xen_state_params[0], 0xfeffc };
	s.param[1] = (struct xen_state_param){ xen_state_params[7], 0xfeffd };
	return s;
}

static size_t put(uint8_t *room, size_t size, const struct xen_state *s)
{
	struct cursor out = cursor_over(room, size);

	xen_state_put(&out, s);
	assert_true(cursor_ok(&out));
	return (size_t)(out.pos - room);
}

static void test_round_trip(void **state)
{
	uint8_t bytes[256];
	struct xen_state in = sample("context", 7), out;
	size_t len = put(bytes, sizeof(bytes), &in);
	struct reason why;

	(void)state;
	assert_int_equal(len, xen_state_context_offset(2) + 7 + 4 + 5);
	assert_int_equal(xen_state_get(bytes, len, &out, &why), 0);
	assert_int_equal(out.tsc_mode, 1);
	assert_int_equal(out.tsc_khz, 2400000);
	assert_int_equal(out.tsc_incarnation, 3);
	assert_int_equal(out.tsc_nsec, UINT64_C(0x1122334455667788));
	assert_int_equal(out.nr_params, 2);
	assert_int_equal(out.param[1].index, xen_state_params[7]);
	assert_int_equal(out.param[1].value, 0xfeffd);
	assert_int_equal(out.context_len, 7);
	assert_memory_equal(out.context, "context", 7);
	assert_int_equal(out.emulator_len, 5);
	assert_memory_equal(out.emulator, "model", 5);
}

/* What Xen's HVM context looks like from outside. */
static void test_processors_that_are_up(void **state)
{
	static const struct {
		uint16_t type, instance;
		uint32_t len;
	} records[] = { { 1, 0, 24 }, { 2, 0, 40 }, { 3, 1, 0 },
			{ 2, 2, 40 }, { 0, 0, 0 },  { 2, 3, 0 } };
	uint8_t context[256] = { 0 };
	struct cursor out = cursor_over(context, sizeof(context));
	struct xen_state s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
		cursor_put_u16(&out, records[i].type);
		cursor_put_u16(&out, records[i].instance);
		cursor_put_u32(&out, records[i].len);
		cursor_put_room(&out, records[i].len);
	}
	assert_true(cursor_ok(&out));
	s = sample(context, (uint32_t)(out.pos - context));
	assert_true(xen_state_has_vcpu(&s, 0));
	assert_false(xen_state_has_vcpu(&s, 1));
	assert_true(xen_state_has_vcpu(&s, 2));
	assert_false(xen_state_has_vcpu(&s, 3)); /* behind the end */
	for (uint32_t len = 1; len < 128; len++) {
		s.context_len = len;
		assert_true(xen_state_has_vcpu(&s, 0) == (len >= 32 + 48));
		assert_false(xen_state_has_vcpu(&s, 2));
	}
}

/* A PVH guest's. */
static void test_no_emulator(void **state)
{
	uint8_t bytes[256];
	struct xen_state in = sample("context", 7), out;
	struct reason why;

	(void)state;
	in.emulator = NULL;
	in.emulator_len = 0;
	assert_int_equal(xen_state_get(bytes, put(bytes, sizeof(bytes), &in), &out, &why), 0);
	assert_int_equal(out.emulator_len, 0);
}

/* The pause has no room for a copy: the context is written where it belongs. */
static void test_context_in_place(void **state)
{
	uint8_t bytes[256] = { 0 };
	struct xen_state in = sample(bytes + xen_state_context_offset(2), 7), out;
	struct reason why;

	(void)state;
	memcpy(bytes + xen_state_context_offset(2), "context", 7);
	in.emulator = memcpy(bytes + xen_state_context_offset(2) + 7 + 4, "model", 5);
	assert_int_equal(xen_state_get(bytes, put(bytes, sizeof(bytes), &in), &out, &why), 0);
	assert_memory_equal(out.context, "context", 7);
	assert_memory_equal(out.emulator, "model", 5);
}

static void test_no_room(void **state)
{
	uint8_t bytes[64];
	struct xen_state in = sample("context", 7);
	struct cursor out = cursor_over(bytes, sizeof(bytes));

	(void)state;
	xen_state_put(&out, &in);
	assert_false(cursor_ok(&out));
}

static void refused(const uint8_t *bytes, size_t len, const char *words)
{
	struct xen_state out = { .tsc_mode = 77 };
	struct reason why = { "" };

	assert_int_equal(xen_state_get(bytes, len, &out, &why), -EINVAL);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" does not say \"%s\"", why.text, words);
	assert_int_equal(out.tsc_mode, 77);
}

static void test_bad_frames(void **state)
{
	uint8_t bytes[256];
	struct xen_state in = sample("context", 7);
	size_t len = put(bytes, sizeof(bytes), &in);

	(void)state;
	for (size_t n = 0; n < len; n++)
		refused(bytes, n, n < 4 ? "magic" : "few");
	refused(bytes, len + 1, "many");
	bytes[0]++;
	refused(bytes, len, "magic");
}

static void test_bad_values(void **state)
{
	uint8_t bytes[256];
	struct xen_state in = sample("context", 7);
	size_t len;

	(void)state;
	in.param[1].index = in.param[0].index;
	len = put(bytes, sizeof(bytes), &in);
	refused(bytes, len, "twice");
	in.param[1].index = 2; /* HVM_PARAM_STORE_EVTCHN */
	len = put(bytes, sizeof(bytes), &in);
	refused(bytes, len, "parameter 2 is none");
	len = put(bytes, sizeof(bytes), &in);
	bytes[24] = XEN_STATE_PARAMS_MAX + 1; /* how many */
	refused(bytes, len, "at most 64");
	in = sample("", 0);
	len = put(bytes, sizeof(bytes), &in);
	refused(bytes, len, "a context of 0 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_context_in_place),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_bad_frames),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_no_emulator),
		cmocka_unit_test(test_processors_that_are_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
