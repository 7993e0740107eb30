/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves a domain of Xen by what pollux-xen offers and nothing else: a checkpoint by hand.
 *
 *	xen-move describe RUN_DIR FOLDER	writes the description of the domain that is adopted
 *there xen-move save RUN_DIR FOLDER	suspends it; writes its description, memory and state; it
 *					stays suspended
 *	xen-move load RUN_DIR FOLDER	fills the standby there with them and lets it run
 *	xen-move destroy RUN_DIR	ends domain and companion
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xenstore.h>

#include "base/file.h"
#include "hypervisor/control/control.h"
#include "hypervisor/xen/description.h"
#include "hypervisor/xen/state.h"

#define BATCH	   1024u
#define PAGE_BYTES 4096u
#define SUSPEND_MS 10000u

static xc_interface *xch;
static xenforeignmemory_handle *foreign;
static struct control *control;
static uint32_t domid;

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "xen-move: %s: %s\n", what, why);
	exit(1);
}

static void check(bool ok, const char *what)
{
	if (!ok)
		fail(what, strerror(errno));
}

static void call(struct control_call *c, struct cursor *ret)
{
	static struct reason why;
	int err;

	c->why = &why;
	err = control_call(control, c, ret);
	if (err)
		fail("control", why.text[0] ? why.text : strerror(-err));
}

static void hello(const char *run_dir)
{
	uint8_t version[] = { CONTROL_VERSION, 0, 0, 0 };
	struct control_call c = { .op = CONTROL_HELLO, .request = version, .request_len = 4 };
	struct cursor in;

	errno = -control_connect(run_dir, &control);
	check(!errno, run_dir);
	call(&c, &in);
	cursor_get_u32(&in);
	domid = cursor_get_u32(&in);
	xch = xc_interface_open(NULL, NULL, 0);
	foreign = xenforeignmemory_open(NULL, 0);
	check(xch && foreign, "Xen");
}

static int file_in(const char *folder, const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, flags, 0600);
	check(fd >= 0, path);
	return fd;
}

/* --- memory ------------------------------------------------------------------------------ */

/* All pages of a description, in order, one behind the other in the file. */
static void copy_memory(const struct xen_description *d, int fd, bool save)
{
	uint64_t at = 0;

	for (uint32_t r = 0; r < d->nr_ranges; r++) {
		for (uint64_t i = 0; i < d->range[r].count; i += BATCH) {
			size_t n = (size_t)MIN((uint64_t)BATCH, d->range[r].count - i);
			xen_pfn_t gfn[BATCH];
			int errors[BATCH], err;
			void *pages;

			for (size_t k = 0; k < n; k++)
				gfn[k] = d->range[r].first + i + k;
			pages = xenforeignmemory_map(foreign, domid,
						     save ? PROT_READ : PROT_READ | PROT_WRITE, n,
						     gfn, errors);
			check(pages != NULL, "mapping");
			for (size_t k = 0; k < n; k++)
				if (errors[k])
					fail("mapping a page", strerror(-errors[k]));
			err = save ? file_write_at(fd, pages, n * PAGE_BYTES, at)
				   : file_read_at(fd, pages, n * PAGE_BYTES, at);
			errno = -err;
			check(!err, "memory's file");
			at += n * PAGE_BYTES;
			xenforeignmemory_unmap(foreign, pages, n);
		}
	}
}

/* --- save -------------------------------------------------------------------------------- */

static void suspend(void)
{
	struct xs_handle *xs = xs_open(0);
	struct timespec step = { .tv_nsec = 1000000 };
	xc_dominfo_t info;
	char path[64];

	check(xs != NULL, "xenstore");
	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", domid);
	check(xs_write(xs, XBT_NULL, path, "suspend", 7), path);
	for (unsigned int ms = 0; ms < SUSPEND_MS; ms++) {
		check(xc_domain_getinfo(xch, domid, 1, &info) == 1, "domain");
		if (info.shutdown && info.shutdown_reason == SHUTDOWN_suspend) {
			xs_close(xs);
			return;
		}
		nanosleep(&step, NULL);
	}
	fail("suspend", "the guest does not suspend within 10 s");
}

