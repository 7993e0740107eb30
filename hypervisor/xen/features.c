/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/xen/features.h"

#include "base/cursor.h"
#include "hypervisor/xen/description.h"

#define NO_SUBLEAF UINT32_MAX

struct leaf {
	uint32_t leaf, subleaf, reg[4];
};

/* The words of CPUID that are features (AMD64 APM vol. 3 app. E, Intel SDM vol. 2 CPUID). The
 * bits left out follow the guest's own settings, OSXSAVE and OSPKE, or repeat, on AMD, those
 * of leaf 1. */
static const struct word {
	uint32_t leaf, subleaf;
	unsigned int reg;
	uint32_t ignored;
} words[] = {
	{ 0x00000001, NO_SUBLEAF, 2, 1u << 27 },
	{ 0x00000001, NO_SUBLEAF, 3, 0 },
	{ 0x00000007, 0, 1, 0 },
	{ 0x00000007, 0, 2, 1u << 4 },
	{ 0x00000007, 0, 3, 0 },
	{ 0x00000007, 1, 0, 0 },
	{ 0x0000000d, 0, 0, 0 },
	{ 0x0000000d, 1, 0, 0 },
	{ 0x80000001, NO_SUBLEAF, 2, 0 },
	{ 0x80000001, NO_SUBLEAF, 3, 0x0183f3ff },
	{ 0x80000007, NO_SUBLEAF, 3, 0 },
	{ 0x80000008, NO_SUBLEAF, 1, 0 },
	{ 0x80000021, NO_SUBLEAF, 0, 0 },
};

static struct leaf leaf_at(struct xen_leaves in, uint32_t i)
{
	struct cursor c = cursor_over(in.bytes + (size_t)i * XEN_LEAF_BYTES, XEN_LEAF_BYTES);
	struct leaf l;

	l.leaf = cursor_get_u32(&c);
	l.subleaf = cursor_get_u32(&c);
	for (size_t r = 0; r < ARRAY_SIZE(l.reg); r++)
		l.reg[r] = cursor_get_u32(&c);
	return l;
}

/* 0 where there is no such leaf. */
static uint32_t value_of(struct xen_leaves in, const struct word *w)
{
	for (uint32_t i = 0; i < in.nr; i++) {
		struct leaf l = leaf_at(in, i);

		if (l.leaf == w->leaf && (l.subleaf == w->subleaf || w->subleaf == NO_SUBLEAF))
			return l.reg[w->reg];
	}
	return 0;
}

int xen_features_check(struct xen_leaves guest, struct xen_leaves host, struct reason *why)
{
	static const char *const names[] = { "eax", "ebx", "ecx", "edx" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const struct word *w = &words[i];
		uint32_t missing = value_of(guest, w) & ~value_of(host, w) & ~w->ignored;

		if (missing)
			return reason_set(why, EOPNOTSUPP,
					  "this host's processor lacks features that the domain "
					  "has: CPUID leaf %#x, %s, bits %#x",
					  w->leaf, names[w->reg], missing);
	}
	return 0;
}
