/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that knows nothing but <xenctrl.h> and <xenforeignmemory.h>: it lists, pauses,
 * asks for dirty pages and for the state, looks at memory. Built against our library it
 * speaks to pollux-vmm, against Debian's to Xen: the same source, proof of the same API.
 *
 *	xc-demo list
 *	xc-demo pause|unpause DOMID
 *	xc-demo checkpoint DOMID [ROUNDS]	one line a round: dirty pages, state, times
 *	xc-demo map DOMID GFN			the first bytes of a page
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>

#define PAGE_BYTES 4096

static xc_interface *xch;

static int failed(const char *what)
{
	fprintf(stderr, "xc-demo: %s: %s\n", what, strerror(errno));
	return 1;
}

static long microseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static const char *state_of(const xc_dominfo_t *info)
{
	if (info->crashed)
		return "crashed";
	if (info->shutdown)
		return "shutdown";
	return info->paused ? "paused" : "running";
}

static int list(void)
{
	xc_dominfo_t info[64];
	int n = xc_domain_getinfo(xch, 0, 64, info);

	if (n < 0 && errno != ESRCH)
		return failed("xc_domain_getinfo");
	for (int i = 0; i < n; i++)
		printf("domid=%u state=%s pages=%lu vcpus=%u cpu_ns=%llu\n", info[i].domid,
		       state_of(&info[i]), info[i].nr_pages, info[i].nr_online_vcpus,
		       (unsigned long long)info[i].cpu_time);
	return 0;
}

struct checkpoint {
	uint32_t domid;
	xen_pfn_t gfns;
	xc_hypercall_buffer_t *bitmap;
	uint8_t *state;
	int state_max;
};

static int one_checkpoint(struct checkpoint *c)
{
	xc_shadow_op_stats_t stats;
	long begin = microseconds(), stopped, cleaned, end;
	int length;

	if (xc_domain_pause(xch, c->domid))
		return failed("xc_domain_pause");
	stopped = microseconds();
	if (xc_logdirty_control(xch, c->domid, XEN_DOMCTL_SHADOW_OP_CLEAN, c->bitmap, c->gfns,
				XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, &stats) < 0)
		return failed("xc_logdirty_control");
	cleaned = microseconds();
	length = xc_domain_hvm_getcontext(xch, c->domid, c->state, (uint32_t)c->state_max);
	if (length < 0)
		return failed("xc_domain_hvm_getcontext");
	end = microseconds();
	if (xc_domain_unpause(xch, c->domid))
		return failed("xc_domain_unpause");
	printf("dirty=%u state_bytes=%d stop_us=%ld clean_us=%ld state_us=%ld\n", stats.dirty_count,
	       length, stopped - begin, cleaned - stopped, end - cleaned);
	return 0;
}

static int run_rounds(struct checkpoint *c, int rounds)
{
	struct timespec interval = { .tv_nsec = 100000000 };
	int err = 0;

	for (int i = 0; i < rounds && !err; i++) {
		nanosleep(&interval, NULL);
		err = one_checkpoint(c);
	}
	return err;
}

static int checkpoint(uint32_t domid, int rounds)
{
	DECLARE_HYPERCALL_BUFFER(unsigned long, bitmap);
	struct checkpoint c = { .domid = domid };
	int pages, err;

	if (xc_domain_nr_gpfns(xch, domid, &c.gfns))
		return failed("xc_domain_nr_gpfns");
	c.state_max = xc_domain_hvm_getcontext(xch, domid, NULL, 0);
	if (c.state_max < 0)
		return failed("xc_domain_hvm_getcontext");
	pages = (int)((c.gfns / 8 + PAGE_BYTES) / PAGE_BYTES);
	bitmap = xc_hypercall_buffer_alloc_pages(xch, bitmap, pages);
	c.state = malloc((size_t)c.state_max);
	if (!bitmap || !c.state)
		return failed("buffers");
	c.bitmap = HYPERCALL_BUFFER(bitmap);
	if (xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0))
		return failed("xc_shadow_control");
	err = run_rounds(&c, rounds);
	xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0);
	xc_hypercall_buffer_free_pages(xch, bitmap, pages);
	free(c.state);
	return err;
}

static int map(uint32_t domid, xen_pfn_t gfn)
{
	xenforeignmemory_handle *fmem = xenforeignmemory_open(NULL, 0);
	const unsigned char *page;

	if (!fmem)
		return failed("xenforeignmemory_open");
	page = xenforeignmemory_map(fmem, domid, PROT_READ, 1, &gfn, NULL);
	if (!page) {
		xenforeignmemory_close(fmem);
		return failed("xenforeignmemory_map");
	}
	for (int i = 0; i < 32; i++)
		printf("%02x%s", page[i], i == 31 ? "\n" : " ");
	xenforeignmemory_unmap(fmem, (void *)(unsigned long)page, 1);
	xenforeignmemory_close(fmem);
	return 0;
}

static int run(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	uint32_t domid = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0;

	if (argc == 2 && !strcmp(verb, "list"))
		return list();
	if (argc == 3 && !strcmp(verb, "pause"))
		return xc_domain_pause(xch, domid) ? failed(verb) : 0;
	if (argc == 3 && !strcmp(verb, "unpause"))
		return xc_domain_unpause(xch, domid) ? failed(verb) : 0;
	if (argc >= 3 && !strcmp(verb, "checkpoint"))
		return checkpoint(domid, argc > 3 ? atoi(argv[3]) : 1);
	if (argc == 4 && !strcmp(verb, "map"))
		return map(domid, strtoul(argv[3], NULL, 0));
	fprintf(stderr, "usage: xc-demo list | pause DOMID | unpause DOMID | "
			"checkpoint DOMID [ROUNDS] | map DOMID GFN\n");
	return 2;
}

int main(int argc, char **argv)
{
	int status;

	xch = xc_interface_open(NULL, NULL, 0);
	if (!xch)
		return failed("xc_interface_open");
	status = run(argc, argv);
	xc_interface_close(xch);
	return status;
}
