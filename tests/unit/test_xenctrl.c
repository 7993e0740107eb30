/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libxenctrl API against a control server in this process: two domains, one small and
 * one with memory above the hole, whose answers the test bends.
 */
#include "tests/lib/test.h"

#include <xenctrl.h>
#include <xenforeignmemory.h>

#include "tests/unit/control_server.h"

#define SMALL 3u /* domain numbers */
#define LARGE 11u

static struct server servers[2];
static xc_interface *xch;
static xenforeignmemory_handle *fmem;

/* --- allocations and mappings: counted while `counting` is set
 * --------------------------------------- */

static __thread bool counting;
static __thread unsigned int allocations, mappings;
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
	allocations += counting;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	allocations += counting;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	allocations += counting;
	return __real_realloc(p, size);
}

static int setup(void **state)
{
	char path[128];

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_xenctrl.XXXXXX");
	assert_non_null(mkdtemp(dir));
	setenv("POLLUX_RUN_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/vm", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/vm/7", dir); /* of a VM that is gone */
	assert_int_equal(mkdir(path, 0700), 0);
	start(&servers[0], SMALL, 1000 * PAGE, 0);
	start(&servers[1], LARGE, 100 * PAGE, 70 * PAGE);
	xch = xc_interface_open(NULL, NULL, 0);
	fmem = xenforeignmemory_open(NULL, 0);
	return xch && fmem ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	xc_interface_close(xch);
	xenforeignmemory_close(fmem);
	stop(&servers[0]);
	stop(&servers[1]);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? -1 : 0;
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	mappings += counting;
	return __real_mmap(addr, len, prot, flags, fd, offset);
}

/* --- domains ------------------------------------------------------------------------------ */

static void test_list(void **state)
{
	xc_dominfo_t info[8];
	xc_domaininfo_t raw[8];

	(void)state;
	servers[1].state = CONTROL_PAUSED;
	assert_int_equal(xc_domain_getinfo(xch, 0, 8, info), 2);
	assert_int_equal(info[0].domid, SMALL);
	assert_int_equal(info[0].nr_pages, 1000);
	assert_int_equal(info[0].max_memkb, 4000);
	assert_int_equal(info[0].cpu_time, 123456789);
	assert_int_equal(info[0].nr_online_vcpus, 2);
	assert_int_equal(info[0].handle[1], SMALL + 1);
	assert_true(info[0].hvm && info[0].hap && info[0].running && !info[0].paused);
	assert_int_equal(info[1].domid, LARGE);
	assert_int_equal(info[1].nr_pages, 170);
	assert_true(info[1].paused && !info[1].running);
	assert_int_equal(xc_domain_getinfo(xch, SMALL + 1, 1, info), 1);
	assert_int_equal(info[0].domid, LARGE);
	assert_int_equal(xc_domain_getinfolist(xch, 0, 1, raw), 1);
	assert_int_equal(raw[0].domain, SMALL);
	assert_int_equal(xc_domain_getinfolist(xch, LARGE + 1, 8, raw), 0);
	assert_int_equal(xc_domain_getinfo(xch, LARGE + 1, 8, info), -1);
	assert_int_equal(errno, ESRCH);
}

static void test_stopped(void **state)
{
	static const struct {
		uint8_t reason;
		unsigned int shutdown, crashed, dying, code;
	} cases[] = {
		{ CONTROL_POWEROFF, 1, 0, 0, SHUTDOWN_poweroff },
		{ CONTROL_REBOOT, 1, 0, 0, SHUTDOWN_reboot },
		{ CONTROL_CRASH, 0, 1, 0, SHUTDOWN_crash },
		{ CONTROL_DESTROY, 1, 0, 1, SHUTDOWN_poweroff },
		{ 200, 0, 1, 0, SHUTDOWN_crash },
	};
	xc_dominfo_t info;

	(void)state;
	servers[0].state = CONTROL_STOPPED;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		servers[0].reason = cases[i].reason;
		assert_int_equal(xc_domain_getinfo(xch, SMALL, 1, &info), 1);
		assert_int_equal(info.shutdown, cases[i].shutdown);
		assert_int_equal(info.crashed, cases[i].crashed);
		assert_int_equal(info.dying, cases[i].dying);
		assert_int_equal(info.shutdown_reason, cases[i].code);
	}
}

