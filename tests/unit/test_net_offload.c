/* SPDX-License-Identifier: Apache-2.0 */
/* hypervisor/vmm/net_offload.h: what a header may say, by what was negotiated (P4). */
#include "tests/lib/test.h"

#include <linux/if_tun.h>
#include <string.h>

#include "base/err.h"
#include "hypervisor/vmm/net_offload.h"

#define OUT_ALL                                                                                    \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_HOST_TSO4 | NET_OFFLOAD_HOST_TSO6 | NET_OFFLOAD_HOST_ECN)
#define IN_ALL                                                                                     \
	(NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_TSO4 | NET_OFFLOAD_GUEST_TSO6 |                \
	 NET_OFFLOAD_GUEST_ECN)

#define MSS   1448 & 0xff, 1448 >> 8
#define FRAME 9000u
#define TCP4                                                                                       \
	{                                                                                          \
		1, 1, 66, 0, MSS, 34, 0, 16, 0, 0, 0                                               \
	}
#define TCP6                                                                                       \
	{                                                                                          \
		1, 4, 86, 0, MSS, 54, 0, 16, 0, 0, 0                                               \
	}
#define ECN4                                                                                       \
	{                                                                                          \
		1, 0x81, 66, 0, MSS, 34, 0, 16, 0, 0, 0                                            \
	}
#define CSUM                                                                                       \
	{                                                                                          \
		1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0                                               \
	}

struct sample {
	const char *what;
	uint64_t accepted;
	uint8_t header[NET_OFFLOAD_HEADER_BYTES];
	bool ok;
};

static void test_out(void **state)
{
	static const struct sample samples[] = {
		{ "plain", 0, { 0 }, true },
		{ "plain, to whom all is allowed", OUT_ALL, { 0 }, true },
		{ "a checksum", NET_OFFLOAD_CSUM, CSUM, true },
		{ "a checksum unasked", OUT_ALL & ~NET_OFFLOAD_CSUM, CSUM, false },
		{ "v4", NET_OFFLOAD_CSUM | NET_OFFLOAD_HOST_TSO4, TCP4, true },
		{ "v4 unasked", OUT_ALL & ~NET_OFFLOAD_HOST_TSO4, TCP4, false },
		{ "v4 without checksums", NET_OFFLOAD_HOST_TSO4, TCP4, false },
		{ "v6", OUT_ALL, TCP6, true },
		{ "v6 unasked", OUT_ALL & ~NET_OFFLOAD_HOST_TSO6, TCP6, false },
		{ "ECN", OUT_ALL, ECN4, true },
		{ "ECN unasked", OUT_ALL & ~NET_OFFLOAD_HOST_ECN, ECN4, false },
		{ "what the guest takes is not what it may send", IN_ALL, TCP4, false },
		{ "ECN of nothing", OUT_ALL, { 1, 0x80, 66, 0, MSS, 34, 0, 16 }, false },
		{ "UDP", OUT_ALL, { 1, 3, 66, 0, MSS, 34, 0, 16 }, false },
		{ "an unknown kind", OUT_ALL, { 1, 0x7f, 66, 0, MSS, 34, 0, 16 }, false },
		{ "segments of nothing", OUT_ALL, { 1, 1, 66, 0, 0, 0, 34, 0, 16 }, false },
		{ "segments without checksum", OUT_ALL, { 0, 1, 66, 0, MSS, 34, 0, 16 }, false },
		{ "headers beyond the frame", OUT_ALL, { 1, 1, 0, 0x80, MSS, 34, 0, 16 }, false },
		{ "the last checksum", OUT_ALL, { 1, 0, 0, 0, 0, 0, 0x26, 0x23, 0, 0 }, true },
		{ "one beyond it", OUT_ALL, { 1, 0, 0, 0, 0, 0, 0x26, 0x23, 1, 0 }, false },
		{ "far beyond", OUT_ALL, { 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		uint8_t header[NET_OFFLOAD_HEADER_BYTES];

		memcpy(header, samples[i].header, sizeof(header));
		if (net_offload_out(samples[i].accepted, header, FRAME) != samples[i].ok)
			fail_msg("%s: %s", samples[i].what, samples[i].ok ? "refused" : "passed");
		if (samples[i].ok)
			assert_memory_equal(header, samples[i].header, sizeof(header));
	}
}

/* What has no meaning is not passed on. */
static void test_out_cleared(void **state)
{
	static const uint8_t zeros[NET_OFFLOAD_HEADER_BYTES];
	uint8_t header[NET_OFFLOAD_HEADER_BYTES];

	(void)state;
	memset(header, 0xff, sizeof(header));
	header[0] = 0xfe;
	header[1] = 0;
	assert_true(net_offload_out(OUT_ALL, header, FRAME));
	assert_memory_equal(header, zeros, sizeof(header));
}

static void test_in(void **state)
{
	static const struct sample samples[] = {
		{ "plain", 0, { [10] = 1 }, true },
		{ "a checksum", NET_OFFLOAD_GUEST_CSUM, CSUM, true },
		{ "a checksum unasked", OUT_ALL, CSUM, false },
		{ "v4", NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_TSO4, TCP4, true },
		{ "v4 unasked", IN_ALL & ~NET_OFFLOAD_GUEST_TSO4, TCP4, false },
		{ "v4 without checksums", NET_OFFLOAD_GUEST_TSO4, TCP4, false },
		{ "v6", IN_ALL, TCP6, true },
		{ "v6 unasked", IN_ALL & ~NET_OFFLOAD_GUEST_TSO6, TCP6, false },
		{ "ECN", IN_ALL, ECN4, true },
		{ "ECN unasked", IN_ALL & ~NET_OFFLOAD_GUEST_ECN, ECN4, false },
		{ "checked already", NET_OFFLOAD_GUEST_CSUM, { 2, [10] = 1 }, true },
	};
	uint8_t checked[NET_OFFLOAD_HEADER_BYTES] = { 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		uint8_t header[NET_OFFLOAD_HEADER_BYTES];

		memcpy(header, samples[i].header, sizeof(header));
		if (net_offload_in(samples[i].accepted, header) != samples[i].ok)
			fail_msg("%s: %s", samples[i].what, samples[i].ok ? "refused" : "passed");
		if (!samples[i].ok)
			continue;
		assert_memory_equal(header, samples[i].header, 10);
		assert_int_equal(header[10], 1);
	}
	assert_true(net_offload_in(0, checked));
	assert_int_equal(checked[0], 0);
	net_offload_set_buffers(checked, 0x1234);
	assert_int_equal(checked[10], 0x34);
	assert_int_equal(checked[11], 0x12);
}

static void test_tap(void **state)
{
	(void)state;
	assert_int_equal(net_offload_tap(0), 0);
	assert_int_equal(net_offload_tap(OUT_ALL), 0);
	assert_int_equal(net_offload_tap(IN_ALL),
			 TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
	assert_int_equal(net_offload_tap(IN_ALL & ~NET_OFFLOAD_GUEST_CSUM), 0);
	assert_int_equal(net_offload_tap(NET_OFFLOAD_GUEST_CSUM | NET_OFFLOAD_GUEST_ECN),
			 TUN_F_CSUM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out),
		cmocka_unit_test(test_out_cleared),
		cmocka_unit_test(test_in),
		cmocka_unit_test(test_tap),
	};

	return test_main(tests);
}
