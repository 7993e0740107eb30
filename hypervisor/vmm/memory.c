/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor/vmm/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "base/fault.h"

#define BYTES_UNIT (UINT64_C(1) << 20)
#define SEALS	   (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t gfn_of(uint64_t gpa)
{
	return gpa / GUEST_PAGE_BYTES;
}

static int make_memfd(uint64_t bytes)
{
	int fd = memfd_create("pollux-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, SEALS)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Memory that a process before us has made: its seals are what keeps it from shrinking now. */
static int check_memfd(int fd, uint64_t bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || fstat(fd, &st))
		return -errno;
	if ((seals & SEALS) != SEALS || (uint64_t)st.st_size != bytes)
		return -EINVAL;
	return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

/* Takes fd over. */
static int map_memfd(struct guest_memory *mem, int fd, uint64_t bytes)
{
	int err;

	mem->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (mem->base == MAP_FAILED) {
		err = -errno;
		mem->base = NULL;
		close(fd);
		return err;
	}
	mem->fd = fd;
	return 0;
}

int guest_memory_open(struct guest_memory *ret, uint64_t bytes, int inherited_fd)
{
	struct guest_memory mem = { .fd = -1 };
	uint64_t words;
	int err;

	if (bytes < GUEST_MIN_BYTES || bytes > GUEST_MAX_BYTES || bytes % BYTES_UNIT)
		return -EINVAL;
	mem.low_bytes = MIN(bytes, GUEST_HOLE_START);
	mem.high_bytes = bytes - mem.low_bytes;
	mem.nr_gfns =
		mem.high_bytes ? gfn_of(GUEST_HIGH_START + mem.high_bytes) : gfn_of(mem.low_bytes);
	words = bitmap_words(mem.nr_gfns);

	if (inherited_fd >= 0) {
		err = check_memfd(inherited_fd, bytes);
		if (err)
			return err;
	} else {
		inherited_fd = make_memfd(bytes);
		if (inherited_fd < 0)
			return inherited_fd;
	}
	err = map_memfd(&mem, inherited_fd, bytes);
	if (err)
		return err;
	mem.device_dirty = calloc(words, sizeof(uint64_t));
	mem.device_summary = calloc(bitmap_words(words), sizeof(uint64_t));
	if (!mem.device_dirty || !mem.device_summary) {
		guest_memory_close(&mem);
		return -ENOMEM;
	}
	*ret = mem;
	return 0;
}

void guest_memory_close(struct guest_memory *mem)
{
	if (!mem->base)
		return;
	munmap(mem->base, mem->low_bytes + mem->high_bytes);
	close(mem->fd);
	free(mem->device_dirty);
	free(mem->device_summary);
	mem->base = NULL;
}

/* Where `gpa` lies in the memfd, or NULL unless all of [gpa, gpa + len) is memory. */
static uint8_t *host_of(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	if (gpa <= mem->low_bytes && len <= mem->low_bytes - gpa)
		return mem->base + gpa;
	if (gpa < GUEST_HIGH_START)
		return NULL;
	gpa -= GUEST_HIGH_START;
	if (gpa <= mem->high_bytes && len <= mem->high_bytes - gpa)
		return mem->base + mem->low_bytes + gpa;
	return NULL;
}

bool guest_range_ok(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	return host_of(mem, gpa, len);
}

int guest_read(const struct guest_memory *mem, uint64_t gpa, void *ret, size_t len)
{
	const uint8_t *from = host_of(mem, gpa, len);

	if (!from)
		return -EFAULT;
	memcpy(ret, from, len);
	return 0;
}

static void mark_page(struct guest_memory *mem, uint64_t gfn)
{
	uint64_t *word = &mem->device_dirty[gfn / BITMAP_WORD_BITS];
	uint64_t bit = UINT64_C(1) << (gfn % BITMAP_WORD_BITS);

	/* Armed by the test of the memory oracle, which must notice: a page's first mark, since
	 * to forget a later one changes nothing. */
	if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit) && fault_at("memory.skip_mark"))
		return;
	__atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
	gfn /= BITMAP_WORD_BITS;
	__atomic_fetch_or(&mem->device_summary[gfn / BITMAP_WORD_BITS],
			  UINT64_C(1) << (gfn % BITMAP_WORD_BITS), __ATOMIC_RELEASE);
}

/*
 * The mark follows the bytes: a harvest that runs at the same time takes either a mark
 * whose bytes are there, or no mark, and then the next harvest finds it.
 */
int guest_write(struct guest_memory *mem, uint64_t gpa, const void *src, size_t len)
{
	uint8_t *to = host_of(mem, gpa, len);

	if (!to)
		return -EFAULT;
	if (len == 0)
		return 0;
	memcpy(to, src, len);
	for (uint64_t gfn = gfn_of(gpa); gfn <= gfn_of(gpa + len - 1); gfn++)
		mark_page(mem, gfn);
	return 0;
}

/* Both parts of memory begin and end at multiples of 1 MiB: whole words, but for the summary. */
static void mark_words(struct guest_memory *mem, uint64_t first, uint64_t end)
{
	for (uint64_t word = first; word < end; word++) {
		__atomic_store_n(&mem->device_dirty[word], UINT64_MAX, __ATOMIC_RELEASE);
		__atomic_fetch_or(&mem->device_summary[word / BITMAP_WORD_BITS],
				  UINT64_C(1) << (word % BITMAP_WORD_BITS), __ATOMIC_RELEASE);
	}
}

void guest_mark_all(struct guest_memory *mem)
{
	mark_words(mem, 0, gfn_of(mem->low_bytes) / BITMAP_WORD_BITS);
	if (mem->high_bytes)
		mark_words(mem, gfn_of(GUEST_HIGH_START) / BITMAP_WORD_BITS,
			   mem->nr_gfns / BITMAP_WORD_BITS);
}

/* One word of the summary: up to 64 words of marks. */
static uint64_t harvest_word(struct guest_memory *mem, size_t index, uint64_t *bitmap, bool keep)
{
	uint64_t *from = &mem->device_summary[index];
	uint64_t summary = keep ? __atomic_load_n(from, __ATOMIC_ACQUIRE)
				: __atomic_exchange_n(from, 0, __ATOMIC_ACQ_REL);
	uint64_t fresh = 0;

	while (summary) {
		size_t word = index * BITMAP_WORD_BITS + (size_t)__builtin_ctzll(summary);
		uint64_t marks =
			keep ? __atomic_load_n(&mem->device_dirty[word], __ATOMIC_ACQUIRE)
			     : __atomic_exchange_n(&mem->device_dirty[word], 0, __ATOMIC_ACQ_REL);

		fresh += (uint64_t)__builtin_popcountll(marks & ~bitmap[word]);
		bitmap[word] |= marks;
		summary &= summary - 1;
	}
	return fresh;
}

uint64_t guest_harvest_marks(struct guest_memory *mem, uint64_t *bitmap, bool keep)
{
	size_t words = bitmap_words(bitmap_words(mem->nr_gfns));
	uint64_t fresh = 0;

	for (size_t i = 0; i < words; i++)
		if (__atomic_load_n(&mem->device_summary[i], __ATOMIC_RELAXED))
			fresh += harvest_word(mem, i, bitmap, keep);
	return fresh;
}