static void test_calls(void **state)
{
	xen_pfn_t gfns = 0;

	(void)state;
	assert_int_equal(xc_domain_pause(xch, SMALL), 0);
	assert_int_equal(servers[0].last_op, CONTROL_PAUSE);
	assert_int_equal(xc_domain_unpause(xch, SMALL), 0);
	assert_int_equal(servers[0].last_op, CONTROL_UNPAUSE);
	assert_int_equal(xc_domain_shutdown(xch, SMALL, SHUTDOWN_reboot), 0);
	assert_int_equal(servers[0].last_op, CONTROL_SHUTDOWN);
	assert_int_equal(servers[0].last_value, CONTROL_REBOOT);
	assert_int_equal(xc_domain_shutdown(xch, SMALL, SHUTDOWN_suspend), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(xc_domain_nr_gpfns(xch, LARGE, &gfns), 0);
	assert_int_equal(gfns, HIGH_START / PAGE + 70);
	servers[0].hang_up = true; /* the process ends before it answers */
	assert_int_equal(xc_domain_destroy(xch, SMALL), 0);
}

static void test_errors(void **state)
{
	(void)state;
	assert_int_equal(xc_domain_pause(xch, 99), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(xc_domain_pause(xch, 7), -1);
	assert_int_equal(errno, ESRCH);
	servers[0].fail = EBUSY;
	assert_int_equal(xc_domain_pause(xch, SMALL), -1);
	assert_int_equal(errno, EBUSY);
	assert_non_null(strstr(xc_get_last_error(xch)->message, "as the test wants"));
	xc_clear_last_error(xch);
	assert_int_equal(xc_get_last_error(xch)->code, XC_ERROR_NONE);
	assert_string_equal(xc_error_code_to_desc(XC_OUT_OF_MEMORY), "Out of memory");
	assert_non_null(xc_error_code_to_desc(-1));
	/* A connection that breaks: the call fails, it is not repeated; the next one is good. */
	servers[0].hang_up = true;
	assert_int_equal(xc_domain_pause(xch, SMALL), -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(servers[0].pauses, 0);
	assert_int_equal(xc_domain_pause(xch, SMALL), 0);
	assert_int_equal(servers[0].pauses, 1);
	assert_int_equal(servers[0].connections, 2);
}

static void hello_is_refused(void)
{
	assert_int_equal(xc_domain_pause(xch, SMALL), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(servers[0].pauses, 0);
}

/* P4: a VM that describes itself as it cannot be. */
static void test_bad_hello(void **state)
{
	struct server *s = &servers[0];
	uint64_t low = s->low, gfns = s->nr_gfns;
	int fd = s->memory_fd;

	(void)state;
	s->claim = SMALL + 1;
	hello_is_refused();
	s->claim = SMALL;
	s->low = low - PAGE + 1; /* not whole pages */
	s->nr_gfns = gfns - 1;
	hello_is_refused();
	s->nr_gfns = gfns;
	s->low = low + PAGE;
	hello_is_refused();
	s->nr_gfns = gfns + 1; /* consistent, and more than the descriptor has */
	hello_is_refused();
	s->low = low;
	s->nr_gfns = UINT64_MAX;
	hello_is_refused();
	s->nr_gfns = gfns;
	s->high = UINT64_MAX - PAGE + 1;
	hello_is_refused();
	s->high = 0;
	s->context_offset = UINT64_MAX - 100;
	hello_is_refused();
	s->context_offset = 2 * PAGE;
	s->context_max = 1 << 20;
	hello_is_refused();
	s->context_max = CONTEXT_MAX;
	s->dirty_offset = 1001;
	hello_is_refused();
	s->dirty_offset = PAGE;
	s->memory_fd = make_memfd(low, 0); /* could shrink under our mapping */
	hello_is_refused();
	assert_non_null(strstr(xc_get_last_error(xch)->message, "shrink"));
	close(s->memory_fd);
	s->memory_fd = fd;
	assert_int_equal(xc_domain_pause(xch, SMALL), 0);
}

/* --- log-dirty ---------------------------------------------------------------------------- */

static void clean_and_compare(uint32_t domid, const struct server *s, unsigned long pages)
{
	DECLARE_HYPERCALL_BUFFER(unsigned long, bitmap);
	xc_shadow_op_stats_t stats = { 0 };
	int nr = (int)(bitmap_bytes(pages) / PAGE + 1);
	uint64_t count = 0;

	bitmap = xc_hypercall_buffer_alloc_pages(xch, bitmap, nr);
	assert_non_null(bitmap);
	assert_int_equal(bitmap[0], 0);
	memset(bitmap, 0xff, (size_t)nr * PAGE);
	assert_int_equal(xc_logdirty_control(xch, domid, XEN_DOMCTL_SHADOW_OP_CLEAN,
					     HYPERCALL_BUFFER(bitmap), pages,
					     XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, &stats),
			 s->nr_gfns);
	assert_int_equal(s->last_value, CONTROL_LOGDIRTY_CLEAN);
	for (uint64_t gfn = 0; gfn < bitmap_words(pages) * 64; gfn++) {
		bool memory = gfn < s->low / PAGE || (gfn >= HIGH_START / PAGE && gfn < s->nr_gfns);
		bool want = memory && bitmap_test(s->dirty, gfn);

		if (bitmap_test((const uint64_t *)bitmap, gfn) != want)
			fail_msg("gfn %llx: %d", (unsigned long long)gfn, want);
		count += want;
	}
	assert_true(stats.dirty_count >= count);
	assert_int_equal(((const uint8_t *)bitmap)[(size_t)nr * PAGE - 1], 0xff);
	xc_hypercall_buffer_free_pages(xch, bitmap, nr);
}

static void test_logdirty(void **state)
{
	unsigned int seed = 7;

	(void)state;
	assert_int_equal(
		xc_shadow_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0), 0);
	assert_int_equal(servers[0].last_value, CONTROL_LOGDIRTY_ENABLE);
	clean_and_compare(SMALL, &servers[0],
			  1000); /* nothing dirty: a buffer of ones becomes zero */
	for (unsigned int i = 0; i < 60; i++)
		bitmap_set(servers[0].dirty, (uint64_t)rand_r(&seed) % 1000);
	bitmap_set(servers[0].dirty, 1001); /* no page: beyond the end */
	clean_and_compare(SMALL, &servers[0], 1000);
	clean_and_compare(SMALL, &servers[0], 2000);
	bitmap_set(servers[1].dirty, 99);
	bitmap_set(servers[1].dirty, 100); /* the hole's first */
	bitmap_set(servers[1].dirty, HIGH_START / PAGE - 1);
	bitmap_set(servers[1].dirty, HIGH_START / PAGE);
	bitmap_set(servers[1].dirty, HIGH_START / PAGE + 69);
	bitmap_set(servers[1].dirty, HIGH_START / PAGE + 70);
	clean_and_compare(LARGE, &servers[1], HIGH_START / PAGE + 70);
	assert_int_equal(xc_shadow_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0), 0);
	assert_int_equal(servers[0].last_value, CONTROL_LOGDIRTY_OFF);
	assert_int_equal(
		xc_shadow_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, NULL, 0), -1);
	assert_int_equal(errno, EOPNOTSUPP);
}

static void test_logdirty_refusals(void **state)
{
	DECLARE_HYPERCALL_BUFFER(unsigned long, bitmap);

	(void)state;
	bitmap = xc_hypercall_buffer_alloc(xch, bitmap, 125);
	assert_non_null(bitmap);
	assert_int_equal(xc_domain_pause(xch, SMALL), 0);
	/* Too small a bitmap is refused before anything is cleaned. */
	assert_int_equal(xc_logdirty_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_CLEAN,
					     HYPERCALL_BUFFER(bitmap), 999, 0, NULL),
			 -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(servers[0].last_op, CONTROL_PAUSE);
	assert_int_equal(xc_logdirty_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_OFF,
					     HYPERCALL_BUFFER(bitmap), 1000, 0, NULL),
			 -1);
	assert_int_equal(xc_logdirty_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_PEEK,
					     HYPERCALL_BUFFER(bitmap), 1000, 0, NULL),
			 1000);
	assert_int_equal(servers[0].last_value, CONTROL_LOGDIRTY_PEEK);
	xc_hypercall_buffer_free(xch, bitmap);
	/* Without a bitmap it is only counted and cleaned. */
	assert_int_equal(xc_logdirty_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_CLEAN,
					     HYPERCALL_BUFFER(HYPERCALL_BUFFER_NULL), 0, 0, NULL),
			 1000);
}

