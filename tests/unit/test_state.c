/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/state.h and the components' one function for both ways: what is saved
 * loads to the same bytes, and a record that is cut, overlong or beyond a bound is bad.
 */
#include "tests/lib/test.h"

#include <string.h>

#include "hypervisor/vmm/chip_state.h"
#include "hypervisor/vmm/state.h"
#include "hypervisor/vmm/vcpu_state.h"

#define ROOM 65536u

struct sample {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool e;
	uint32_t n;
	uint8_t bytes[10];
};

static void visit_sample(void *of, struct state *s)
{
	struct sample *sample = of;

	state_u8(s, &sample->a);
	state_u16(s, &sample->b);
	state_u32(s, &sample->c);
	state_u64(s, &sample->d);
	state_bool(s, &sample->e);
	state_count(s, &sample->n, sizeof(sample->bytes));
	state_bytes(s, sample->bytes, sample->n);
}

static void visit_vcpu(void *of, struct state *s)
{
	vcpu_state_visit(of, s);
}

static void visit_chips(void *of, struct state *s)
{
	chip_state_visit(of, s);
}

typedef void visit_fn(void *of, struct state *s);

static size_t save(visit_fn *visit, void *of, uint8_t *ret)
{
	struct state s = { .at = cursor_over(ret, ROOM) };

	visit(of, &s);
	assert_true(state_ok(&s));
	return (size_t)(s.at.pos - ret);
}

static bool load(visit_fn *visit, void *of, const uint8_t *data, size_t len)
{
	struct state s = { .at = cursor_over(data, len), .loading = true };

	visit(of, &s);
	return cursor_done(&s.at);
}

static void fill(void *of, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)of)[i] = (uint8_t)(i * 7 + 3);
}

static void test_sample(void **state)
{
	/* Static, so that the bytes between the fields are equal too. */
	static struct sample from = { 1, 2, 3, 4, true, 3, "abc" }, to;
	static uint8_t data[ROOM];
	size_t len = save(visit_sample, &from, data);

	(void)state;
	assert_int_equal(len, 1 + 2 + 4 + 8 + 1 + 4 + 3);
	assert_true(load(visit_sample, &to, data, len));
	assert_memory_equal(&from, &to, sizeof(from));
	for (size_t cut = 0; cut < len; cut++)
		assert_false(load(visit_sample, &to, data, cut));
	assert_false(load(visit_sample, &to, data, len + 1));
	data[15] = 2; /* a bool is 0 or 1 */
	assert_false(load(visit_sample, &to, data, len));
	data[15] = 1;
	data[16] = sizeof(from.bytes) + 1; /* a count beyond its bound */
	assert_false(load(visit_sample, &to, data, len + 8));
	assert_int_equal(to.n, 0);
}

static void no_room(void **state)
{
	struct sample from = { 0 };
	uint8_t small[8];
	struct state s = { .at = cursor_over(small, sizeof(small)) };

	(void)state;
	visit_sample(&from, &s);
	assert_false(state_ok(&s));
}

/* Saving, loading into an empty structure and saving again must give the same bytes: that
 * fails when a field is visited twice, forgotten on one way, or cut. */
static void check_round(visit_fn *visit, void *from, void *to)
{
	static uint8_t first[ROOM], second[ROOM];
	size_t len = save(visit, from, first);

	assert_true(load(visit, to, first, len));
	assert_int_equal(save(visit, to, second), len);
	assert_memory_equal(first, second, len);
	for (size_t cut = 0; cut < len; cut += 1 + cut / 16)
		assert_false(load(visit, to, first, cut));
	assert_false(load(visit, to, first, len + 1));
}

static void test_vcpu(void **state)
{
	static struct vcpu_saved from, to;

	(void)state;
	fill(&from, sizeof(from));
	from.xcrs.nr_xcrs = 2;
	from.msrs.header.nmsrs = to.msrs.header.nmsrs = 5;
	for (uint32_t i = 0; i < 5; i++)
		from.msrs.entry[i].index = to.msrs.entry[i].index = 0x100 + i;
	check_round(visit_vcpu, &from, &to);
}

/* Registers are found by their index, in whatever order the other host has them. */
static void test_msrs(void **state)
{
	static struct vcpu_saved from, to;
	static uint8_t data[ROOM];
	size_t len;

	(void)state;
	from.msrs.header.nmsrs = 2;
	from.msrs.entry[0] = (struct kvm_msr_entry){ .index = 8, .data = 80 };
	from.msrs.entry[1] = (struct kvm_msr_entry){ .index = 7, .data = 70 };
	to.msrs.header.nmsrs = 3;
	to.msrs.entry[0] = (struct kvm_msr_entry){ .index = 7 };
	to.msrs.entry[1] = (struct kvm_msr_entry){ .index = 8 };
	to.msrs.entry[2] = (struct kvm_msr_entry){ .index = 9, .data = 99 };
	len = save(visit_vcpu, &from, data);
	assert_true(load(visit_vcpu, &to, data, len));
	assert_int_equal(to.msrs.entry[0].data, 70);
	assert_int_equal(to.msrs.entry[1].data, 80);
	assert_int_equal(to.msrs.entry[2].data, 99);
	/* One that this host does not have cannot be given to the guest. */
	to.msrs.header.nmsrs = 1;
	assert_false(load(visit_vcpu, &to, data, len));
}

static void test_chips(void **state)
{
	static struct chips_saved from, to;

	(void)state;
	fill(&from, sizeof(from));
	check_round(visit_chips, &from, &to);
	assert_int_equal(from.clock_ns, to.clock_ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample), cmocka_unit_test(no_room),
		cmocka_unit_test(test_vcpu),   cmocka_unit_test(test_msrs),
		cmocka_unit_test(test_chips),
	};

	return test_main(tests);
}
