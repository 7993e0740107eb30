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
	{ 0x00000007, 1, 1, 0 },
	{ 0x00000007, 1, 2, 0 },
	{ 0x00000007, 1, 3, 0 },
	{ 0x00000007, 2, 3, 0 },
	{ 0x0000000d, 0, 0, 0 },
	{ 0x0000000d, 0, 3, 0 },
	{ 0x0000000d, 1, 0, 0 },
	{ 0x80000001, NO_SUBLEAF, 2, 0 },
	{ 0x80000001, NO_SUBLEAF, 3, 0x0183f3ff },
	{ 0x80000007, NO_SUBLEAF, 3, 0 },
	{ 0x80000008, NO_SUBLEAF, 1, 0 },
	{ 0x80000021, NO_SUBLEAF, 0, 0 },
};

/* MSRs that say what a processor has. Of ARCH_CAPABILITIES (Intel SDM vol. 4 tab. 2-2) two bits,
 * RSBA and RRSBA, say what it lacks. */
static const struct msr {
	uint32_t index;
	uint64_t ignored;
} msrs[] = {
	{ 0x000000ce, 0 },
	{ 0x0000010a, 1u << 2 | 1u << 19 },
};

static struct leaf leaf_at(const struct xen_policy *in, uint32_t i)
{
	struct cursor c = cursor_over(in->leaves + (size_t)i * XEN_LEAF_BYTES, XEN_LEAF_BYTES);
	struct leaf l;

	l.leaf = cursor_get_u32(&c);
	l.subleaf = cursor_get_u32(&c);
	for (size_t r = 0; r < ARRAY_SIZE(l.reg); r++)
		l.reg[r] = cursor_get_u32(&c);
	return l;
}

/* 0 where there is no such leaf. */
static uint32_t value_of(const struct xen_policy *in, const struct word *w)
{
	for (uint32_t i = 0; i < in->nr_leaves; i++) {
		struct leaf l = leaf_at(in, i);

		if (l.leaf == w->leaf && (l.subleaf == w->subleaf || w->subleaf == NO_SUBLEAF))
			return l.reg[w->reg];
	}
	return 0;
}

/* 0 where there is no such MSR. */
static uint64_t msr_of(const struct xen_policy *in, uint32_t index)
{
	for (uint32_t i = 0; i < in->nr_msrs; i++) {
		struct cursor c = cursor_over(in->msrs + (size_t)i * XEN_MSR_BYTES, XEN_MSR_BYTES);
		uint32_t at = cursor_get_u32(&c);

		cursor_get_u32(&c); /* flags: none are defined */
		if (at == index)
			return cursor_get_u64(&c);
	}
	return 0;
}

/* "GenuineIntel": leaf 0's ebx, edx, ecx; "" where there is no such leaf. */
static void maker_of(const struct xen_policy *in, char ret[13])
{
	static const unsigned int order[] = { 1, 3, 2 };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct word w = { 0, NO_SUBLEAF, order[i], 0 };
		uint32_t four = value_of(in, &w);

		for (unsigned int j = 0; j < 4; j++)
			ret[4 * i + j] = (char)(four >> (8 * j));
	}
	ret[12] = 0;
	for (char *c = ret; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* What a kernel does about its processor's faults, and how it calls the hypervisor, goes by it. */
static int check_maker(const struct xen_policy *guest, const struct xen_policy *host,
		       struct reason *why)
{
	char theirs[13], ours[13];

	maker_of(guest, theirs);
	maker_of(host, ours);
	return strcmp(theirs, ours)
		       ? reason_set(why, EOPNOTSUPP,
				    "this host's processor is of \"%s\", the domain knows one of "
				    "\"%s\"",
				    ours, theirs)
		       : 0;
}

static int check_words(const struct xen_policy *guest, const struct xen_policy *host,
		       struct reason *why)
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

static int check_msrs(const struct xen_policy *guest, const struct xen_policy *host,
		      struct reason *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		const struct msr *m = &msrs[i];
		uint64_t missing = msr_of(guest, m->index) & ~msr_of(host, m->index) & ~m->ignored;

		if (missing)
			return reason_set(why, EOPNOTSUPP,
					  "this host's processor lacks features that the domain "
					  "has: MSR %#x, bits %#llx",
					  m->index, (unsigned long long)missing);
	}
	return 0;
}

int xen_features_check(const struct xen_policy *guest, const struct xen_policy *host,
		       struct reason *why)
{
	int err = check_maker(guest, host, why);

	if (!err)
		err = check_words(guest, host, why);
	return err ? err : check_msrs(guest, host, why);
}
