/* SPDX-License-Identifier: Apache-2.0 */
#include "base/blackbox.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/err.h"

#define MAGIC	UINT32_C(0x42584c50) /* "PLXB" */
#define ENTRIES 8192u

struct recorder {
	uint32_t magic, version;
	uint64_t entries;
	uint64_t next; /* atomic */
	uint8_t pad[40];
	struct blackbox_entry entry[ENTRIES];
};

static struct recorder *recorder;

int blackbox_open(const char *path)
{
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct recorder *r;

	if (fd < 0 || ftruncate(fd, sizeof(*r)))
		return -errno;
	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (r == MAP_FAILED)
		return -errno;
	r->magic = MAGIC;
	r->version = 1;
	r->entries = ENTRIES;
	blackbox_close();
	recorder = r;
	return 0;
}

void blackbox_close(void)
{
	struct recorder *r = recorder;

	recorder = NULL;
	if (r)
		munmap(r, sizeof(*r));
}

void blackbox_record(const char *name, uint64_t a, uint64_t b)
{
	struct blackbox_entry *e;
	uint64_t n;

	if (!recorder)
		return;
	n = __atomic_fetch_add(&recorder->next, 1, __ATOMIC_RELAXED);
	e = &recorder->entry[n % ENTRIES];
	e->ns = clock_now_ns();
	for (size_t i = 0; i < sizeof(e->name); i++) {
		e->name[i] = *name;
		name += *name != 0;
	}
	e->a = a;
	e->b = b;
}

size_t blackbox_read(struct blackbox_entry *ret, size_t max)
{
	uint64_t next, count;

	if (!recorder)
		return 0;
	next = __atomic_load_n(&recorder->next, __ATOMIC_RELAXED);
	count = MIN(MIN(next, ENTRIES), max);
	for (uint64_t i = 0; i < count; i++)
		ret[i] = recorder->entry[(next - count + i) % ENTRIES];
	return (size_t)count;
}