/* --- context ------------------------------------------------------------------------------ */

static void test_context(void **state)
{
	struct server *s = &servers[0];
	uint8_t buf[CONTEXT_MAX + 1];

	(void)state;
	assert_int_equal(xc_domain_hvm_getcontext(xch, SMALL, NULL, 0), CONTEXT_MAX);
	for (unsigned int i = 0; i < CONTEXT_MAX; i++)
		s->context[i] = (uint8_t)(i * 7);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(xc_domain_hvm_getcontext(xch, SMALL, buf, 100), 100);
	assert_memory_equal(buf, s->context, 100);
	assert_int_equal(buf[100], 0);
	assert_int_equal(xc_domain_hvm_getcontext(xch, SMALL, buf, 99), -1);
	assert_int_equal(errno, ENOSPC);
	s->length = CONTEXT_MAX + 1;
	assert_int_equal(xc_domain_hvm_getcontext(xch, SMALL, buf, sizeof(buf)), -1);
	assert_int_equal(errno, EPROTO);
	s->length = 0;
	assert_int_equal(xc_domain_hvm_getcontext(xch, SMALL, buf, sizeof(buf)), -1);
	memset(buf, 0x42, sizeof(buf));
	assert_int_equal(xc_domain_hvm_setcontext(xch, SMALL, buf, 500), 0);
	assert_int_equal(s->last_value, 500);
	assert_int_equal(s->context[499], 0x42);
	assert_int_not_equal(s->context[500], 0x42);
	assert_int_equal(xc_domain_hvm_setcontext(xch, SMALL, buf, CONTEXT_MAX + 1), -1);
	assert_int_equal(errno, EINVAL);
	s->fail = EINVAL;
	assert_int_equal(xc_domain_hvm_setcontext(xch, SMALL, buf, 500), -1);
	assert_int_equal(errno, EINVAL);
}

