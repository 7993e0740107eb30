/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checksum's state lies on the stack. What others left there, be it that of a checksum by the
 * same seed, of which half is overwritten, makes no checksum another one.
 */
#include "tests/lib/test.h"

#include "ha/frame.h"

#define SEED UINT64_C(0x1122334455667788)

/* In each line of 64 bytes the same word: the state is aligned to them. */
static __attribute__((noinline)) void soil_stack(unsigned int word)
{
	volatile uint64_t left[1024] __attribute__((aligned(64)));

	for (unsigned int i = 0; i < ARRAY_SIZE(left); i++)
		left[i] = i % 8 == word ? SEED : 0;
}

static void test_soiled_stack(void **state)
{
	static const uint8_t bytes[1000]; /* a short one is summed in another way */
	const struct frame_body body = { .tail = bytes, .tail_len = sizeof(bytes) };
	uint8_t header[9][PROTO_HEADER_BYTES];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(header); i++) {
		struct frame f = { .type = PROTO_STATE };
		struct frame_stream s;

		frame_stream_init(&s);
		s.seed = SEED;
		soil_stack(8 - i);
		assert_int_equal(frame_encode(&s, &f, &body, header[i], NULL), 0);
		assert_memory_equal(header[i], header[0], PROTO_HEADER_BYTES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_soiled_stack),
	};

	return test_main(tests);
}
