/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream for libxl's restore, read back record by record as Xen's documents describe it; and
 * that settle() returns only once the reader has taken in what was written before.
 *
 * $XEN_STREAM_OUT names a file that the whole stream is written to: verify-stream-v2 of the
 * Xen tools can look at it.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "hypervisor/xen/stream.h"
#include "tests/unit/xen_sample.h"

static struct xen_description about;
static struct xen_state end_state;

static int setup(void **state)
{
	struct reason why;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	end_state = (struct xen_state){
		.tsc_mode = 1,
		.tsc_khz = 2000000,
		.tsc_nsec = 99,
		.tsc_incarnation = 1,
		.nr_params = 1,
		.context = "twelve bytes",
		.context_len = 12,
		.emulator = "qemu's own",
		.emulator_len = 10,
	};
	end_state.param[0] = (struct xen_state_param){ xen_state_params[0], 0xfeffc };
	return xen_description_parse(xen_sample_text(&xen_sample), &about, &why);
}

static int teardown(void **state)
{
	(void)state;
	xen_description_free(&about);
	return 0;
}

/* --- what was written, read again ------------------------------------------------------------ */

static uint8_t bytes[1 << 20];

static struct cursor whole_stream(void)
{
	const char *path = getenv("XEN_STREAM_OUT");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0644) : memfd_create("stream", 0);
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(xen_stream_open(fd, &about), 0);
	assert_int_equal(xen_stream_allocate(fd, about.range, about.nr_ranges), 0);
	assert_int_equal(xen_stream_settle(fd, about.range[0].first), 0);
	assert_int_equal(xen_stream_end(fd, &end_state), 0);
	n = pread(fd, bytes, sizeof(bytes), 0);
	assert_true(n > 0 && n < (ssize_t)sizeof(bytes));
	close(fd);
	return cursor_over(bytes, (size_t)n);
}

static struct cursor record(struct cursor *in, uint32_t type)
{
	struct cursor body;
	uint32_t len;

	assert_int_equal(cursor_get_u32(in), type);
	len = cursor_get_u32(in);
	body = cursor_over(cursor_get_view(in, len), len);
	for (uint32_t pad = len; pad % 8; pad++)
		assert_int_equal(cursor_get_u8(in), 0);
	assert_true(cursor_ok(in));
	return body;
}

static void check_headers(struct cursor *in)
{
	static const uint8_t libxl[] = "LibxlFmt\0\0\0\2\0\0\0\0\1\0\0\0\0\0\0\0";
	static const uint8_t libxc[] = "\xff\xff\xff\xff\xff\xff\xff\xffXENF\0\0\0\3\0\0\0\0\0\0\0"
				       "\0\2\0\0\0\x0c\0\0\0\4\0\0\0\x11\0\0\0";

	assert_memory_equal(cursor_get_view(in, sizeof(libxl) - 1), libxl, sizeof(libxl) - 1);
	assert_memory_equal(cursor_get_view(in, sizeof(libxc) - 1), libxc, sizeof(libxc) - 1);
}

/* Every page of the ranges once, in order, asked for without content; then those of settle(). */
static void check_pages(struct cursor *in)
{
	uint64_t left = about.nr_pages, at = 0;
	uint32_t range = 0;
	struct cursor body;

	while (left > 0) {
		uint32_t n;

		body = record(in, 1);
		n = cursor_get_u32(&body);
		assert_in_range(n, 1, 1024);
		assert_int_equal(cursor_get_u32(&body), 0);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t gfn = about.range[range].first + at++;

			assert_int_equal(cursor_get_u64(&body), gfn | UINT64_C(0xe) << 60);
			if (at == about.range[range].count) {
				range++;
				at = 0;
			}
		}
		assert_true(cursor_done(&body));
		left -= n;
	}
	body = record(in, 1);
	assert_int_equal(cursor_get_u32(&body), 1024);
}

static void test_whole(void **state)
{
	struct cursor in = whole_stream(), body;

	(void)state;
	check_headers(&in);
	body = record(&in, 17);
	assert_int_equal(cursor_left(&body), 48);
	body = record(&in, 18);
	assert_int_equal(cursor_left(&body), 16);
	record(&in, 16);
	check_pages(&in);
	body = record(&in, 8);
	assert_int_equal(cursor_left(&body), 24);
	assert_int_equal(cursor_get_u32(&body), 1);
	assert_int_equal(cursor_get_u32(&body), 2000000);
	assert_int_equal(cursor_get_u64(&body), 99);
	assert_int_equal(cursor_get_u32(&body), 1);
	body = record(&in, 9);
	assert_memory_equal(cursor_get_view(&body, 12), "twelve bytes", 12);
	body = record(&in, 10);
	assert_int_equal(cursor_get_u32(&body), 1);
	assert_int_equal(cursor_get_u32(&body), 0);
	assert_int_equal(cursor_get_u64(&body), xen_state_params[0]);
	assert_int_equal(cursor_get_u64(&body), 0xfeffc);
	record(&in, 0); /* of libxc */
	body = record(&in, 3);
	assert_int_equal(cursor_get_u32(&body), 2);
	assert_int_equal(cursor_get_u32(&body), 0);
	assert_memory_equal(cursor_get_view(&body, 10), "qemu's own", 10);
	record(&in, 0); /* of libxl */
	assert_true(cursor_done(&in));
}

/* --- settle ------------------------------------------------------------------------------ */

struct reader {
	int fd;
	bool done; /* what came before settle()'s record is read */
};

/* Reads what was allocated as a record, lets the writer run, and only then the rest. */
static void *read_slowly(void *arg)
{
	struct reader *r = arg;
	uint8_t room[16 + 8 * 1024];
	struct timespec moment = { .tv_nsec = 20000000 };

	for (int i = 0; i < 16; i++)
		assert_int_equal(read(r->fd, room, 1), 1);
	nanosleep(&moment, NULL); /* would let a settle() that does not wait come back */
	__atomic_store_n(&r->done, true, __ATOMIC_SEQ_CST);
	while (read(r->fd, room, sizeof(room)) > 0)
		;
	return NULL;
}

static void test_settle_waits(void **state)
{
	static const struct xen_range one = { 5, 1 };
	struct reader r = { 0 };
	pthread_t thread;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fcntl(fds[1], F_SETPIPE_SZ, XEN_STREAM_PIPE_BYTES), 4096);
	r.fd = fds[0];
	assert_int_equal(xen_stream_allocate(fds[1], &one, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_slowly, &r), 0);
	assert_int_equal(xen_stream_settle(fds[1], 5), 0);
	assert_true(__atomic_load_n(&r.done, __ATOMIC_SEQ_CST));
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
}

static void test_reader_gone(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(xen_stream_open(fds[1], &about), -EPIPE);
	assert_int_equal(xen_stream_settle(fds[1], 0), -EPIPE);
	assert_int_equal(xen_stream_end(fds[1], &end_state), -EPIPE);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settle_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_gone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