/* --- foreign memory ----------------------------------------------------------------------- */

static void test_map(void **state)
{
	struct server *s = &servers[1];
	xen_pfn_t gfns[] = { 5, 6, 7, HIGH_START / PAGE, HIGH_START / PAGE + 1, 3, 99, 100, 4 };
	xen_pfn_t order[] = { 5, 6, 7, 100, 101, 3, 99, 0, 4 }; /* page of the descriptor */
	size_t n = ARRAY_SIZE(gfns);
	int err[ARRAY_SIZE(gfns)];
	uint8_t *p;

	(void)state;
	for (unsigned int i = 0; i < 170; i++)
		s->memory[i * PAGE] = (uint8_t)(i + 1);
	p = xenforeignmemory_map(fmem, LARGE, PROT_READ | PROT_WRITE, n, gfns, err);
	assert_non_null(p);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(err[i], gfns[i] == 100 ? EINVAL : 0);
		if (!err[i])
			assert_int_equal(p[i * PAGE], order[i] + 1);
	}
	p[0] = 0xaa;
	assert_int_equal(s->memory[5 * PAGE], 0xaa);
	assert_int_equal(xenforeignmemory_unmap(fmem, p, n), 0);
	/* Without an array of errors one bad frame fails all. */
	assert_null(xenforeignmemory_map(fmem, LARGE, PROT_READ, n, gfns, NULL));
	assert_int_equal(errno, EINVAL);
	p = xenforeignmemory_map(fmem, LARGE, PROT_READ, 7, gfns, NULL);
	assert_non_null(p);
	assert_int_equal(xenforeignmemory_unmap(fmem, p, 7), 0);
	gfns[0] = UINT64_MAX;
	gfns[1] = s->nr_gfns;
	p = xenforeignmemory_map(fmem, LARGE, PROT_READ, 2, gfns, err);
	assert_true(p && err[0] == EINVAL && err[1] == EINVAL);
	xenforeignmemory_unmap(fmem, p, 2);
	assert_null(xenforeignmemory_map(fmem, 99, PROT_READ, 1, gfns, err));
	assert_int_equal(errno, ESRCH);
	assert_null(xenforeignmemory_map(fmem, LARGE, PROT_READ, 0, gfns, err));
	assert_null(xenforeignmemory_map(fmem, LARGE, PROT_READ, SIZE_MAX / 2, gfns, err));
}

