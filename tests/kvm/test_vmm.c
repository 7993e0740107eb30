/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pollux-vmm from outside: a guest of a few bytes, in the shape of a bzImage, and the
 * control socket. Booting, ending, rebooting in place, pausing, hostile requests, damaged
 * states, and what it says when it cannot start.
 *
 * timeout: 200
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/err.h"
#include "hypervisor/control/control.h"

#define SETUP_BYTES 1024u
#define COUNTER	    0x200000u
#define DEADLINE_NS (30 * NS_PER_S)

/* Counts at 2 MiB, for ever. */
static const uint8_t counting[] = { 0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8 };
/* Says H, i; then writes SLP_EN | S5 to PM1 control. */
static const uint8_t greeting[] = {
	0x66, 0xba, 0xf8, 0x03,		    /* mov dx, 0x3f8 */
	0xb0, 'H',  0xee, 0xb0, 'i',  0xee, /* mov al, 'H'; out dx, al; ... */
	0x66, 0xba, 0x04, 0x06,		    /* mov dx, 0x604 */
	0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, /* mov ax, 0x3400; out dx, ax */
	0xf4, 0xeb, 0xfd,		    /* hlt; jmp */
};
/* The third time it is here it powers off; before, it resets by the keyboard controller. */
static const uint8_t rebooting[] = {
	0xff, 0x05, 0x00, 0x00, 0x20, 0x00,	  /* inc dword [COUNTER] */
	0x83, 0x3d, 0x00, 0x00, 0x20, 0x00, 0x03, /* cmp dword [COUNTER], 3 */
	0x74, 0x05,				  /* je off */
	0xb0, 0xfe, 0xe6, 0x64, 0xf4,		  /* mov al, 0xfe; out 0x64, al; hlt */
	0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xf4,
};

/* Counts until somebody sets the word behind the counter, then faults without an IDT. */
static const uint8_t faulting[] = {
	0xff, 0x05, 0x00, 0x00, 0x20, 0x00,	  /* again: inc dword [COUNTER] */
	0x83, 0x3d, 0x04, 0x00, 0x20, 0x00, 0x01, /* cmp dword [COUNTER + 4], 1 */
	0x75, 0xf1,				  /* jne again */
	0x83, 0x25, 0x04, 0x00, 0x20, 0x00, 0x00, /* and dword [COUNTER + 4], 0 */
	0x0f, 0x01, 0x1d, 0x08, 0x00, 0x20, 0x00, /* lidt [COUNTER + 8] */
	0x31, 0xc9, 0xf7, 0xf1,			  /* xor ecx, ecx; div ecx */
};

/* Says the next of 16 letters, writes a number into a port and into a register of a BAR, reads
 * both back, counts; the word behind the counter is set when one of them is another. */
static const uint8_t accessing[] = {
	0x31, 0xdb,					/* xor ebx, ebx */
	0x43, 0x88, 0xd8, 0x24, 0x0f, 0x04, 'a',	/* again: inc ebx; al = bl % 16 + 'a' */
	0xba, 0xf8, 0x03, 0x00, 0x00, 0xee,		/* mov edx, 0x3f8; out dx, al */
	0xb9, 0x32, 0x00, 0x00, 0x00, 0xe2, 0xfe,	/* mov ecx, 50; loop */
	0xba, 0xf8, 0x0c, 0x00, 0x00, 0x89, 0xd8,	/* mov edx, 0xcf8; mov eax, ebx */
	0xef, 0x31, 0xc0, 0xed,				/* out dx, eax; xor eax, eax; in eax, dx */
	0x39, 0xd8, 0x75, 0x1a,				/* cmp eax, ebx; jne bad */
	0x66, 0x89, 0x1d, 0x16, 0x80, 0x00, 0xe0,	/* mov [0xe0008016], bx: queue_select */
	0x66, 0xa1, 0x16, 0x80, 0x00, 0xe0,		/* mov ax, [0xe0008016] */
	0x66, 0x39, 0xd8, 0x75, 0x08,			/* cmp ax, bx; jne bad */
	0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xc3, /* inc dword [COUNTER]; jmp again */
	0x83, 0x0d, 0x04, 0x00, 0x20, 0x00, 0x01,	/* bad: or dword [COUNTER + 4], 1 */
	0xf4, 0xeb, 0xfd,				/* hlt; jmp */
};

