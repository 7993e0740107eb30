/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/stream.h"

#include <sys/uio.h>

/* The outer stream, whose header is big-endian. */
#define LIBXL_IDENT	UINT64_C(0x4c6962786c466d74) /* "LibxlFmt" */
#define LIBXL_VERSION_2 2u
#define LIBXL_END	0u
#define LIBXL_LIBXC	1u
#define LIBXL_EMULATOR	3u
#define LIBXL_QEMU	2u /* of this emulator, upstream's, which is number 0 */
/* The inner one; its header is big-endian too. */
#define LIBXC_MARKER	   UINT64_MAX
#define LIBXC_ID	   0x58454e46u /* "XENF" */
#define LIBXC_VERSION_3	   3u
#define LIBXC_X86_HVM	   2u /* PVH, too */
#define LIBXC_PAGE_SHIFT   12u
#define LIBXC_END	   0u
#define LIBXC_PAGE_DATA	   1u
#define LIBXC_TSC_INFO	   8u
#define LIBXC_HVM_CONTEXT  9u
#define LIBXC_HVM_PARAMS   10u
#define LIBXC_STATIC_END   16u
#define LIBXC_CPUID_POLICY 17u
#define LIBXC_MSR_POLICY   18u

#define RECORD_HEADER 8u
#define RECORD_ALIGN  8u
#define TYPE_ALLOCATE (UINT64_C(0xe) << 60) /* XEN_DOMCTL_PFINFO_XALLOC: memory, no content */
#define BATCH_PAGES   1024u
#define BATCH_BYTES   (8u + 8u * BATCH_PAGES)
static_assert(BATCH_BYTES >= 2 * XEN_STREAM_PIPE_BYTES, "a settling record fills the pipe");

