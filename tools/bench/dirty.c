/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What taking the dirty set costs: KVM's dirty log, as dirty.c takes it, and KVM's dirty ring,
 * one beside the other, for a small and a large guest that dirty the same number of pages.
 * A guest of eight instructions writes to each page of a list. Needs /dev/kvm; whether the
 * guest's instructions are emulated does not matter to what is measured: system calls and
 * passes over memory of the host. Writes dirty.json.
 *
 * Source: Documentation/virt/kvm/api.rst, KVM_CAP_DIRTY_LOG_RING.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/err.h"
#include "hypervisor/vmm/dirty.h"
#include "hypervisor/vmm/vm.h"

#define CODE_AT	   0x1000u
#define LIST_AT	   0x10000u
#define FIRST_PAGE 0x100u
#define NR_DIRTY   700u
#define ROUNDS	   300u
#define RING_ROOM  65536u

enum pattern { SAME, OTHER };
static const char *const pattern_names[] = { "same", "other" };

struct machine {
	struct vm vm; /* its fd and memory alone are used */
	int vcpu_fd;
	struct kvm_run *run;
	uint64_t *bitmap;
	struct dirty *log; /* NULL: the ring */
	struct kvm_dirty_gfn *ring;
	uint32_t ring_at;
	uint32_t seed;
};

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench dirty: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_code(uint8_t *memory)
{
	static const uint8_t code[] = {
		0xbe,	       0x00,
		0x00,	       0x01,
		0x00, /* mov esi, LIST_AT */
		0xb9,	       NR_DIRTY & 0xff,
		NR_DIRTY >> 8, 0x00,
		0x00, /* mov ecx, NR_DIRTY */
		0x8b,	       0x3e,
		0xff,	       0x07,
		0x83,	       0xc6,
		0x04,	       0x49,
		0x75,	       0xf6, /* inc [[esi]]; loop */
		0xe6,	       0x00,
		0xeb,	       0xe8, /* out 0, al; again */
	};

	memcpy(memory + CODE_AT, code, sizeof(code));
}

