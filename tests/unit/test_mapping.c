/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ha/mapping.h against a stand-in for libxenforeignmemory, of a domain with memory like that
 * of a PVH guest: low, and a few pages near 4 GiB, with one in between that is Xen's.
 */
#include "tests/lib/test.h"

#include <string.h>
#include <sys/mman.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "ha/mapping.h"

#define LOW	20000u
#define SPECIAL 0xfeff8u
#define XENS	0xfeffau
#define GFNS	0xff000u
#define PAGE	4096u

static unsigned int maps, unmaps;
static uint64_t broken = UINT64_MAX; /* a page that is the domain's, and cannot be mapped */
static uint64_t added = UINT64_MAX;  /* one that it was given later */

static bool exists(uint64_t gfn)
{
	return gfn < LOW || (gfn >= SPECIAL && gfn < GFNS) || gfn == added;
}

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned int flags)
{
	(void)logger;
	(void)flags;
	return (xenforeignmemory_handle *)&maps;
}

int xenforeignmemory_close(xenforeignmemory_handle *h)
{
	(void)h;
	return 0;
}

/* The first word of a page is its gfn. Pages that are not mapped cannot be touched. */
void *xenforeignmemory_map(xenforeignmemory_handle *h, uint32_t dom, int prot, size_t pages,
			   const xen_pfn_t *gfns, int *errors)
{
	uint8_t *base = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)h;
	assert_int_equal(dom, 9);
	for (size_t i = 0; i < pages; i++) {
		errors[i] = exists(gfns[i]) && gfns[i] != broken ? 0 : EINVAL;
		if (errors[i])
			mprotect(base + i * PAGE, PAGE, PROT_NONE);
		else
			memcpy(base + i * PAGE, &gfns[i], sizeof(gfns[i]));
	}
	maps++;
	return base;
}

int xenforeignmemory_unmap(xenforeignmemory_handle *h, void *addr, size_t pages)
{
	(void)h;
	unmaps++;
	return munmap(addr, pages * PAGE);
}

static int judge(void *opaque, xen_pfn_t *gfns, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (!exists(gfns[i]) || gfns[i] == XENS)
			gfns[i] = MAPPING_NO_GFN;
	return *(int *)opaque;
}

static void check(const struct mapping *m, uint64_t gfn)
{
	uint64_t *page = mapping_page(m, gfn);

	assert_non_null(page);
	assert_int_equal(*page, gfn);
}

static void test_holes(void **state)
{
	int answer = 0;
	struct mapping_config config = {
		.domid = 9, .nr_gfns = GFNS, .judge = judge, .opaque = &answer
	};
	struct mapping *m;

	(void)state;
	assert_int_equal(mapping_open(&config, &m), 0);
	assert_int_equal(mapping_pages(m), LOW + GFNS - SPECIAL - 1);
	check(m, 0);
	check(m, LOW - 1);
	check(m, SPECIAL);
	check(m, GFNS - 1);
	assert_null(mapping_page(m, LOW));
	assert_null(mapping_page(m, SPECIAL - 1));
	assert_null(mapping_page(m, XENS));
	assert_null(mapping_page(m, GFNS));
	assert_null(mapping_page(m, UINT64_MAX));
	assert_int_equal(maps, 3); /* nothing of the hole */
	mapping_close(m);
	assert_int_equal(unmaps, 3);
}

/* Without a judge what cannot be mapped is no memory; with one it would be lost. */
static void test_who_says_so(void **state)
{
	int answer = 0;
	struct mapping_config config = { .domid = 9, .nr_gfns = GFNS, .opaque = &answer };
	struct mapping *m;

	(void)state;
	broken = 77;
	assert_int_equal(mapping_open(&config, &m), 0);
	assert_int_equal(mapping_pages(m), LOW + GFNS - SPECIAL - 1);
	assert_null(mapping_page(m, broken));
	check(m, XENS);
	mapping_close(m);
	config.judge = judge;
	assert_int_equal(mapping_open(&config, &m), -EIO);
	broken = UINT64_MAX;
	answer = -EPERM;
	assert_int_equal(mapping_open(&config, &m), -EPERM);
}

/* Another page of Xen's is nothing new; what was a hole and is memory now is. */
static void test_new_memory(void **state)
{
	static uint64_t dirty[GFNS / 64 + 1];
	int answer = 0;
	struct mapping_config config = {
		.domid = 9, .nr_gfns = GFNS, .judge = judge, .opaque = &answer
	};
	struct mapping *m;
	uint64_t gfn = 0;

	(void)state;
	assert_int_equal(mapping_open(&config, &m), 0);
	bitmap_set_range(dirty, 0, GFNS);
	assert_int_equal(mapping_find_new(m, dirty, &gfn), 0);
	added = LOW + 1000;
	assert_int_equal(mapping_find_new(m, dirty, &gfn), 1);
	assert_int_equal(gfn, added);
	memset(dirty, 0, sizeof(dirty));
	bitmap_set_range(dirty, 0, added);
	assert_int_equal(mapping_find_new(m, dirty, &gfn), 0);
	bitmap_set_range(dirty, added, 1);
	assert_int_equal(mapping_find_new(m, dirty, &gfn), 1);
	answer = -EPERM;
	assert_int_equal(mapping_find_new(m, dirty, &gfn), -EPERM);
	added = UINT64_MAX;
	mapping_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_who_says_so),
		cmocka_unit_test(test_new_memory),
	};

	return test_main(tests);
}
