/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-dirty. The VM writes its bitmap into the area that it shares; here it goes into the
 * caller's buffer, which is wholly defined afterwards.
 *
 * Of a bitmap with a few hundred bits set among a million nearly every cache line is zero.
 * So a line is looked at and written only if it, or what the buffer holds there, is not.
 * Bits that name no page (the hole below 4 GiB, the end of the last word) are not
 * believed: they come out as zero.
 */
#include "base/bitmap.h"
#include "hypervisor/xenctrl/interface.h"

#define LINE_WORDS 8u

static int call_logdirty(struct link *link, uint8_t what, struct reason *why,
			 struct cursor *ret_reply)
{
	struct control_call call = {
		.op = CONTROL_LOGDIRTY,
		.request = &what,
		.request_len = sizeof(what),
		.why = why,
	};

	return link_call(link, &call, ret_reply);
}

int xc_shadow_control(xc_interface *xch, uint32_t domid, unsigned int sop, unsigned int *mb,
		      unsigned int mode)
{
	struct reason why = { 0 };
	struct cursor reply;
	struct link *link;
	uint8_t what = CONTROL_LOGDIRTY_ENABLE;
	int err;

	(void)mb;
	if (sop == XEN_DOMCTL_SHADOW_OP_OFF)
		what = CONTROL_LOGDIRTY_OFF;
	else if (sop != XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY &&
		 !(sop == XEN_DOMCTL_SHADOW_OP_ENABLE &&
		   mode == XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY))
		return interface_result(-EOPNOTSUPP, NULL);
	err = link_get(&xch->links, domid, &link, &why);
	if (!err) {
		err = call_logdirty(link, what, &why, &reply);
		link_put(&xch->links, link);
	}
	return interface_result(err, &why);
}

static uint64_t line_or(const uint64_t *w)
{
	return w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7];
}

static void zero_words(uint64_t *to, size_t words)
{
	for (size_t i = 0; i < words; i++)
		if (to[i])
			to[i] = 0;
}

static void copy_words(uint64_t *to, const uint64_t *from, size_t words)
{
	size_t i = 0;

	for (; i + LINE_WORDS <= words; i += LINE_WORDS)
		if (line_or(from + i) | line_or(to + i))
			for (size_t k = i; k < i + LINE_WORDS; k++)
				to[k] = from[k];
	for (; i < words; i++)
		to[i] = from[i];
}

/* Copies the bits [first, end), first on a word's border; zeroes the rest of the last word. */
static void copy_bits(uint64_t *to, const uint64_t *from, uint64_t first, uint64_t end)
{
	size_t at = (size_t)(first / BITMAP_WORD_BITS);
	size_t words = bitmap_words(end) - at;

	copy_words(to + at, from + at, words);
	if (end % BITMAP_WORD_BITS)
		to[at + words - 1] &= (UINT64_C(1) << end % BITMAP_WORD_BITS) - 1;
}

static void copy_bitmap(const struct link *link, uint64_t *to, uint64_t pages)
{
	uint64_t low = link->low_bytes >> LINK_PAGE_SHIFT;
	uint64_t high = LINK_HIGH_START >> LINK_PAGE_SHIFT;
	uint64_t end = bitmap_words(low);

	copy_bits(to, link->dirty, 0, low);
	if (link->high_bytes) {
		zero_words(to + end, (size_t)(high / BITMAP_WORD_BITS - end));
		copy_bits(to, link->dirty, high, link->nr_gfns);
		end = bitmap_words(link->nr_gfns);
	}
	zero_words(to + end, (size_t)(bitmap_words(pages) - end));
}

static int logdirty(struct link *link, uint8_t what, uint64_t *to, unsigned long pages,
		    xc_shadow_op_stats_t *stats)
{
	struct reason why = { 0 };
	struct cursor reply;
	uint64_t dirty;
	int err;

	/* Cleaning what the caller has no room for would lose pages for good. */
	if (to && pages < link->nr_gfns)
		return interface_result(reason_set(&why, EINVAL,
						   "a bitmap of %lu pages, the domain has %llu",
						   pages, (unsigned long long)link->nr_gfns),
					&why);
	err = call_logdirty(link, what, &why, &reply);
	if (err)
		return interface_result(err, &why);
	dirty = cursor_get_u64(&reply);
	cursor_get_u64(&reply); /* pages: nr_gfns, known */
	if (!cursor_ok(&reply))
		return interface_result(-EPROTO, NULL);
	if (to)
		copy_bitmap(link, to, pages);
	if (stats) {
		stats->fault_count = 0;
		stats->dirty_count = dirty > UINT32_MAX ? UINT32_MAX : (uint32_t)dirty;
	}
	return 0;
}

long long xc_logdirty_control(xc_interface *xch, uint32_t domid, unsigned int sop,
			      xc_hypercall_buffer_t *dirty_bitmap, unsigned long pages,
			      unsigned int mode, xc_shadow_op_stats_t *stats)
{
	DECLARE_HYPERCALL_BUFFER_ARGUMENT(dirty_bitmap);
	struct reason why = { 0 };
	struct link *link;
	long long result;
	int err;

	(void)mode; /* LOGDIRTY_FINAL: pause has made all of it final */
	if (sop != XEN_DOMCTL_SHADOW_OP_CLEAN && sop != XEN_DOMCTL_SHADOW_OP_PEEK)
		return interface_result(-EINVAL, NULL);
	err = link_get(&xch->links, domid, &link, &why);
	if (err)
		return interface_result(err, &why);
	result = logdirty(link,
			  sop == XEN_DOMCTL_SHADOW_OP_CLEAN ? CONTROL_LOGDIRTY_CLEAN
							    : CONTROL_LOGDIRTY_PEEK,
			  HYPERCALL_BUFFER(dirty_bitmap)->hbuf, pages, stats);
	if (!result)
		result = (long long)link->nr_gfns;
	link_put(&xch->links, link);
	return result;
}