struct running {
	pid_t pid;
	char run_dir[64];
};

struct client {
	struct control *control;
	volatile uint32_t *memory;
	uint8_t *context;
};

static char dir[] = "/tmp/test_vmm.XXXXXX";

static void write_file(const char *name, const void *data, size_t len)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static const char *read_file(const char *name)
{
	static char text[1 << 20];
	char path[96];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[MAX(n, 0)] = '\0';
	close(fd);
	return text;
}

static void write_kernel(const uint8_t *code, size_t len)
{
	uint8_t image[SETUP_BYTES + 256] = { 0 };
	struct cursor c = cursor_over(image + 0x1f1, 1);

	cursor_put_u8(&c, SETUP_BYTES / 512 - 1);
	c = cursor_over(image + 0x1fe, 14);
	cursor_put_u16(&c, 0xaa55);
	cursor_put_u16(&c, 0x66eb);
	cursor_put_u32(&c, 0x53726448);
	cursor_put_u16(&c, 0x020f);
	image[0x211] = 1;
	c = cursor_over(image + 0x22c, 4);
	cursor_put_u32(&c, 0x7fffffff);
	c = cursor_over(image + 0x238, 4);
	cursor_put_u32(&c, 255);
	c = cursor_over(image + 0x258, 12);
	cursor_put_u64(&c, 0x100000);
	cursor_put_u32(&c, 8192);
	memcpy(image + SETUP_BYTES, code, len);
	write_file("kernel", image, sizeof(image));
}

static void write_config(unsigned int mib, const char *kernel, unsigned int vcpus)
{
	char json[512];

	snprintf(json, sizeof(json),
		 "{\"name\": \"tiny\", \"uuid\": \"6d0a5a36-9c9b-4b0e-8d1e-2f3a4b5c6d7e\","
		 "\"kernel\": \"%s/%s\", \"memory_mib\": %u, \"vcpus\": %u}",
		 dir, kernel, mib, vcpus);
	write_file("config", json, strlen(json));
}

static struct running start(unsigned int domid, bool standby)
{
	const char *out = getenv("O");
	char program[256], config[64], log[64], number[8];
	struct running r;

	snprintf(program, sizeof(program), "%s/bin/pollux-vmm", out ? out : "build");
	snprintf(config, sizeof(config), "%s/config", dir);
	snprintf(log, sizeof(log), "%s/log", dir);
	snprintf(number, sizeof(number), "%u", domid);
	snprintf(r.run_dir, sizeof(r.run_dir), "%s/%u", dir, domid);
	r.pid = fork();
	assert_true(r.pid >= 0);
	if (r.pid)
		return r;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644), 2);
	execl(program, program, "--domid", number, "--run-dir", r.run_dir, "--config", config,
	      standby ? "--standby" : NULL, NULL);
	_exit(127);
}