static void save_state(const char *folder)
{
	static uint8_t bytes[XEN_STATE_MAX], context[XEN_STATE_CONTEXT_MAX];
	struct cursor out = cursor_over(bytes, sizeof(bytes));
	struct xen_state s = { .context = context };
	int fd = file_in(folder, "state", O_WRONLY | O_CREAT | O_TRUNC), len;

	check(!xc_domain_get_tsc_info(xch, domid, &s.tsc_mode, &s.tsc_nsec, &s.tsc_khz,
				      &s.tsc_incarnation),
	      "tsc");
	for (unsigned int i = 0; i < xen_state_nr_params; i++) {
		struct xen_state_param *p = &s.param[s.nr_params];

		p->index = xen_state_params[i];
		check(!xc_hvm_param_get(xch, domid, (uint32_t)p->index, &p->value), "parameter");
		s.nr_params += p->value != 0;
	}
	len = xc_domain_hvm_getcontext(xch, domid, context, sizeof(context));
	check(len > 0, "context");
	s.context_len = (uint32_t)len;
	xen_state_put(&out, &s);
	check(cursor_ok(&out) && !file_write_at(fd, bytes, (size_t)(out.pos - bytes), 0), "state");
	close(fd);
}

static void describe(const char *folder, struct xen_description *ret)
{
	struct reason why = { "" };
	int fd, described = -1;
	struct control_call c = { .op = CONTROL_DESCRIBE, .ret_fds = &described, .nr_fds = 1 };
	struct cursor in;
	uint64_t len;
	char *text;

	call(&c, &in);
	len = cursor_get_u64(&in);
	text = calloc(1, len + 1);
	check(text && !file_read_at(described, text, len, 0), "description");
	if (xen_description_parse(text, ret, &why))
		fail("description", why.text);
	fd = file_in(folder, "config.json", O_WRONLY | O_CREAT | O_TRUNC);
	check(!file_write_at(fd, text, len, 0), "config.json");
	close(fd);
	free(text);
}

static void save(const char *folder)
{
	struct xen_description d;
	int fd;

	describe(folder, &d);
	suspend();
	fd = file_in(folder, "memory", O_WRONLY | O_CREAT | O_TRUNC);
	copy_memory(&d, fd, true);
	close(fd);
	save_state(folder);
	printf("saved domain %u: %llu pages\n", domid, (unsigned long long)d.nr_pages);
}

/* --- load -------------------------------------------------------------------------------- */

static void load(const char *folder)
{
	struct xen_description d;
	struct reason why = { "" };
	char path[256];
	uint8_t request[8];
	struct cursor out = cursor_over(request, sizeof(request)), in;
	int state = file_in(folder, "state", O_RDONLY),
	    memory = file_in(folder, "memory", O_RDONLY);
	struct control_call set = { .op = CONTROL_SET_CONTEXT,
				    .request = request,
				    .request_len = 8,
				    .request_fds = &state,
				    .nr_request_fds = 1 };
	struct control_call unpause = { .op = CONTROL_UNPAUSE };

	snprintf(path, sizeof(path), "%s/config.json", folder);
	if (xen_description_read(path, &d, &why))
		fail(path, why.text);
	copy_memory(&d, memory, false);
	cursor_put_u64(&out, (uint64_t)lseek(state, 0, SEEK_END));
	call(&set, &in);
	call(&unpause, &in);
	printf("domain %u runs\n", domid);
}

int main(int argc, char **argv)
{
	struct xen_description ignored;

	if (argc < 3)
		fail("usage",
		     "xen-move describe|save|load RUN_DIR FOLDER, xen-move destroy RUN_DIR");
	hello(argv[2]);
	if (!strcmp(argv[1], "describe") && argc == 4) {
		describe(argv[3], &ignored);
	} else if (!strcmp(argv[1], "save") && argc == 4) {
		save(argv[3]);
	} else if (!strcmp(argv[1], "load") && argc == 4) {
		load(argv[3]);
	} else if (!strcmp(argv[1], "destroy")) {
		uint8_t how = CONTROL_DESTROY;
		struct control_call c = { .op = CONTROL_SHUTDOWN,
					  .request = &how,
					  .request_len = 1 };
		struct cursor in;

		call(&c, &in);
	} else {
		fail("usage", "describe, save, load or destroy");
	}
	return 0;
}
