/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints through the libxenctrl API of a guest that runs on /dev/kvm: two pollux-vmm,
 * one of them a standby that gets, epoch by epoch, the pages that log-dirty names and
 * nothing else. After each epoch all memory must be the same; at the end the standby gets
 * the state and goes on where the other stopped.
 *
 * The guest is 46 bytes in the shape of a bzImage, 32 bits, no paging:
 *
 *	again:	eax = GO; if (eax == DONE) { pause; goto again }
 *		for (ecx = COUNT, edi = 16 MiB; ecx; ecx--, edi += 8 KiB) *edi = eax
 *		DONE = eax; goto again
 *
 * timeout: 240
 */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/err.h"

#define PAGE	    4096u
#define MEMORY_MIB  64u
#define NR_PAGES    (MEMORY_MIB << 8)
#define MAILBOX_GFN 0x200u
#define FIRST_GFN   0x1000u /* 16 MiB: every second page from here on */
#define EPOCHS	    20u
#define PRIMARY	    1u
#define STANDBY	    2u
#define DEADLINE_NS (60 * NS_PER_S)
#define IMAGE_BYTES 4096u
#define SETUP_BYTES 1024u

static const uint8_t code[] = {
	0xa1, 0x00, 0x00, 0x20, 0x00,	    /* again: mov eax, [GO] */
	0x3b, 0x05, 0x08, 0x00, 0x20, 0x00, /* cmp eax, [DONE] */
	0x74, 0x1d,			    /* je wait */
	0x8b, 0x0d, 0x04, 0x00, 0x20, 0x00, /* mov ecx, [COUNT] */
	0xbf, 0x00, 0x00, 0x00, 0x01,	    /* mov edi, 16 MiB */
	0x89, 0x07,			    /* next: mov [edi], eax */
	0x81, 0xc7, 0x00, 0x20, 0x00, 0x00, /* add edi, 8 KiB */
	0x49,				    /* dec ecx */
	0x75, 0xf5,			    /* jnz next */
	0xa3, 0x08, 0x00, 0x20, 0x00,	    /* mov [DONE], eax */
	0xeb, 0xd6,			    /* jmp again */
	0xf3, 0x90,			    /* wait: pause */
	0xeb, 0xd2,			    /* jmp again */
};

struct mailbox {
	volatile uint32_t go, count, done;
};

static char dir[64];
static pid_t pids[3]; /* by domain number */
static xc_interface *xch;
static xenforeignmemory_handle *fmem;
static uint8_t *memory[3];