/* A run of frames is one mapping: a whole guest does not use the maps up. */
static void test_map_coalesces(void **state)
{
	xen_pfn_t gfns[170];
	uint8_t *p;

	(void)state;
	for (unsigned int i = 0; i < 170; i++)
		gfns[i] = i < 100 ? i : HIGH_START / PAGE + i - 100;
	xenforeignmemory_unmap(fmem, xenforeignmemory_map(fmem, LARGE, PROT_READ, 1, gfns, NULL),
			       1);
	mappings = 0;
	counting = true;
	p = xenforeignmemory_map(fmem, LARGE, PROT_READ, 170, gfns, NULL);
	counting = false;
	assert_non_null(p);
	assert_int_equal(mappings, 2); /* the reservation, and one run over low and high */
	xenforeignmemory_unmap(fmem, p, 170);
}

/* A domain number that went to another VM: its memory, not the old one's. */
static void test_map_after_restart(void **state)
{
	xen_pfn_t gfn = 0;
	uint8_t *p, *q;
	char command[128];

	(void)state;
	servers[0].memory[0] = 0x55;
	p = xenforeignmemory_map(fmem, SMALL, PROT_READ, 1, &gfn, NULL);
	assert_non_null(p);
	stop(&servers[0]);
	snprintf(command, sizeof(command), "rm -r %s/vm/%u", dir, SMALL);
	assert_int_equal(system(command), 0);
	start(&servers[0], SMALL, 10 * PAGE, 0);
	servers[0].memory[0] = 0x99;
	q = xenforeignmemory_map(fmem, SMALL, PROT_READ, 1, &gfn, NULL);
	assert_non_null(q);
	assert_int_equal(q[0], 0x99);
	assert_int_equal(p[0], 0x55); /* the old mapping stays what it was */
	xenforeignmemory_unmap(fmem, p, 1);
	xenforeignmemory_unmap(fmem, q, 1);
}

/* --- the pause ---------------------------------------------------------------------------- */

static void test_pause_path_allocates_nothing(void **state)
{
	DECLARE_HYPERCALL_BUFFER(unsigned long, bitmap);
	uint8_t buf[CONTEXT_MAX];

	(void)state;
	bitmap = xc_hypercall_buffer_alloc_pages(xch, bitmap, 1);
	assert_int_equal(xc_domain_pause(xch, SMALL), 0);
	assert_int_equal(xc_domain_unpause(xch, SMALL), 0);
	allocations = mappings = 0;
	counting = true;
	for (unsigned int i = 0; i < 100; i++) {
		xc_domain_pause(xch, SMALL);
		xc_logdirty_control(xch, SMALL, XEN_DOMCTL_SHADOW_OP_CLEAN,
				    HYPERCALL_BUFFER(bitmap), 1000, 0, NULL);
		xc_domain_hvm_getcontext(xch, SMALL, buf, sizeof(buf));
		xc_domain_unpause(xch, SMALL);
	}
	counting = false;
	assert_int_equal(allocations, 0);
	assert_int_equal(mappings, 0);
	assert_int_equal(servers[0].hellos, 1);
	assert_int_equal(servers[0].pauses, 101);
	xc_hypercall_buffer_free_pages(xch, bitmap, 1);
}

static void *use_both(void *arg)
{
	uint8_t buf[CONTEXT_MAX];

	for (unsigned int i = 0; i < 300; i++) {
		uint32_t domid = i % 2 ? SMALL : LARGE;

		if (xc_domain_pause(xch, domid) ||
		    xc_domain_hvm_getcontext(xch, domid, buf, sizeof(buf)) != 100 ||
		    buf[0] != domid || xc_domain_unpause(xch, domid))
			return arg;
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	void *failed;

	(void)state;
	servers[0].context[0] = SMALL;
	servers[1].context[0] = LARGE;
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_both, "failed"), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(servers[0].connections, 1);
	assert_int_equal(servers[1].connections, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_list),
		TEST(test_stopped),
		TEST(test_calls),
		TEST(test_errors),
		TEST(test_bad_hello),
		TEST(test_logdirty),
		TEST(test_logdirty_refusals),
		TEST(test_context),
		TEST(test_map),
		TEST(test_map_coalesces),
		TEST(test_map_after_restart),
		TEST(test_pause_path_allocates_nothing),
		TEST(test_threads),
	};

	return test_main(tests);
}
