/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hypervisor/vmm/console.h: what the guest says reaches the log in order, and a log that does
 * not take it holds nobody up. A pipe stands for the slow disk.
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor/vmm/console.h"
#include "hypervisor/vmm/vm.h"
#include "tests/lib/dir.h"

struct fixture {
	struct test_dir dir;
	struct vm vm;
	struct console *console;
	int log; /* the far end of serial.log, a pipe */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct reason why = { 0 };
	char path[128];

	if (test_dir_open(&f->dir))
		return -1;
	snprintf(f->vm.run_dir, sizeof(f->vm.run_dir), "%s", f->dir.path);
	snprintf(path, sizeof(path), "%s/serial.log", f->dir.path);
	gate_init(&f->vm.gate);
	*state = f;
	if (mkfifo(path, 0600))
		return -1;
	f->log = open(path, O_RDWR | O_NONBLOCK);
	if (f->log < 0 || console_open(&f->vm, &f->console, &why))
		return -1;
	return console_start(f->console);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	/* Room for all that is left, so that the thread ends whatever failed. */
	fcntl(f->log, F_SETPIPE_SZ, 1 << 20);
	console_close(f->console);
	close(f->log);
	test_dir_close(&f->dir);
	free(f);
	return 0;
}

static char next(struct fixture *f)
{
	struct pollfd p = { .fd = f->log, .events = POLLIN };
	char c;

	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(f->log, &c, 1), 1);
	return c;
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	char text[16];

	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%u\n", i);
		console_output(f->console, (uint8_t *)text, strlen(text));
		for (const char *c = text; *c; c++)
			assert_int_equal(next(f), *c);
	}
}

/* The number in "[N bytes of output lost]", whose bracket has been read. */
static size_t lost(struct fixture *f)
{
	size_t n = 0;
	char c;

	while ((c = next(f)) != ']')
		if (c >= '0' && c <= '9')
			n = n * 10 + (size_t)(c - '0');
	return n;
}

/* The log takes what a pipe holds, then nothing until all has been said; each byte arrives
 * or is counted. */
static void test_slow_log(void **state)
{
	struct fixture *f = *state;
	const size_t total = 1 << 20;
	size_t seen = 0;
	char c;

	for (size_t i = 0; i < total; i++)
		console_output(f->console, (const uint8_t *)"x", 1);
	while (seen < total) {
		c = next(f);
		seen += c == 'x';
		if (c == '[')
			seen += lost(f);
	}
	assert_int_equal(seen, total);
	console_output(f->console, (const uint8_t *)"y", 1);
	while ((c = next(f)) != 'y')
		assert_true(c == '\r' || c == '\n');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_log, setup, teardown),
	};

	alarm(60); /* who waits for the log waits for ever */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
