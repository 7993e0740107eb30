/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/dirty.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "hypervisor/vmm/hot.h"
#include "hypervisor/vmm/vm.h"

/*
 * Dirty words that lie no further apart than this many clean ones are cleared by one
 * call: a call costs a system call and KVM's mmu lock, a clean word a copy of 8 bytes.
 */
#define CLEAR_GAP_WORDS 256u

struct slot {
	uint32_t id;
	uint64_t gpa, bytes;
	uint8_t *host;
};

struct dirty {
	int vm_fd;
	struct guest_memory *memory;
	uint64_t *bitmap;
	uint64_t *clear; /* what a CLEAR is to name; all zero between two */
	struct hot hot;
	unsigned int nr_slots;
	struct slot slot[2];
	bool manual; /* KVM_CLEAR_DIRTY_LOG clears; else KVM_GET_DIRTY_LOG does */
	pthread_mutex_t lock;
	bool on; /* lock */
};

static int set_slots(struct dirty *dirty, uint32_t flags)
{
	for (unsigned int i = 0; i < dirty->nr_slots; i++) {
		struct slot *slot = &dirty->slot[i];
		struct kvm_userspace_memory_region region = {
			.slot = slot->id,
			.flags = flags,
			.guest_phys_addr = slot->gpa,
			.memory_size = slot->bytes,
			.userspace_addr = (uint64_t)(uintptr_t)slot->host,
		};

		if (ioctl(dirty->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
			return -errno;
	}
	return 0;
}

/*
 * Manual protection splits "what is dirty" from "write-protect it again", so the long half
 * is done only for words with bits. INITIALLY_SET spares write-protecting all of memory
 * when logging starts: everything counts as dirty, and pages are protected as they are
 * cleared the first time.
 */
static bool enable_manual(int vm_fd)
{
	int can = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
	};

	if (can <= 0)
		return false;
	cap.args[0] &= (uint64_t)can;
	return ioctl(vm_fd, KVM_ENABLE_CAP, &cap) == 0;
}

int dirty_open(struct vm *vm, uint64_t *bitmap, struct dirty **ret)
{
	struct guest_memory *mem = &vm->memory;
	struct dirty *dirty = calloc(1, sizeof(*dirty));
	int err;

	if (!dirty)
		return -ENOMEM;
	*dirty = (struct dirty){
		.vm_fd = vm->fd,
		.memory = mem,
		.bitmap = bitmap,
		.nr_slots = mem->high_bytes ? 2 : 1,
		.slot = { { .id = 0, .bytes = mem->low_bytes, .host = mem->base },
			  { .id = 1,
			    .gpa = GUEST_HIGH_START,
			    .bytes = mem->high_bytes,
			    .host = mem->base + mem->low_bytes } },
	};
	pthread_mutex_init(&dirty->lock, NULL);
	dirty->manual = enable_manual(vm->fd);
	dirty->clear = calloc(bitmap_words(mem->nr_gfns), sizeof(*dirty->clear));
	err = dirty->clear ? hot_open(&dirty->hot, mem->nr_gfns) : -ENOMEM;
	if (!err)
		err = set_slots(dirty, 0);
	if (err) {
		dirty_close(dirty);
		return err;
	}
	*ret = dirty;
	return 0;
}

void dirty_close(struct dirty *dirty)
{
	if (!dirty)
		return;
	hot_close(&dirty->hot);
	free(dirty->clear);
	free(dirty);
}

int dirty_enable(struct dirty *dirty)
{
	int err;

	pthread_mutex_lock(&dirty->lock);
	err = dirty->on ? 0 : set_slots(dirty, KVM_MEM_LOG_DIRTY_PAGES);
	if (!err) {
		dirty->on = true;
		hot_reset(&dirty->hot);
		guest_mark_all(dirty->memory);
	}
	pthread_mutex_unlock(&dirty->lock);
	return err;
}

int dirty_disable(struct dirty *dirty)
{
	int err;

	pthread_mutex_lock(&dirty->lock);
	err = set_slots(dirty, 0);
	if (!err)
		dirty->on = false;
	pthread_mutex_unlock(&dirty->lock);
	return err;
}

static int clear_words(struct dirty *dirty, const struct slot *slot, uint64_t first, uint64_t end)
{
	uint64_t slot_pages = slot->bytes / GUEST_PAGE_BYTES;
	uint64_t pages = MIN(end * BITMAP_WORD_BITS, slot_pages) - first * BITMAP_WORD_BITS;
	uint64_t *map = dirty->clear + slot->gpa / GUEST_PAGE_BYTES / BITMAP_WORD_BITS;
	struct kvm_clear_dirty_log clear = {
		.slot = slot->id,
		.num_pages = (uint32_t)pages,
		.first_page = first * BITMAP_WORD_BITS,
		.dirty_bitmap = map + first,
	};
	int err = ioctl(dirty->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) ? -errno : 0;

	memset(map + first, 0, (end - first) * sizeof(*map));
	return err;
}

static uint64_t count_slot(const struct dirty *dirty, const struct slot *slot)
{
	const uint64_t *map = dirty->bitmap + slot->gpa / GUEST_PAGE_BYTES / BITMAP_WORD_BITS;
	uint64_t words = bitmap_words(slot->bytes / GUEST_PAGE_BYTES);
	uint64_t pages = 0;

	for (uint64_t w = 0; w < words; w++)
		pages += map[w] ? (uint64_t)__builtin_popcountll(map[w]) : 0;
	return pages;
}

/* Counts a slot's bits in the bitmap and clears in KVM those that are not hot. */
static int sweep_slot(struct dirty *dirty, const struct slot *slot, uint64_t *pages)
{
	uint64_t base = slot->gpa / GUEST_PAGE_BYTES;
	const uint64_t *map = dirty->bitmap + base / BITMAP_WORD_BITS;
	uint64_t *clear = dirty->clear + base / BITMAP_WORD_BITS;
	uint64_t words = bitmap_words(slot->bytes / GUEST_PAGE_BYTES);
	uint64_t first = 0, end = 0; /* the range that is being collected; empty at first */
	int err = 0;

	for (uint64_t w = 0; w < words && !err; w++) {
		uint64_t protect;

		if (!map[w])
			continue;
		*pages += (uint64_t)__builtin_popcountll(map[w]);
		protect = hot_protect(&dirty->hot, base + w * BITMAP_WORD_BITS, map[w]);
		if (!protect)
			continue;
		if (end == 0) {
			first = w;
		} else if (w - end > CLEAR_GAP_WORDS) {
			err = clear_words(dirty, slot, first, end);
			first = w;
		}
		clear[w] = protect;
		end = w + 1;
	}
	if (!err && end)
		err = clear_words(dirty, slot, first, end);
	/* A bit left behind would one day clear a page that no set has named. */
	if (err)
		memset(clear, 0, words * sizeof(*clear));
	return err;
}

static int take_slot(struct dirty *dirty, const struct slot *slot, bool keep, uint64_t *pages)
{
	struct kvm_dirty_log log = {
		.slot = slot->id,
		.dirty_bitmap = dirty->bitmap + slot->gpa / GUEST_PAGE_BYTES / BITMAP_WORD_BITS,
	};

	if (ioctl(dirty->vm_fd, KVM_GET_DIRTY_LOG, &log))
		return -errno;
	if (!keep && dirty->manual)
		return sweep_slot(dirty, slot, pages);
	*pages += count_slot(dirty, slot);
	return 0;
}

/*
 * A failure half way has cleared bits that the caller never saw as a set: everything
 * counts as dirty then, so that nothing is lost.
 */
int dirty_take(struct dirty *dirty, bool keep, uint64_t *ret_pages)
{
	uint64_t pages = 0;
	int err = 0;

	pthread_mutex_lock(&dirty->lock);
	if (!dirty->on)
		err = -EINVAL;
	else if (keep && !dirty->manual)
		err = -EOPNOTSUPP;
	else if (!keep)
		hot_next(&dirty->hot);
	for (unsigned int i = 0; !err && i < dirty->nr_slots; i++) {
		err = take_slot(dirty, &dirty->slot[i], keep, &pages);
		if (err)
			guest_mark_all(dirty->memory);
	}
	if (!err)
		*ret_pages = pages + guest_harvest_marks(dirty->memory, dirty->bitmap, keep);
	pthread_mutex_unlock(&dirty->lock);
	return err;
}