static int write_all(int fd, struct iovec *iov, int n)
{
	while (n > 0) {
		ssize_t done = writev(fd, iov, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		for (; n > 0 && (size_t)done >= iov->iov_len; n--)
			done -= (ssize_t)iov++->iov_len;
		if (n > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int write_bytes(int fd, const struct cursor *out, uint8_t *bytes)
{
	struct iovec iov = { .iov_base = bytes, .iov_len = (size_t)(out->pos - bytes) };

	assert(cursor_ok(out));
	return write_all(fd, &iov, 1);
}

static int write_record(int fd, uint32_t type, const void *body, uint32_t len)
{
	static const uint8_t zeros[RECORD_ALIGN];
	uint8_t header[RECORD_HEADER];
	struct cursor out = cursor_over(header, sizeof(header));
	struct iovec iov[] = {
		{ .iov_base = header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)(uintptr_t)body, .iov_len = len },
		{ .iov_base = (void *)(uintptr_t)zeros,
		  .iov_len = (RECORD_ALIGN - len % RECORD_ALIGN) % RECORD_ALIGN },
	};

	cursor_put_u32(&out, type);
	cursor_put_u32(&out, len);
	return write_all(fd, iov, ARRAY_SIZE(iov));
}

/* --- open -------------------------------------------------------------------------------- */

static void put_be32(struct cursor *out, uint32_t v)
{
	cursor_put_u32(out, __builtin_bswap32(v));
}

static int write_headers(int fd, const struct xen_description *d)
{
	uint8_t bytes[16 + RECORD_HEADER + 24 + 16];
	struct cursor out = cursor_over(bytes, sizeof(bytes));
	uint32_t major = 0, minor = 0;

	xen_version_parse(d->version, &major, &minor);
	cursor_put_u64(&out, __builtin_bswap64(LIBXL_IDENT));
	put_be32(&out, LIBXL_VERSION_2);
	put_be32(&out, 0); /* little-endian from here on */
	cursor_put_u32(&out, LIBXL_LIBXC);
	cursor_put_u32(&out, 0);

	cursor_put_u64(&out, LIBXC_MARKER);
	put_be32(&out, LIBXC_ID);
	put_be32(&out, LIBXC_VERSION_3);
	cursor_put_u64(&out, 0); /* little-endian, reserved */
	cursor_put_u32(&out, LIBXC_X86_HVM);
	cursor_put_u16(&out, LIBXC_PAGE_SHIFT);
	cursor_put_u16(&out, 0);
	cursor_put_u32(&out, major);
	cursor_put_u32(&out, minor);
	return write_bytes(fd, &out, bytes);
}

int xen_stream_open(int fd, const struct xen_description *d)
{
	int err = write_headers(fd, d);

	if (!err)
		err = write_record(fd, LIBXC_CPUID_POLICY, d->cpuid, d->nr_leaves * XEN_LEAF_BYTES);
	if (!err)
		err = write_record(fd, LIBXC_MSR_POLICY, d->msrs, d->nr_msrs * XEN_MSR_BYTES);
	if (!err)
		err = write_record(fd, LIBXC_STATIC_END, NULL, 0);
	return err;
}

/* --- memory ------------------------------------------------------------------------------ */

struct batch {
	int fd;
	uint32_t n;
	uint64_t gfn[BATCH_PAGES];
};

static int flush(struct batch *b)
{
	uint8_t bytes[BATCH_BYTES];
	struct cursor out = cursor_over(bytes, sizeof(bytes));

	if (!b->n)
		return 0;
	cursor_put_u32(&out, b->n);
	cursor_put_u32(&out, 0);
	for (uint32_t i = 0; i < b->n; i++)
		cursor_put_u64(&out, TYPE_ALLOCATE | b->gfn[i]);
	assert(cursor_ok(&out));
	b->n = 0;
	return write_record(b->fd, LIBXC_PAGE_DATA, bytes, (uint32_t)(out.pos - bytes));
}

int xen_stream_allocate(int fd, const struct xen_range *range, uint32_t nr_ranges)
{
	struct batch b = { .fd = fd };
	int err = 0;

	for (uint32_t r = 0; r < nr_ranges && !err; r++) {
		for (uint64_t i = 0; i < range[r].count && !err; i++) {
			b.gfn[b.n++] = range[r].first + i;
			if (b.n == BATCH_PAGES)
				err = flush(&b);
		}
	}
	return err ? err : flush(&b);
}

/* A record is read after the one before it was dealt with. This one asks for memory that is
 * there, which is nothing to do; it is larger than the pipe, so it is being read by the time
 * that it is written. */
int xen_stream_settle(int fd, uint64_t gfn)
{
	struct batch b = { .fd = fd, .n = BATCH_PAGES };

	for (uint32_t i = 0; i < BATCH_PAGES; i++)
		b.gfn[i] = gfn;
	return flush(&b);
}

/* --- end --------------------------------------------------------------------------------- */

static int write_tsc(int fd, const struct xen_state *s)
{
	uint8_t bytes[24];
	struct cursor out = cursor_over(bytes, sizeof(bytes));

	cursor_put_u32(&out, s->tsc_mode);
	cursor_put_u32(&out, s->tsc_khz);
	cursor_put_u64(&out, s->tsc_nsec);
	cursor_put_u32(&out, s->tsc_incarnation);
	cursor_put_u32(&out, 0);
	assert(cursor_ok(&out));
	return write_record(fd, LIBXC_TSC_INFO, bytes, sizeof(bytes));
}

static int write_params(int fd, const struct xen_state *s)
{
	uint8_t bytes[8 + 16 * XEN_STATE_PARAMS_MAX];
	struct cursor out = cursor_over(bytes, sizeof(bytes));

	if (!s->nr_params)
		return 0;
	cursor_put_u32(&out, s->nr_params);
	cursor_put_u32(&out, 0);
	for (uint32_t i = 0; i < s->nr_params; i++) {
		cursor_put_u64(&out, s->param[i].index);
		cursor_put_u64(&out, s->param[i].value);
	}
	assert(cursor_ok(&out));
	return write_record(fd, LIBXC_HVM_PARAMS, bytes, (uint32_t)(out.pos - bytes));
}

static int write_emulator(int fd, const struct xen_state *s)
{
	uint32_t len = 8 + s->emulator_len;
	cleanup_free uint8_t *bytes = NULL;
	struct cursor out;

	if (!s->emulator_len)
		return 0;
	bytes = malloc(len);
	if (!bytes)
		return -ENOMEM;
	out = cursor_over(bytes, len);
	cursor_put_u32(&out, LIBXL_QEMU);
	cursor_put_u32(&out, 0);
	cursor_put_bytes(&out, s->emulator, s->emulator_len);
	assert(cursor_ok(&out));
	return write_record(fd, LIBXL_EMULATOR, bytes, len);
}

int xen_stream_end(int fd, const struct xen_state *state)
{
	int err = write_tsc(fd, state);

	if (!err)
		err = write_record(fd, LIBXC_HVM_CONTEXT, state->context, state->context_len);
	if (!err)
		err = write_params(fd, state);
	if (!err)
		err = write_record(fd, LIBXC_END, NULL, 0);
	if (!err)
		err = write_emulator(fd, state);
	if (!err)
		err = write_record(fd, LIBXL_END, NULL, 0);
	return err;
}