static int finish(const struct running *r)
{
	uint64_t end = clock_now_ns() + DEADLINE_NS;
	int status;

	while (waitpid(r->pid, &status, WNOHANG) == 0) {
		if (clock_now_ns() > end) {
			kill(r->pid, SIGKILL);
			waitpid(r->pid, &status, 0);
			fail_msg("pollux-vmm does not end; log: %s", read_file("log"));
		}
		usleep(5000);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int call(struct client *c, enum control_op op, const void *request, size_t len)
{
	struct reason why = { 0 };
	struct control_call args = {
		.op = op, .request = request, .request_len = len, .why = &why
	};

	return control_call(c->control, &args, NULL);
}

static void connect_to(const struct running *r, struct client *c)
{
	uint8_t version[4] = { CONTROL_VERSION };
	uint64_t end = clock_now_ns() + DEADLINE_NS, offset;
	int fds[2];
	struct control_call hello = { .op = CONTROL_HELLO,
				      .request = version,
				      .request_len = 4,
				      .ret_fds = fds,
				      .nr_fds = 2 };
	struct cursor reply;
	struct stat st;

	while (control_connect(r->run_dir, &c->control)) {
		if (clock_now_ns() > end)
			fail_msg("no control socket; log: %s", read_file("log"));
		usleep(2000);
	}
	assert_int_equal(control_call(c->control, &hello, &reply), 0);
	cursor_get_view(&reply, 4 + 4 + 16 + 24 + 12 + 8);
	offset = cursor_get_u64(&reply);
	assert_int_equal(fstat(fds[1], &st), 0);
	c->memory = mmap(NULL, 64u << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	c->context = (uint8_t *)mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
				     fds[1], 0) +
		     offset;
	close(fds[0]);
	close(fds[1]);
}

static void destroy(const struct running *r, struct client *c)
{
	uint8_t how = CONTROL_DESTROY;

	assert_int_equal(call(c, CONTROL_SHUTDOWN, &how, 1), 0);
	assert_int_equal(finish(r), 0);
	control_close(c->control);
}

static uint32_t counter(const struct client *c)
{
	return c->memory[COUNTER / 4];
}

static void wait_count(const struct client *c, uint32_t beyond)
{
	uint64_t end = clock_now_ns() + DEADLINE_NS;

	while (counter(c) <= beyond) {
		if (clock_now_ns() > end)
			fail_msg("the guest does not run");
		usleep(100);
	}
}

static size_t get_context(struct client *c)
{
	struct control_call args = { .op = CONTROL_GET_CONTEXT };
	struct cursor reply;

	assert_int_equal(control_call(c->control, &args, &reply), 0);
	return (size_t)cursor_get_u64(&reply);
}

static int set_context(struct client *c, size_t len)
{
	uint8_t request[8];
	struct cursor out = cursor_over(request, sizeof(request));

	cursor_put_u64(&out, len);
	return call(c, CONTROL_SET_CONTEXT, request, sizeof(request));
}

/* --- tests ------------------------------------------------------------------------------- */

static void test_boot_and_poweroff(void **state)
{
	struct running r;

	(void)state;
	write_kernel(greeting, sizeof(greeting));
	write_config(64, "kernel", 1);
	r = start(1, false);
	assert_int_equal(finish(&r), 0);
	assert_string_equal(read_file("1/serial.log"), "Hi");
}

static void test_reboot_in_place(void **state)
{
	struct running r;

	(void)state;
	write_kernel(rebooting, sizeof(rebooting));
	write_config(64, "kernel", 1);
	r = start(2, false);
	assert_int_equal(finish(&r), 0);
	assert_non_null(strstr(read_file("log"), "event=vm_reset"));
}

static bool recorded(const char *run_dir, const char *name)
{
	static uint8_t bytes[512 << 10];
	char path[96];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/blackbox", run_dir);
	file = fopen(path, "r");
	len = file ? fread(bytes, 1, sizeof(bytes), file) : 0;
	if (file)
		fclose(file);
	return memmem(bytes, len, name, strlen(name)) != NULL;
}

/* A triple fault resets the VM, and says what the processor was doing and had done. */
static void test_triple_fault(void **state)
{
	uint64_t end = clock_now_ns() + DEADLINE_NS;
	struct client c;
	struct running r;

	(void)state;
	write_kernel(faulting, sizeof(faulting));
	write_config(64, "kernel", 1);
	r = start(8, false);
	connect_to(&r, &c);
	wait_count(&c, 10);
	assert_int_equal(control_simple(c.control, CONTROL_PAUSE), 0);
	assert_true(get_context(&c) > 0);
	assert_int_equal(control_simple(c.control, CONTROL_UNPAUSE), 0);
	c.memory[COUNTER / 4 + 1] = 1;
	while (!strstr(read_file("log"), "event=vm_reset")) {
		if (clock_now_ns() > end)
			fail_msg("no reset; log: %s", read_file("log"));
		usleep(2000);
	}
	wait_count(&c, counter(&c));
	assert_non_null(strstr(read_file("log"), "event=triple_fault vcpu=0"));
	assert_non_null(strstr(read_file("log"), "event=vcpu_state vcpu=0 when=now"));
	/* The last checkpoint saw it in the loop, at 1 MiB. */
	assert_non_null(strstr(read_file("log"), "when=then"));
	assert_non_null(strstr(strstr(read_file("log"), "when=then"), " rip=0x10000"));
	assert_true(recorded(r.run_dir, "then.ip"));
	assert_true(recorded(r.run_dir, "state"));
	destroy(&r, &c);
}

static void test_pause(void **state)
{
	struct client c;
	struct running r;

	(void)state;
	write_kernel(counting, sizeof(counting));
	write_config(64, "kernel", 4); /* three of them never leave their INIT state */
	r = start(3, false);
	connect_to(&r, &c);
	assert_int_equal(control_simple(c.control, CONTROL_UNPAUSE), -EINVAL);
	assert_int_equal(control_simple(c.control, CONTROL_GET_CONTEXT), -EBUSY);
	for (int i = 0; i < 1000; i++) {
		uint32_t before;

		assert_int_equal(control_simple(c.control, CONTROL_PAUSE), 0);
		before = counter(&c);
		if (i % 100 == 0) {
			usleep(2000);
			assert_int_equal(counter(&c), before);
		}
		assert_int_equal(control_simple(c.control, CONTROL_UNPAUSE), 0);
		if (i % 100 == 0)
			wait_count(&c, before);
	}
	/* Counted. */
	control_simple(c.control, CONTROL_PAUSE);
	control_simple(c.control, CONTROL_PAUSE);
	control_simple(c.control, CONTROL_UNPAUSE);
	uint32_t still = counter(&c);
	usleep(2000);
	assert_int_equal(counter(&c), still);
	control_simple(c.control, CONTROL_UNPAUSE);
	wait_count(&c, still);
	destroy(&r, &c);
}

/* The letters of a VM that has ended go on where those of the one before stopped. */
static void check_letters(const struct running *r, char *next)
{
	char name[32];

	snprintf(name, sizeof(name), "%s/serial.log", r->run_dir + strlen(dir) + 1);
	for (const char *c = read_file(name); *c; c++) {
		if (*c != *next)
			fail_msg("%s: '%c' instead of '%c'", name, *c, *next);
		*next = *next == 'p' ? 'a' : (char)(*next + 1);
	}
}

/*
 * A guest that does nothing but port and MMIO accesses is stopped amid them, its state taken,
 * and it goes on, or another one goes on from that state: no access is lost, done twice, or
 * answered with what was not there.
 */
static void test_move_in_io(void **state)
{
	struct client from, to;
	struct running a, b;
	char next = 'b';

	(void)state;
	write_kernel(accessing, sizeof(accessing));
	write_config(64, "kernel", 2);
	a = start(20, false);
	connect_to(&a, &from);
	for (unsigned int hop = 0; hop < 20; hop++) {
		size_t len;

		wait_count(&from, counter(&from) + 10);
		for (unsigned int i = 0; i < 20; i++) {
			assert_int_equal(control_simple(from.control, CONTROL_PAUSE), 0);
			get_context(&from);
			assert_int_equal(control_simple(from.control, CONTROL_UNPAUSE), 0);
		}
		b = start(21 + hop, true);
		connect_to(&b, &to);
		assert_int_equal(control_simple(from.control, CONTROL_PAUSE), 0);
		len = get_context(&from);
		memcpy(to.context, from.context, len);
		memcpy((void *)(uintptr_t)to.memory, (void *)(uintptr_t)from.memory, 64u << 20);
		destroy(&a, &from);
		check_letters(&a, &next);
		assert_int_equal(set_context(&to, len), 0);
		assert_int_equal(control_simple(to.control, CONTROL_UNPAUSE), 0);
		wait_count(&to, counter(&to) + 10);
		assert_int_equal(to.memory[COUNTER / 4 + 1], 0);
		a = b;
		from = to;
	}
	destroy(&a, &from);
}

static int raw_connect(const struct running *r)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_usec = 20000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", r->run_dir);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

/* P4: nonsense in every operation, of every length; the VM runs on and answers others. */
static void test_hostile_requests(void **state)
{
	static uint8_t message[CONTROL_MAX_MESSAGE];
	struct client c;
	struct running r;

	(void)state;
	write_kernel(counting, sizeof(counting));
	write_config(64, "kernel", 1);
	r = start(4, false);
	connect_to(&r, &c);
	srandom(1);
	for (unsigned int i = 0; i < 3000; i++) {
		static int fd = -1;
		size_t len = (size_t)random() % (i % 50 ? 40 : sizeof(message));

		if (fd < 0)
			fd = raw_connect(&r);
		for (size_t k = 0; k < len; k++)
			message[k] = (uint8_t)random();
		/* A known operation mostly, but not the ones that end or stop the VM. */
		memset(message, 0, 4);
		message[0] = (uint8_t)(random() % 24);
		if (message[0] == CONTROL_PAUSE || message[0] == CONTROL_SHUTDOWN)
			message[0] = CONTROL_HELLO;
		if (fd < 0 || send(fd, message, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ||
		    recv(fd, message, sizeof(message), 0) <= 0) {
			close(fd);
			fd = -1;
		}
	}
	wait_count(&c, counter(&c));
	destroy(&r, &c);
}

/* P2, P4: a damaged state is refused, or is as good as another; never half of it. */
static void test_damaged_state(void **state)
{
	static uint8_t good[65536];
	struct client from, to;
	struct running a, b;
	uint32_t count;
	size_t len;

	(void)state;
	write_kernel(counting, sizeof(counting));
	write_config(64, "kernel", 2);
	a = start(5, false);
	b = start(6, true);
	connect_to(&a, &from);
	connect_to(&b, &to);
	wait_count(&from, 10);
	assert_int_equal(control_simple(from.control, CONTROL_PAUSE), 0);
	len = get_context(&from);
	assert_in_range(len, 1000, sizeof(good));
	memcpy(good, from.context, len);
	memcpy((void *)(uintptr_t)to.memory, (void *)(uintptr_t)from.memory, 64u << 20);
	count = counter(&from);
	srandom(2);
	for (unsigned int i = 0; i < 500; i++) {
		memcpy(to.context, good, len);
		to.context[i < 200 ? i : (size_t)random() % len] ^= (uint8_t)(1 << random() % 8);
		set_context(&to, len);
		if (i % 10 == 0)
			assert_true(set_context(&to, (size_t)random() % len) < 0);
	}
	memcpy(to.context, good, len);
	assert_int_equal(set_context(&to, len), 0);
	assert_int_equal(get_context(&to), len);
	assert_int_equal(counter(&to), count);
	assert_int_equal(control_simple(to.control, CONTROL_UNPAUSE), 0);
	wait_count(&to, count + 10);
	/* It has run: no state may be loaded over it. */
	assert_int_equal(control_simple(to.control, CONTROL_PAUSE), 0);
	memcpy(to.context, good, len);
	assert_int_equal(set_context(&to, len), -EBUSY);
	assert_int_equal(counter(&from), count);
	destroy(&a, &from);
	destroy(&b, &to);
}

static void check_refused(const char *named)
{
	struct running r = start(7, false);

	assert_int_equal(finish(&r), 1);
	if (!strstr(read_file("log"), named))
		fail_msg("\"%s\" is not in: %s", named, read_file("log"));
}

static void test_bad_input(void **state)
{
	static uint8_t zeros[4096];

	(void)state;
	write_kernel(counting, sizeof(counting));
	write_config(64, "absent", 1);
	check_refused("/absent: No such file");
	write_file("zeros", zeros, sizeof(zeros));
	write_config(64, "zeros", 1);
	check_refused("not a bzImage");
	write_config(1048576, "kernel", 1);
	check_refused("memory: 1048576 MiB, the host has");
	write_file("config", "{}", 2);
	check_refused("\"name\" is missing");
}

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) && chmod(dir, 0755) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot_and_poweroff), cmocka_unit_test(test_reboot_in_place),
		cmocka_unit_test(test_triple_fault),	  cmocka_unit_test(test_pause),
		cmocka_unit_test(test_move_in_io),	  cmocka_unit_test(test_hostile_requests),
		cmocka_unit_test(test_damaged_state),	  cmocka_unit_test(test_bad_input),
	};

	if (access("/dev/kvm", R_OK | W_OK))
		test_skip_all("no /dev/kvm here");
	return cmocka_run_group_tests(tests, make_dir, remove_dir) ? 1 : 0;
}