static void start_vcpu(struct machine *m, int kvm)
{
	int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE_AT, .rflags = 2 };
	struct kvm_segment flat = { .limit = UINT32_MAX,
				    .selector = 8,
				    .type = 11,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1 };

	m->vcpu_fd = ioctl(m->vm.fd, KVM_CREATE_VCPU, 0);
	must(m->vcpu_fd, "KVM_CREATE_VCPU");
	m->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu_fd, 0);
	must(m->run == MAP_FAILED ? -1 : 0, "mmap of kvm_run");
	must(ioctl(m->vcpu_fd, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cr0 |= 1;
	sregs.cs = flat;
	flat.type = 3;
	flat.selector = 16;
	sregs.ds = sregs.es = sregs.ss = flat;
	must(ioctl(m->vcpu_fd, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(m->vcpu_fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void enable_ring(struct machine *m)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DIRTY_LOG_RING,
		.args[0] = RING_ROOM * sizeof(struct kvm_dirty_gfn),
	};

	must(ioctl(m->vm.fd, KVM_ENABLE_CAP, &cap), "KVM_CAP_DIRTY_LOG_RING");
}

static void map_ring(struct machine *m)
{
	m->ring = mmap(NULL, RING_ROOM * sizeof(*m->ring), PROT_READ | PROT_WRITE, MAP_SHARED,
		       m->vcpu_fd, KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	must(m->ring == MAP_FAILED ? -1 : 0, "mmap of the ring");
}

static void add_ring_slot(struct machine *m, uint32_t slot, uint64_t gpa, uint64_t bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uint64_t)(uintptr_t)m->vm.memory.base +
				  (slot ? m->vm.memory.low_bytes : 0),
	};

	if (bytes)
		must(ioctl(m->vm.fd, KVM_SET_USER_MEMORY_REGION, &region), "memory region");
}

static void open_machine(struct machine *m, int kvm, uint64_t mib, bool ring)
{
	struct guest_memory *mem = &m->vm.memory;

	memset(m, 0, sizeof(*m));
	m->seed = 1;
	m->vm.fd = ioctl(kvm, KVM_CREATE_VM, 0);
	must(m->vm.fd, "KVM_CREATE_VM");
	must(guest_memory_open(mem, mib << 20, -1), "guest memory");
	m->bitmap = calloc(bitmap_words(mem->nr_gfns), sizeof(*m->bitmap));
	must(m->bitmap ? 0 : -1, "memory");
	write_code(mem->base);
	if (ring) {
		enable_ring(m);
		start_vcpu(m, kvm);
		map_ring(m);
		add_ring_slot(m, 0, 0, mem->low_bytes);
		add_ring_slot(m, 1, GUEST_HIGH_START, mem->high_bytes);
		return;
	}
	must(dirty_open(&m->vm, m->bitmap, &m->log), "dirty_open");
	start_vcpu(m, kvm);
	must(dirty_enable(m->log), "dirty_enable");
}

static void close_machine(struct machine *m)
{
	dirty_close(m->log);
	if (m->ring)
		munmap(m->ring, RING_ROOM * sizeof(*m->ring));
	munmap(m->run, (size_t)sysconf(_SC_PAGESIZE));
	close(m->vcpu_fd);
	close(m->vm.fd);
	guest_memory_close(&m->vm.memory);
	free(m->bitmap);
}

static void choose_pages(struct machine *m, enum pattern pattern, unsigned int round)
{
	uint32_t *list = (uint32_t *)(void *)(m->vm.memory.base + LIST_AT);
	uint64_t pages = m->vm.memory.low_bytes / GUEST_PAGE_BYTES - FIRST_PAGE;

	if (pattern == SAME && round)
		return;
	for (unsigned int i = 0; i < NR_DIRTY; i++) {
		m->seed = m->seed * 1664525 + 1013904223;
		list[i] = (uint32_t)((FIRST_PAGE + (m->seed * pages >> 32)) * GUEST_PAGE_BYTES);
	}
}

static void run_guest(struct machine *m)
{
	do
		must(ioctl(m->vcpu_fd, KVM_RUN, 0), "KVM_RUN");
	while (m->run->exit_reason == KVM_EXIT_INTR);
	if (m->run->exit_reason != KVM_EXIT_IO) {
		fprintf(stderr, "bench dirty: exit reason %u\n", m->run->exit_reason);
		exit(1);
	}
}

/* Into the bitmap, which is where the engine wants it, as the log's. */
static uint64_t take_ring(struct machine *m)
{
	uint64_t pages = 0;

	memset(m->bitmap, 0, bitmap_words(m->vm.memory.nr_gfns) * sizeof(*m->bitmap));
	for (;;) {
		struct kvm_dirty_gfn *entry = &m->ring[m->ring_at % RING_ROOM];
		uint64_t gfn;

		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		gfn = entry->offset + (entry->slot ? GUEST_HIGH_START / GUEST_PAGE_BYTES : 0);
		pages += !bitmap_test(m->bitmap, gfn);
		bitmap_set(m->bitmap, gfn);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		m->ring_at++;
	}
	must(ioctl(m->vm.fd, KVM_RESET_DIRTY_RINGS, 0), "KVM_RESET_DIRTY_RINGS");
	return pages;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

struct figure {
	double take_us, run_us; /* medians */
	uint64_t pages;		/* of the last set */
};

static struct figure measure(int kvm, uint64_t mib, bool ring, enum pattern pattern)
{
	static uint64_t take[ROUNDS], run[ROUNDS];
	struct machine m;
	uint64_t pages = 0;

	open_machine(&m, kvm, mib, ring);
	for (unsigned int i = 0; i < ROUNDS + 1; i++) {
		uint64_t begin, mid, end;

		choose_pages(&m, pattern, i);
		begin = clock_now_ns();
		run_guest(&m);
		mid = clock_now_ns();
		if (ring)
			pages = take_ring(&m);
		else
			must(dirty_take(m.log, false, &pages), "dirty_take");
		end = clock_now_ns();
		if (i == 0) /* everything is dirty in the log's first set */
			continue;
		run[i - 1] = mid - begin;
		take[i - 1] = end - mid;
	}
	close_machine(&m);
	qsort(take, ROUNDS, sizeof(*take), by_value);
	qsort(run, ROUNDS, sizeof(*run), by_value);
	return (struct figure){ (double)take[ROUNDS / 2] / 1e3, (double)run[ROUNDS / 2] / 1e3,
				pages };
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = { 256, 4096 };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	FILE *f = argc > 1 ? fopen(argv[1], "we") : NULL;
	const char *comma = "[\n";

	if (kvm < 0 || ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING) <= 0) {
		printf("dirty set: skipped: no /dev/kvm, or one without a dirty ring\n");
		return 0;
	}
	printf("taking the dirty set, %u pages written; medians of %u\n", NR_DIRTY, ROUNDS);
	printf("%9s %-6s %-5s %9s %9s %7s\n", "guest MiB", "pages", "by", "take us", "run us",
	       "in set");
	for (unsigned int i = 0; i < 8; i++) {
		bool ring = i & 1;
		enum pattern pattern = i >> 1 & 1 ? OTHER : SAME;
		uint64_t mib = sizes[i >> 2];
		struct figure r = measure(kvm, mib, ring, pattern);

		printf("%9llu %-6s %-5s %9.1f %9.1f %7llu\n", (unsigned long long)mib,
		       pattern_names[pattern], ring ? "ring" : "log", r.take_us, r.run_us,
		       (unsigned long long)r.pages);
		if (f)
			fprintf(f,
				"%s {\"guest_mib\": %llu, \"pages\": \"%s\", \"by\": \"%s\", "
				"\"take_us\": %.1f, \"run_us\": %.1f, \"in_set\": %llu}",
				comma, (unsigned long long)mib, pattern_names[pattern],
				ring ? "ring" : "log", r.take_us, r.run_us,
				(unsigned long long)r.pages);
		comma = ",\n";
	}
	if (f) {
		fprintf(f, "\n]\n");
		must(fclose(f), "dirty.json");
	}
	return 0;
}