static void write_file(const char *name, const void *bytes, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static void put_le(uint8_t *at, uint64_t v, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

static void write_image(void)
{
	uint8_t image[IMAGE_BYTES] = { 0 };

	put_le(image + 0x1f1, SETUP_BYTES / 512 - 1, 1);
	put_le(image + 0x1fe, 0xaa55, 2);
	put_le(image + 0x201, 0x66, 1); /* the header ends at 0x268 */
	put_le(image + 0x202, 0x53726448, 4);
	put_le(image + 0x206, 0x020f, 2);
	put_le(image + 0x211, 1, 1); /* loaded high */
	put_le(image + 0x22c, 0x7fffffff, 4);
	put_le(image + 0x238, 255, 4);
	put_le(image + 0x258, 0x100000, 8);
	put_le(image + 0x260, 8192, 4);
	memcpy(image + SETUP_BYTES, code, sizeof(code));
	write_file("bzImage", image, sizeof(image));
}

static void write_config(void)
{
	char json[512];
	int n = snprintf(json, sizeof(json),
			 "{\"name\": \"tiny\", \"uuid\": \"6d0a5a36-9c9b-4b0e-8d1e-2f3a4b5c6d7e\", "
			 "\"kernel\": \"%s/bzImage\", \"memory_mib\": %u, \"vcpus\": 1, "
			 "\"disks\": [], \"nics\": []}",
			 dir, MEMORY_MIB);

	write_file("config.json", json, (size_t)n);
}

static void start_vmm(uint32_t domid)
{
	const char *out = getenv("O");
	char program[256], run_dir[128], config[128], number[16];

	snprintf(program, sizeof(program), "%s/bin/pollux-vmm", out ? out : "build");
	snprintf(run_dir, sizeof(run_dir), "%s/vm/%u", dir, domid);
	snprintf(config, sizeof(config), "%s/config.json", dir);
	snprintf(number, sizeof(number), "%u", domid);
	pids[domid] = fork();
	assert_true(pids[domid] >= 0);
	if (pids[domid])
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives an aborted test */
	execl(program, program, "--domid", number, "--run-dir", run_dir, "--config", config,
	      domid == STANDBY ? "--standby" : NULL, NULL);
	_exit(127);
}

/* Until the VM answers; false when its process has ended instead. */
static bool wait_for_domain(uint32_t domid)
{
	uint64_t deadline = clock_now_ns() + DEADLINE_NS;
	xc_dominfo_t info;

	while (clock_now_ns() < deadline) {
		if (xc_domain_getinfo(xch, domid, 1, &info) == 1 && info.domid == domid)
			return true;
		if (waitpid(pids[domid], NULL, WNOHANG) == pids[domid]) {
			pids[domid] = 0;
			return false;
		}
		usleep(10000);
	}
	return false;
}

static uint8_t *map_all(uint32_t domid)
{
	static xen_pfn_t gfns[NR_PAGES];
	uint8_t *p;

	for (unsigned int i = 0; i < NR_PAGES; i++)
		gfns[i] = i;
	p = xenforeignmemory_map(fmem, domid, PROT_READ | PROT_WRITE, NR_PAGES, gfns, NULL);
	assert_non_null(p);
	return p;
}

static struct mailbox *mailbox(uint32_t domid)
{
	return (struct mailbox *)(void *)(memory[domid] + MAILBOX_GFN * PAGE);
}

/* Has the guest dirty `count` pages, and waits until it has. */
static void work(uint32_t domid, uint32_t value, uint32_t count)
{
	uint64_t deadline = clock_now_ns() + DEADLINE_NS;
	struct mailbox *m = mailbox(domid);

	m->count = count;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	m->go = value;
	while (m->done != value) {
		if (clock_now_ns() > deadline)
			fail_msg("the guest of domain %u does not answer", domid);
		usleep(1000);
	}
}

static int setup(void **state)
{
	char path[128];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_xc_checkpoint.XXXXXX");
	assert_non_null(mkdtemp(dir));
	chmod(dir, 0755); /* pollux-vmm gives its privileges up */
	setenv("POLLUX_RUN_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/vm", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	write_image();
	write_config();
	xch = xc_interface_open(NULL, NULL, 0);
	fmem = xenforeignmemory_open(NULL, 0);
	for (uint32_t domid = PRIMARY; domid <= STANDBY; domid++) {
		start_vmm(domid);
		if (!wait_for_domain(domid))
			return -1;
		memory[domid] = map_all(domid);
	}
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	for (uint32_t domid = PRIMARY; domid <= STANDBY; domid++) {
		if (pids[domid]) {
			kill(pids[domid], SIGKILL);
			waitpid(pids[domid], NULL, 0);
		}
		if (memory[domid])
			xenforeignmemory_unmap(fmem, memory[domid], NR_PAGES);
	}
	xc_interface_close(xch);
	xenforeignmemory_close(fmem);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? -1 : 0;
}

static uint64_t copy_dirty(const uint64_t *dirty)
{
	uint64_t n = 0;

	bitmap_for_each (gfn, dirty, NR_PAGES) {
		memcpy(memory[STANDBY] + gfn * PAGE, memory[PRIMARY] + gfn * PAGE, PAGE);
		n++;
	}
	return n;
}

static void compare_memory(unsigned int epoch)
{
	for (unsigned int gfn = 0; gfn < NR_PAGES; gfn++)
		if (memcmp(memory[PRIMARY] + gfn * PAGE, memory[STANDBY] + gfn * PAGE, PAGE))
			fail_msg("epoch %u: gfn 0x%x differs", epoch, gfn);
}

/* Of what the guest wrote every page must be named; of what it did not, hardly any. */
static void check_dirty(const uint64_t *dirty, uint32_t count, uint64_t named)
{
	for (uint32_t i = 0; i < count; i++)
		assert_true(bitmap_test(dirty, FIRST_GFN + 2 * i));
	assert_true(bitmap_test(dirty, MAILBOX_GFN));
	assert_in_range(named, count + 1, count + 1 + 8);
}

static uint64_t clean(xc_hypercall_buffer_t *bitmap)
{
	xc_shadow_op_stats_t stats;

	assert_int_equal(xc_logdirty_control(xch, PRIMARY, XEN_DOMCTL_SHADOW_OP_CLEAN, bitmap,
					     NR_PAGES, XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, &stats),
			 NR_PAGES);
	return stats.dirty_count;
}

/* The host's own writes into the mailbox are not in anybody's log: carry the page. */
static void one_epoch(unsigned int epoch, xc_hypercall_buffer_t *buffer, const uint64_t *dirty,
		      uint8_t *state, int *state_len)
{
	uint32_t count = epoch ? 1 + epoch * 97 : 500;
	uint64_t begin, named;
	int max = xc_domain_hvm_getcontext(xch, PRIMARY, NULL, 0);

	work(PRIMARY, 1000 + epoch, count);
	begin = clock_now_ns();
	assert_int_equal(xc_domain_pause(xch, PRIMARY), 0);
	named = clean(buffer);
	*state_len = xc_domain_hvm_getcontext(xch, PRIMARY, state, (uint32_t)max);
	assert_true(*state_len > 0 && *state_len <= max);
	assert_int_equal(copy_dirty(dirty), epoch ? named : NR_PAGES);
	if (epoch)
		check_dirty(dirty, count, named);
	compare_memory(epoch);
	print_message("epoch %u: %llu dirty, %d bytes of state, %llu us with the comparison\n",
		      epoch, (unsigned long long)named, *state_len,
		      (unsigned long long)((clock_now_ns() - begin) / NS_PER_US));
	if (epoch + 1 < EPOCHS)
		assert_int_equal(xc_domain_unpause(xch, PRIMARY), 0);
}

static void test_epochs_and_takeover(void **state)
{
	DECLARE_HYPERCALL_BUFFER(uint64_t, bitmap);
	int max = xc_domain_hvm_getcontext(xch, PRIMARY, NULL, 0), len = 0;
	uint8_t *context = malloc((size_t)max);
	xc_dominfo_t info;

	(void)state;
	bitmap = xc_hypercall_buffer_alloc_pages(xch, bitmap, 1);
	assert_true(bitmap && context);
	/* A state is only to be had of a VM that stands still. */
	assert_int_equal(xc_domain_hvm_getcontext(xch, PRIMARY, context, (uint32_t)max), -1);
	assert_int_equal(errno, EBUSY);
	assert_int_equal(
		xc_shadow_control(xch, PRIMARY, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0), 0);
	for (unsigned int epoch = 0; epoch < EPOCHS; epoch++)
		one_epoch(epoch, HYPERCALL_BUFFER(bitmap), bitmap, context, &len);

	/* A state that is cut short is refused and leaves the standby able to take a good one. */
	assert_int_equal(xc_domain_hvm_setcontext(xch, STANDBY, context, (uint32_t)len - 8), -1);
	if (xc_domain_hvm_setcontext(xch, STANDBY, context, (uint32_t)len))
		fail_msg("state: %s", xc_get_last_error(xch)->message);
	assert_int_equal(xc_domain_getinfo(xch, STANDBY, 1, &info), 1);
	assert_true(info.paused);
	assert_int_equal(xc_domain_destroy(xch, PRIMARY), 0);
	assert_int_equal(waitpid(pids[PRIMARY], NULL, 0), pids[PRIMARY]);
	pids[PRIMARY] = 0;
	assert_int_equal(mailbox(STANDBY)->done, 1000 + EPOCHS - 1);
	assert_int_equal(xc_domain_unpause(xch, STANDBY), 0);
	work(STANDBY, 5000, 10);
	assert_int_equal(*(uint32_t *)(void *)(memory[STANDBY] + FIRST_GFN * PAGE), 5000);
	assert_int_equal(xc_domain_pause(xch, PRIMARY), -1);
	assert_int_equal(errno, ESRCH);
	xc_hypercall_buffer_free_pages(xch, bitmap, 1);
	free(context);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_epochs_and_takeover, setup, teardown),
	};

	if (access("/dev/kvm", R_OK | W_OK))
		test_skip_all("no access to /dev/kvm");
	return test_main(tests);
}
